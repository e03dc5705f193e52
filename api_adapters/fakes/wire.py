"""A peer that answers every request with the same bytes, sensible or not."""

import re
import socket
import ssl
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)


class Wire:
    """Listens on 127.0.0.1; use it in a `with` statement.

    `answer` may be changed between requests. A connection is kept while
    `stays_open` is true.
    """

    def __init__(
        self,
        answer: bytes = b"",
        *,
        stays_open: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.connections = 0
        self._stays_open = stays_open
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, name="wire")]
        self._open: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Closing a listener does not wake who accepts on it; this does.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._attend, args=[connection], name="wire")
            self._threads.append(thread)
            thread.start()

    def _attend(self, raw: socket.socket) -> None:
        self._open.append(raw)
        with suppress(OSError), raw:
            connection = self._tls.wrap_socket(raw, server_side=True) if self._tls else raw
            # Wrapping takes the descriptor over, so this is what can be shut.
            self._open.append(connection)
            with connection:
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        while request := _read(connection):
            self.requests.append(request)
            connection.sendall(self.answer)
            if not self._stays_open:
                return


def ok(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    """A well-formed answer with that body; `headers` end in CR LF each."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode("latin-1") + body


def _read(connection: socket.socket) -> bytes:
    """One request with its body; nothing when the peer has gone."""
    request = b""
    while b"\r\n\r\n" not in request:
        part = connection.recv(65_536)
        if not part:
            return b""
        request += part
    head, _, body = request.partition(b"\r\n\r\n")
    match = _LENGTH.search(head)
    while match and len(body) < int(match[1]):
        part = connection.recv(65_536)
        if not part:
            return b""
        body += part
    return head + b"\r\n\r\n" + body
