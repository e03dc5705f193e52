"""A network that can be cut: TCP connections that lead through us.

with Network() as network:
    line = network.lay("127.0.0.1", 6379)  # clients connect to line.port
    line.refuse()
    line.restore()
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

HOST = "127.0.0.1"
_PIECE = 64 * 2**10
#: Closing with this set sends a reset instead of an orderly end.
_WITH_A_RESET = struct.pack("ii", 1, 0)
_ANSWER_TAKES = 10.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Network:
    """Lines on one thread of their own; use it in a `with` statement."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network")
        self._lines: list[Line] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for line in self._lines:
            line.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def lay(self, host: str, port: int) -> "Line":
        """A line to a TCP server."""
        return self._lay(lambda: asyncio.open_connection(host, port))

    def lay_to_socket(self, path: str) -> "Line":
        """A line to a server on a Unix socket."""
        return self._lay(lambda: asyncio.open_unix_connection(path))

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done on the thread of the network."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_ANSWER_TAKES)

    def _lay(self, call: Callable[[], Coroutine[Any, Any, Streams]]) -> "Line":
        line = Line(self, call)
        self._lines.append(line)
        line.restore()
        return line


class Line:
    """One way to one server, on a port that stays ours while it is cut."""

    def __init__(self, network: Network, call: Callable[[], Coroutine[Any, Any, Streams]]) -> None:
        self._network = network
        self._call = call
        # It never listens: it keeps the port while the listening one is closed,
        # so that whoever connects is refused and nobody else gets the port.
        self._keeper = _bound(0)
        self.port: int = self._keeper.getsockname()[1]
        self._listener: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._wires: set[_Wire] = set()

    def refuse(self) -> None:
        """Break every connection off, and refuse new ones."""
        self._network.run(self._refuse())

    def hold(self) -> None:
        """Take what is sent and deliver none of it before `restore`: late, not lost."""
        self._network.run(self._hold())

    def strand(self) -> None:
        """Leave the present connections half-open: taken are all bytes, delivered none.

        Neither side is ever told, not even when the other has hung up. New
        connections are sound.
        """
        self._network.run(self._strand())

    def restore(self) -> None:
        """Let everything through, what was held first."""
        self._network.run(self._restore())

    def close(self) -> None:
        """End every connection and give back the port."""
        self._network.run(self._close())
        self._keeper.close()

    async def _refuse(self) -> None:
        self._stop_listening()
        await self._end_all()

    async def _hold(self) -> None:
        self._flows.clear()

    async def _strand(self) -> None:
        for wire in self._wires:
            wire.is_stranded = True

    async def _restore(self) -> None:
        self._flows.set()
        if self._listener is None:
            sock = _bound(self.port)
            self._listener = await asyncio.start_server(self._take, sock=sock)

    async def _close(self) -> None:
        await self._refuse()
        await asyncio.sleep(0)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _end_all(self) -> None:
        tasks = [wire.task for wire in self._wires]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to its end."""
        task = asyncio.current_task()
        assert task is not None
        wire = _Wire(task, self._flows)
        self._wires.add(wire)
        try:
            await wire.join((reader, writer), self._call)
        # A cut cancels this task, and nobody waits to hear that it was.
        except asyncio.CancelledError:
            return
        finally:
            self._wires.discard(wire)
            _reset(writer)


class _Wire:
    """Two connections joined to one."""

    def __init__(self, task: "asyncio.Task[Any]", flows: asyncio.Event) -> None:
        self.task = task
        self.is_stranded = False
        self._flows = flows

    async def join(self, near: Streams, call: Callable[[], Coroutine[Any, Any, Streams]]) -> None:
        """Carry bytes both ways until both sides have ended, or one of them broke."""
        try:
            far = await call()
        except OSError:
            return
        try:
            await asyncio.gather(self._carry(near[0], far[1]), self._carry(far[0], near[1]))
        except OSError:
            return
        finally:
            _reset(far[1])

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """One way. What a stranded wire takes is gone, and so is the news of its end."""
        try:
            while piece := await source.read(_PIECE):
                await self._flows.wait()
                if not self.is_stranded:
                    sink.write(piece)
                    await sink.drain()
        except OSError:
            if not self.is_stranded:
                raise
        if not self.is_stranded and sink.can_write_eof():
            sink.write_eof()


def _bound(port: int) -> socket.socket:
    """A socket on a port that several of ours share."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((HOST, port))
    return sock


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection at once; to a side that has not ended yet it is a reset."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0 and sock.family == socket.AF_INET:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _WITH_A_RESET)
    writer.transport.abort()
