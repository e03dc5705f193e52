"""The practice server that ours and all peers delete from: `python -m tests.benchmarks.monitor`.

It speaks the deletion of one vendor, BAS-IP's, and has whatever it is asked
for; `api_adapters.fakes` models the vendor and takes too long for that. What is
cheap here is cheap for everybody alike.

DELETE /api/v1/contacts/link    {"link_ids": [id, ...]}: every id is told "deleted"
GET    /bench/state             how many calls and items there were, and when
POST   /bench/state             {"latency": 0.1}: forget all that, and answer so late
"""

import argparse
import asyncio
import json
import re
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

HOST = "127.0.0.1"
DELETE = b"DELETE /api/v1/contacts/link "
STATE = "/bench/state"

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_HEAD_ENDS = b"\r\n\r\n"
_BETWEEN_ROWS = b'","success":true,"extended_info":"deleted"},{"link_id":"'
_ROWS = b'{"result":[{"link_id":"%b","success":true,"extended_info":"deleted"}]}'


@dataclass(slots=True)
class Ledger:
    """What was asked of the server."""

    #: Seconds until an answer.
    latency: float = 0
    calls: int = 0
    items: int = 0
    #: Seconds since 1970.
    first_call_at: float | None = None

    def as_json(self) -> dict[str, Any]:
        """As it is told."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Connection(asyncio.Protocol):
    """One client's connection, kept open."""

    ledger: Ledger
    unread: bytes = b""
    transport: asyncio.Transport = field(init=False)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.unread = self.unread + data if self.unread else data
        while (end := self.unread.find(_HEAD_ENDS)) >= 0:
            match = _LENGTH.search(self.unread, 0, end + 2)
            whole = end + 4 + (int(match[1]) if match else 0)
            if len(self.unread) < whole:
                return
            request, self.unread = self.unread[:whole], self.unread[whole:]
            self._answer(request, request[end + 4 :])

    def _answer(self, request: bytes, body: bytes) -> None:
        if request.startswith(DELETE):
            answer = _said(b"200 OK", self._delete(body))
            if self.ledger.latency:
                loop = asyncio.get_running_loop()
                loop.call_later(self.ledger.latency, partial(self._write, answer))
            else:
                self.transport.write(answer)
            return
        method, path, _ = request.split(b" ", 2)
        if path != STATE.encode():
            self.transport.write(_said(b"404 Not Found", b"{}"))
            return
        if method == b"POST":
            self.ledger.latency = json.loads(body)["latency"]
            self.ledger.calls, self.ledger.items, self.ledger.first_call_at = 0, 0, None
        self.transport.write(_said(b"200 OK", json.dumps(self.ledger.as_json()).encode()))

    def _delete(self, body: bytes) -> bytes:
        # An id holds no quote, so every second piece between quotes is one, after the name.
        link_ids = body.split(b'"')[3::2]
        ledger = self.ledger
        if not ledger.calls:
            ledger.first_call_at = time.time()
        ledger.calls += 1
        ledger.items += len(link_ids)
        return _ROWS % _BETWEEN_ROWS.join(link_ids) if link_ids else b'{"result":[]}'

    def _write(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)


def _said(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    return head % (status, len(body), body)


async def serve(ledger: Ledger) -> None:
    """Serve until SIGTERM; says where in one JSON line on stdout."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopped.set)
    server = await loop.create_server(partial(Connection, ledger), HOST, 0, backlog=512)
    with suppress(BrokenPipeError):
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)  # noqa: T201
    await stopped.wait()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.monitor", description=__doc__)
    parser.add_argument("--latency", type=float, default=0, help="seconds until an answer")
    asyncio.run(serve(Ledger(latency=parser.parse_args().latency)))


if __name__ == "__main__":
    main()
