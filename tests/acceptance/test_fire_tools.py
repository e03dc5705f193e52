"""The proof is worth what its tools are: every lie is caught, every line is really cut."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from tests.acceptance.fire.network import HOST, Line, Network
from tests.acceptance.fire.orders import Order
from tests.acceptance.fire.reckoning import (
    VERDICTS,
    Ledger,
    Report,
    Row,
    Rules,
    faults_of_backend,
    faults_of_job,
)

RULES = Rules(max_attempts=5, can_probe=False)
#: Two that are there, one that is not, a double one, and a malformed one.
ORDER = Order("j", "monitor", ("a", "b", "gone", "A", ""), ("a", "b", "gone", "a", None))
LEDGER = Ledger(
    had=frozenset({"a", "b", "stays"}),
    remaining=frozenset({"stays"}),
    deleted={"a": 1, "b": 1},
    asked={"a": 1, "b": 2, "gone": 1},
)
TRUE = (
    Row(0, "a", "deleted", "item", 1),
    Row(1, "b", "absent", "repeat", 2),
    Row(2, "gone", "absent", "item", 1),
    Row(4, "", "rejected", "none", 0),
)


def reported(*rows: Row) -> Report:
    tally = {name: sum(row.verdict == name for row in rows) for name in VERDICTS}
    return Report("completed", len(rows), 1, 0, tally, rows)


def changed(position: int, **changes: Any) -> Report:
    """The true report with one untrue row."""
    rows = [replace(row, **changes) if row.position == position else row for row in TRUE]
    return reported(*rows)


def test_a_true_report_has_no_faults() -> None:
    assert faults_of_job(ORDER, reported(*TRUE), LEDGER, RULES) == []
    assert faults_of_backend([ORDER], LEDGER) == []


@pytest.mark.parametrize(
    ("report", "fault"),
    [
        (reported(*TRUE[1:]), "position 0 has no outcome"),
        (reported(*TRUE, TRUE[0]), "position 0 has 2 outcomes"),
        (reported(*TRUE, Row(3, "A", "absent", "item", 1)), "position 3 is a duplicate"),
        (changed(0, item="b"), "position 0 holds 'b'"),
        (changed(2, verdict="deleted"), "it was never there"),
        (changed(1, evidence="item"), "we deleted it"),
        (changed(2, evidence="repeat"), "it was never there, and sent once"),
        (changed(0, verdict="skipped", attempts=0), "nobody cancelled the job"),
        (changed(0, verdict="failed", attempts=5), "it was carried out"),
        (changed(0, verdict="unknown", attempts=4), "attempts are left of 5"),
        (changed(0, verdict="rejected"), "the backend takes it"),
        (changed(0, verdict="accepted"), "nothing at the backend explains it"),
        (changed(0, verdict=None), "nothing at the backend explains it"),
        (changed(4, attempts=1), "no target takes it"),
        (replace(reported(*TRUE), state="running"), "it is running"),
        (replace(reported(*TRUE), items=5), "it counts 5 items of 4"),
        (replace(reported(*TRUE), duplicates=0), "it counts 0 duplicates beside 4 items"),
        (replace(reported(*TRUE), pending=1), "its tally has 4 of 4 items"),
        (replace(reported(*TRUE), tally={"deleted": 4}), "is not that of its items"),
    ],
)
def test_a_lie_is_caught(report: Report, fault: str) -> None:
    faults = faults_of_job(ORDER, report, LEDGER, RULES)

    assert any(fault in one for one in faults), faults


@pytest.mark.parametrize("verdict", ["deleted", "absent"])
def test_what_is_still_there_is_not_gone(verdict: str) -> None:
    kept = replace(LEDGER, remaining=frozenset({"stays", "a"}), deleted={"b": 1})

    faults = faults_of_job(ORDER, changed(0, verdict=verdict), kept, RULES)

    assert [one for one in faults if "it is still there" in one]


def test_what_a_cancelled_job_sent_is_not_skipped() -> None:
    order = replace(ORDER, is_cancelled=True)
    report = changed(0, verdict="skipped", evidence="none", attempts=0)

    assert [one for one in faults_of_job(order, report, LEDGER, RULES) if "it was sent" in one]


def test_what_nobody_asked_for_is_noticed() -> None:
    more = replace(LEDGER, deleted={**LEDGER.deleted, "stays": 1}, asked={"other": 1})
    less = replace(LEDGER, remaining=frozenset())

    assert faults_of_backend([ORDER], more) == [
        "stays was deleted, and nobody asked for it",
        "other was sent, and nobody asked for it",
    ]
    assert faults_of_backend([ORDER], less) == ["stays is gone, and was not deleted"]


# -- the network ----------------------------------------------------------------


@contextmanager
def echo_server() -> Iterator[int]:
    """Sends back what it gets, in capitals; its port."""

    def serve(peer: socket.socket) -> None:
        with peer, suppress(OSError):
            while piece := peer.recv(1024):
                peer.sendall(piece.upper())

    def accept() -> None:
        with suppress(OSError):
            while True:
                peer, _ = server.accept()
                threads.append(threading.Thread(target=serve, args=(peer,)))
                threads[-1].start()

    with ExitStack() as opened:
        server = opened.enter_context(socket.create_server((HOST, 0)))
        threads = [threading.Thread(target=accept)]
        threads[0].start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(5)


@pytest.fixture
def line() -> Iterator[Line]:
    with echo_server() as port, Network() as network:
        yield network.lay(HOST, port)


def call(line: Line) -> socket.socket:
    return socket.create_connection((HOST, line.port), timeout=5)


def say(sock: socket.socket, text: bytes) -> bytes:
    sock.sendall(text)
    return sock.recv(1024)


def is_silent(sock: socket.socket) -> bool:
    sock.settimeout(0.2)
    try:
        sock.recv(1024)
    except TimeoutError:
        return True
    return False


def test_a_line_carries_both_ways(line: Line) -> None:
    with closing(call(line)) as sock:
        assert say(sock, b"hello") == b"HELLO"


def test_a_refused_line_breaks_connections_off_and_takes_none(line: Line) -> None:
    with closing(call(line)) as sock:
        assert say(sock, b"hello") == b"HELLO"

        line.refuse()

        with pytest.raises(ConnectionResetError):
            sock.recv(1024)
        with pytest.raises(ConnectionRefusedError):
            call(line)
    line.restore()
    with closing(call(line)) as sock:
        assert say(sock, b"again") == b"AGAIN"


def test_a_held_line_delivers_late(line: Line) -> None:
    with closing(call(line)) as sock:
        assert say(sock, b"hello") == b"HELLO"

        line.hold()
        sock.sendall(b"late")

        assert is_silent(sock)
        line.restore()
        sock.settimeout(5)
        assert sock.recv(1024) == b"LATE"


def test_a_stranded_connection_is_silent_and_new_ones_are_not(line: Line) -> None:
    with closing(call(line)) as old:
        assert say(old, b"hello") == b"HELLO"

        line.strand()
        old.sendall(b"lost")

        assert is_silent(old)
        with closing(call(line)) as new:
            assert say(new, b"hello") == b"HELLO"
        line.restore()
        assert is_silent(old)
