"""Serves a practice backend on 127.0.0.1, on a thread or as a whole process.

GET  /_practice/state           counts; with ?ids=1 every id as well
POST /_practice/state           {"add": [id], "poison": [id],
                                 "misbehave": "lost/7", "latency": 0.01,
                                 "expire": true}, each if wanted
"""

import asyncio
import json
import os
import signal
import sys
import threading
from datetime import timedelta
from functools import partial
from http.client import responses
from importlib import import_module
from pkgutil import iter_modules
from types import TracebackType
from typing import Self

from tornado.http1connection import HTTP1Connection
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine
from tornado.iostream import IOStream, StreamClosedError
from tornado.netutil import bind_sockets

import api_adapters.fakes
from api_adapters.fakes.base import Asked, Manner, Practice, Said

HOST = "127.0.0.1"
STATE = "/_practice/state"
_NO_VENDORS = {"base", "faults", "server", "wire"}


class PracticeServer:
    """A practice backend behind a port; use it in a `with` statement.

    It runs on a thread of its own. The backend may be looked at from outside
    while no call is under way.
    """

    def __init__(self, practice: Practice, *, port: int = 0) -> None:
        self.practice = practice
        self._sockets = bind_sockets(port, HOST)
        self.port: int = self._sockets[0].getsockname()[1]
        self.url = f"http://{HOST}:{self.port}"
        self.base_url = self.url + practice.base_path
        self._thread = threading.Thread(target=self._run, name=f"practice {self.port}")
        self._is_up = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._is_up.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._loop is not None and self._stopped is not None:
            self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    async def run(self, stopped: asyncio.Event) -> None:
        """Serve on the running loop until told to stop."""
        server = HTTPServer(self._take)
        server.add_sockets(self._sockets)
        self._is_up.set()
        await stopped.wait()
        server.stop()
        await server.close_all_connections()

    def _run(self) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._stopped = asyncio.Event()
            await self.run(self._stopped)

        asyncio.run(main())

    def _take(self, request: HTTPServerRequest) -> None:
        asked = Asked(
            method=request.method or "",
            path=request.path,
            query={name: values[-1].decode() for name, values in request.arguments.items()},
            headers=dict(request.headers.items()),
            body=request.body,
        )
        said = self._control(asked) if asked.path == STATE else self.practice.answer(asked)
        connection = request.connection
        if not isinstance(connection, HTTP1Connection):  # tornado knows no other
            raise TypeError("expected an HTTP/1.1 connection")
        if said.delay and said.manner is not Manner.DRIPPING:
            delay = said.delay.total_seconds()
            asyncio.get_running_loop().call_later(delay, _write, connection, said)
            return
        _write(connection, said)

    def _control(self, asked: Asked) -> Said:
        if asked.method == "POST":
            try:
                self.practice.told(json.loads(asked.body))
            except (ValueError, TypeError) as error:
                return Said(400, json.dumps({"error": str(error)}).encode())
        state = self.practice.state(with_ids="ids" in asked.query)
        return Said(200, json.dumps(state).encode())


def vendors() -> list[str]:
    """The vendors that have a practice backend."""
    found = {module.name for module in iter_modules(api_adapters.fakes.__path__)}
    return sorted(name for name in found - _NO_VENDORS if not name.startswith("_"))


def open_practice(
    vendor: str, *, items: int = 0, seed: int = 0, misbehave: str = "", latency: float = 0
) -> Practice:
    """Build a vendor's backend with `items` things to delete.

    Raises:
        ValueError: no such vendor, or a plan that cannot be read.
    """
    kind = practice_type(vendor)
    practice = kind(kind.ids(items, seed=seed), seed=seed, misbehave=misbehave)
    practice.latency = timedelta(seconds=latency)
    return practice


def practice_type(vendor: str) -> type[Practice]:
    """A vendor's practice backend. Raises ValueError."""
    if vendor not in vendors():
        raise ValueError(f"no practice backend {vendor!r}; there are: {', '.join(vendors())}")
    kind: type[Practice] = import_module(f"api_adapters.fakes.{vendor}").Backend
    return kind


def serve(practice: Practice, *, port: int = 0, ends_with_parent: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; says where in one JSON line on stdout."""
    server = PracticeServer(practice, port=port)
    where = {
        "url": server.url,
        "port": server.port,
        "base_url": server.base_url,
        "settings": dict(practice.settings),
        "items": len(practice.remaining),
    }
    asyncio.run(_serve(server, json.dumps(where), ends_with_parent=ends_with_parent))


async def _serve(server: PracticeServer, where: str, *, ends_with_parent: bool) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopped.set)
    if ends_with_parent:
        parent = os.getppid()
        watching = loop.create_task(_outlive(parent, stopped))
    # The sockets listen already, so whoever reads this line can connect.
    sys.stdout.write(where + "\n")
    sys.stdout.flush()
    await server.run(stopped)
    if ends_with_parent:
        watching.cancel()


async def _outlive(parent: int, stopped: asyncio.Event) -> None:
    while os.getppid() == parent:
        await asyncio.sleep(0.5)
    stopped.set()


def _write(connection: HTTP1Connection, said: Said) -> None:
    stream = connection.stream
    match said.manner:
        case Manner.LOST:
            stream.close()
        case Manner.CUT if not stream.closed():
            cut = _raw(said)[: -(len(said.body) // 2 or 1)]
            stream.write(cut).add_done_callback(lambda _: stream.close())
        case Manner.DRIPPING:
            task = asyncio.ensure_future(_drip(stream, _raw(said), said.delay))
            # The loop keeps no hold of a task; the connection lives as long as it.
            stream.set_close_callback(partial(_end, task))
        case Manner.WHOLE if not stream.closed():
            connection.write_headers(_start(said), _headers(said), chunk=said.body)
            connection.finish()


def _end(task: asyncio.Future[None]) -> None:
    task.cancel()


async def _drip(stream: IOStream, raw: bytes, pause: timedelta) -> None:
    try:
        for place in range(len(raw)):
            await stream.write(raw[place : place + 1])
            await asyncio.sleep(pause.total_seconds())
    except StreamClosedError:
        return
    stream.close()


def _start(said: Said) -> ResponseStartLine:
    return ResponseStartLine("HTTP/1.1", said.status, responses.get(said.status, "Unknown"))


def _headers(said: Said) -> HTTPHeaders:
    headers = HTTPHeaders({"Content-Type": "application/json", **said.headers})
    headers["Content-Length"] = str(len(said.body))
    return headers


def _raw(said: Said) -> bytes:
    lines = [f"HTTP/1.1 {said.status} {_start(said).reason}"]
    lines += [f"{name}: {value}" for name, value in _headers(said).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + said.body
