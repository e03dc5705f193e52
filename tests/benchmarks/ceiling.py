"""How much the practice server itself can take: the cheapest client that there is."""

import asyncio
import json
from typing import Any

from tests.benchmarks.link_ids import link_ids
from tests.benchmarks.monitor import HOST

CONNECTIONS = 16


def items_per_second(port: int, *, size: int, calls: int) -> float:
    """Items that the server answers in a second, `size` a call."""
    return asyncio.run(_measure(port, size, calls))


class _Asking(asyncio.Protocol):
    """Sends the same request again whenever it is answered."""

    def __init__(self, request: bytes, calls: list[None], ended: asyncio.Future[None]) -> None:
        self._request = request
        self._calls = calls
        self._ended = ended
        self._missing = 0
        self._length = 0
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._length:
            # All answers are alike: the first one's length is that of all.
            head, _, _ = data.partition(b"\r\n\r\n")
            self._length = len(head) + 4 + int(head.rpartition(b" ")[2])
            self._missing = self._length
        self._missing -= len(data)
        if self._missing:
            return
        self._missing = self._length
        if self._calls:
            self._calls.pop()
            self._transport.write(self._request)
        elif not self._ended.done():
            self._ended.set_result(None)


async def _measure(port: int, size: int, calls: int) -> float:
    loop = asyncio.get_running_loop()
    body = json.dumps({"link_ids": list(link_ids(size))}).encode()
    head = b"DELETE /api/v1/contacts/link HTTP/1.1\r\nhost: %b\r\ncontent-length: %d\r\n\r\n"
    request = head % (HOST.encode(), len(body)) + body
    left, ended = [None] * calls, loop.create_future()
    began = loop.time()
    transports = [
        (await loop.create_connection(lambda: _Asking(request, left, ended), HOST, port))[0]
        for _ in range(CONNECTIONS)
    ]
    await ended
    seconds = loop.time() - began
    for transport in transports:
        transport.close()
    return size * (calls + 1) / seconds
