"""Connections are used again while they are good, and none is left open."""

import socket
import time
from collections.abc import Iterator
from datetime import timedelta

import httpcore2
import pytest

from api_adapters.base import Deadline
from api_adapters.connections import Connections
from api_adapters.deadline import DeadlineBackend, calling
from api_adapters.fakes.wire import Wire, ok


def soon(seconds: float = 20) -> Deadline:
    return Deadline(timedelta(seconds=seconds))


def connections_to(wire: Wire, *, limit: int = 2, idle_seconds: float = 20) -> Connections:
    pool = httpcore2.ConnectionPool(
        keepalive_expiry=idle_seconds, network_backend=DeadlineBackend()
    )
    return Connections(pool, httpcore2.URL(wire.url).origin, limit)


def ask(connection: httpcore2.ConnectionInterface, wire: Wire) -> int:
    with calling(soon()):
        request = httpcore2.Request("GET", wire.url, headers=[("host", "here")])
        response = connection.handle_request(request)
        response.read()
        response.close()
        return response.status


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire(ok(b"{}"), stays_open=True) as wire:
        yield wire


def test_the_one_used_last_is_lent_again(wire: Wire) -> None:
    connections = connections_to(wire)
    with connections.one(soon()) as first, connections.one(soon()) as second:
        assert first is not second
        ask(first, wire)
        ask(second, wire)

    with connections.one(soon()) as again:
        assert again is first
    connections.close()


def test_one_that_was_idle_for_too_long_is_closed(wire: Wire) -> None:
    connections = connections_to(wire, idle_seconds=0.01)
    with connections.one(soon()) as first:
        ask(first, wire)
    time.sleep(0.05)

    with connections.one(soon()) as second:
        assert second is not first
        assert ask(second, wire) == 200
    assert first.is_closed()
    connections.close()


def test_one_that_the_peer_closed_meanwhile_sends_nothing() -> None:
    with Wire(ok(b"{}")) as wire:
        connections = connections_to(wire)
        with connections.one(soon()) as first:
            ask(first, wire)
        # The end of the connection has come once it can be read.
        while not first.has_expired():
            time.sleep(0.001)

        with connections.one(soon()) as second:
            assert ask(second, wire) == 200
        assert (wire.connections, len(wire.requests)) == (2, 2)
        connections.close()


def test_one_whose_request_failed_is_closed() -> None:
    with Wire(b"no http at all\r\n\r\n", stays_open=True) as wire:
        connections = connections_to(wire)
        with pytest.raises(httpcore2.ProtocolError), connections.one(soon()) as first:
            ask(first, wire)

        assert first.is_closed()
        connections.close()


def test_no_more_than_the_limit_are_lent(wire: Wire) -> None:
    connections = connections_to(wire, limit=1)
    with (
        connections.one(soon()),
        pytest.raises(httpcore2.PoolTimeout),
        connections.one(soon(0.01)),
    ):
        pass

    with connections.one(soon()) as free:
        assert ask(free, wire) == 200
    connections.close()


def test_a_place_is_free_again_after_a_connection_that_could_not_be_opened() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    nobody = httpcore2.Origin(b"http", b"127.0.0.1", port)
    pool = httpcore2.ConnectionPool(network_backend=DeadlineBackend())
    connections = Connections(pool, nobody, 1)

    for _ in range(3):
        with (
            pytest.raises(httpcore2.ConnectError),
            calling(soon()),
            connections.one(soon()) as connection,
        ):
            connection.handle_request(
                httpcore2.Request("GET", f"http://127.0.0.1:{port}/", headers=[("host", "h")])
            )


def test_closing_leaves_nothing_open(wire: Wire) -> None:
    connections = connections_to(wire)
    with connections.one(soon()) as busy:
        ask(busy, wire)
        with connections.one(soon()) as idle:
            ask(idle, wire)
        connections.close()
        assert idle.is_closed()
        assert not busy.is_closed()

    assert busy.is_closed()
