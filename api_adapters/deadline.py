"""Sockets that obey one deadline for a whole call, however slowly the peer drips.

A timeout per read starts anew with every byte that comes, so a peer that sends
one byte a second holds a worker for ever. Here every wait (name, connection,
handshake, each read and write) is cut to what is left of the call.
"""

import queue
import select
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from httpcore2 import (
    SOCKET_OPTION,
    ConnectError,
    ConnectTimeout,
    NetworkBackend,
    NetworkStream,
    ReadError,
    ReadTimeout,
    WriteError,
    WriteTimeout,
)

from api_adapters.base import Deadline

#: A peer that has not taken the connection by then is not there.
CONNECT_SECONDS = 10.0
LARGEST_UNSENT = 64 * 2**10

_Address = tuple[socket.AddressFamily, tuple[Any, ...]]


class Call:
    """One request on its way: its deadline, and how far it got."""

    __slots__ = ("is_sent", "reads", "until")

    def __init__(self, until: Deadline) -> None:
        self.until = until
        #: Whether a byte of the request itself was handed to the network.
        self.is_sent = False
        self.reads = 0


#: httpcore2's synchronous pool does all I/O of a request on the thread that
#: asked for it, while connections pass from call to call: so a call is known
#: by its thread.
_here = threading.local()


@contextmanager
def calling(until: Deadline) -> Iterator[Call]:
    """Everything this thread sends and reads meanwhile ends at `until`."""
    call = Call(until)
    _here.call = call
    try:
        yield call
    finally:
        _here.call = None


def is_calling() -> bool:
    """Whether this thread is inside a call."""
    return getattr(_here, "call", None) is not None


def _current() -> Call:
    call: Call = _here.call
    return call


class DeadlineBackend(NetworkBackend):
    """Opens the connections of httpcore2."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> NetworkStream:
        until = _current().until
        try:
            addresses = _resolve(host, port, until)
            return DeadlineStream(_connect(addresses, until))
        except TimeoutError as error:
            raise ConnectTimeout(error) from error
        except (OSError, ValueError) as error:
            raise ConnectError(error) from error


class DeadlineStream(NetworkStream):
    """One connection; it outlives the call that opened it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._unsent = bytearray()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        call = _current()
        call.reads += 1
        # A peer may refuse a request before it has read it, and say why.
        with suppress(WriteError):
            self._flush(call)
        try:
            self._sock.settimeout(_seconds_left(call.until))
            return self._sock.recv(max_bytes)
        except TimeoutError as error:
            raise ReadTimeout(error) from error
        except OSError as error:
            raise ReadError(error) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # The head and the body of a request come apart; they go out together.
        self._unsent += buffer
        if len(self._unsent) > LARGEST_UNSENT:
            self._flush(_current())

    def _flush(self, call: Call) -> None:
        # What goes to a proxy to open its tunnel is not yet the request.
        is_request = not self._unsent.startswith(b"CONNECT ")
        rest = memoryview(bytes(self._unsent))
        self._unsent.clear()
        try:
            while rest:
                self._sock.settimeout(_seconds_left(call.until))
                taken = self._sock.send(rest)
                call.is_sent = call.is_sent or is_request
                rest = rest[taken:]
        except TimeoutError as error:
            raise WriteTimeout(error) from error
        except OSError as error:
            raise WriteError(error) from error

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> NetworkStream:
        until = _current().until
        try:
            self._sock.settimeout(min(CONNECT_SECONDS, _seconds_left(until)))
            sock = ssl_context.wrap_socket(self._sock, server_hostname=server_hostname)
        except TimeoutError as error:
            self.close()
            raise ConnectTimeout(error) from error
        except (OSError, ValueError) as error:
            self.close()
            raise ConnectError(error) from error
        return DeadlineStream(sock)

    def close(self) -> None:
        self._sock.close()

    def get_extra_info(self, info: str) -> Any:
        match info:
            case "is_readable":
                return _is_readable(self._sock)
            case "ssl_object":
                return self._sock if isinstance(self._sock, ssl.SSLSocket) else None
            case "socket":
                return self._sock
        return None


def _seconds_left(until: Deadline) -> float:
    left = until.seconds_left
    if left <= 0:
        raise TimeoutError("the time of the call is used up")
    return left


def _connect(addresses: list[_Address], until: Deadline) -> socket.socket:
    """Try each address in turn; a dead one gets only its share of the time."""
    failure: OSError = OSError("the name has no address")
    for done, (family, address) in enumerate(addresses):
        share = _seconds_left(until) / (len(addresses) - done)
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(min(CONNECT_SECONDS, share))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def _resolve(host: str, port: int, until: Deadline) -> list[_Address]:
    with suppress(socket.gaierror):
        return _look_up(host, port, socket.AI_NUMERICHOST)
    return _look_up_in_time(host, port, min(CONNECT_SECONDS, _seconds_left(until)))


def _look_up(host: str, port: int, flags: int = 0) -> list[_Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in found]


def _look_up_in_time(host: str, port: int, seconds: float) -> list[_Address]:
    """Ask the resolver on a thread of its own: it takes no timeout."""
    answers: queue.Queue[list[_Address] | OSError | UnicodeError] = queue.Queue()

    def ask() -> None:
        try:
            answers.put(_look_up(host, port))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, name="look up a host", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError("the name was not resolved in time") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _is_readable(sock: socket.socket) -> bool:
    """Whether an idle connection has ended, or holds what nobody asked for."""
    if sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))
