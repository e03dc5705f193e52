"""A call ends at its deadline, and it is known whether it may have run."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_adapters.base import Deadline
from api_adapters.contract import FreePace
from api_adapters.deadline import _current, is_calling
from api_adapters.errors import CallFailed, Hopeless, Transient
from api_adapters.fakes.wire import Wire, ok
from api_adapters.http import Http
from api_adapters.request import Content, Request
from api_adapters.settings import HttpSettings

DELETION = Request("DELETE", "/things", "delete things")


def soon(seconds: float = 20) -> Deadline:
    return Deadline(timedelta(seconds=seconds))


class DeadlineAfter(Deadline):
    """Far away until something has happened, and near from then on.

    What has to come first takes as long as the machine needs for it.
    """

    __slots__ = ("_happened", "_is_near")

    def __init__(self, happened: Callable[[], bool]) -> None:
        super().__init__(timedelta(seconds=20))
        self._happened = happened
        self._is_near = False

    @property
    def seconds_left(self) -> float:
        if not self._is_near and self._happened():
            super().__init__(timedelta(seconds=0.3))
            self._is_near = True
        return super().seconds_left


def a_byte_was_sent() -> bool:
    """Whether this thread is inside a call that has begun to send its request."""
    return is_calling() and _current().is_sent


def client(base_url: str, **more: Any) -> Http:
    table = {"adapter": "any", "base_url": base_url, **more}
    return Http(HttpSettings.model_validate(table), pace=FreePace(), max_connections=1)


def failure_of(
    url: str, request: Request = DELETION, *, until: Deadline | None = None, **more: Any
) -> Any:
    http = client(url, **more)
    with pytest.raises(CallFailed) as failure:
        http.send(request, until=until or soon())
    http.close()
    return failure.value


@contextmanager
def peer(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does as told with its one connection."""

    def run(listener: socket.socket) -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                behave(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run, args=[listener])
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def drip(connection: socket.socket, start: bytes, arrived: threading.Event) -> None:
    """Answer a byte at a time, for far longer than the call may take."""
    connection.recv(65_536)
    arrived.set()
    connection.sendall(start)
    for _ in range(100):
        time.sleep(0.02)
        connection.sendall(b"x")


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nX-Long: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_dripping_headers_and_bodies_end_at_the_deadline(start: bytes) -> None:
    arrived = threading.Event()
    with peer(lambda connection: drip(connection, start, arrived)) as url:
        failure = failure_of(url, until=DeadlineAfter(arrived.is_set))

    assert isinstance(failure, Transient)
    # It was not the peer who ended it.
    assert "no whole answer in time" in str(failure)
    assert failure.may_have_run


def test_a_peer_that_reads_nothing_ends_at_the_deadline() -> None:
    large = Request("POST", "/things", "delete things", content=Content("x/y", b"x" * 2**24))
    release = threading.Event()
    with peer(lambda _: bool(release.wait()) or None) as url:
        failure = failure_of(url, large, until=DeadlineAfter(a_byte_was_sent))
        release.set()

    assert "no whole answer in time" in str(failure)
    assert failure.may_have_run


def test_no_time_left_sends_nothing() -> None:
    with Wire(ok(b"{}")) as wire:
        failure = failure_of(wire.url, until=soon(0))

        assert wire.connections == 0
    assert not failure.may_have_run


def test_a_full_pool_ends_at_the_deadline() -> None:
    begun, release = threading.Event(), threading.Event()

    def hold(connection: socket.socket) -> None:
        connection.recv(65_536)
        begun.set()
        release.wait()

    with peer(hold) as url:
        http = client(url)
        first = threading.Thread(target=lambda: suppressed(http))
        first.start()
        begun.wait()

        with pytest.raises(Transient) as failure:
            http.send(DELETION, until=soon(0.1))

        assert not failure.value.may_have_run
        release.set()
        first.join()
        http.close()


def suppressed(http: Http) -> None:
    with suppress(CallFailed):
        http.send(DELETION, until=soon())


def test_a_reset_after_the_request_leaves_doubt() -> None:
    def reset(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with peer(reset) as url:
        failure = failure_of(url)

    assert isinstance(failure, Transient)
    assert failure.may_have_run


def test_the_same_silence_to_a_look_leaves_none() -> None:
    with Wire(b"") as wire:
        http = client(wire.url)

        with pytest.raises(Transient) as failure:
            http.look(DELETION, until=soon())

        assert not failure.value.may_have_run
        http.close()


@pytest.mark.parametrize("host", ["a..example", "x" * 70 + ".example"])
def test_a_name_without_an_address_did_nothing(host: str) -> None:
    failure = failure_of(f"http://{host}")

    assert isinstance(failure, Transient)
    assert not failure.may_have_run


@given(answer=st.binary(max_size=200) | st.binary(max_size=99).map(b"HTTP/1.1 ".__add__))
@settings(max_examples=150, deadline=None)
def test_whatever_bytes_come_it_is_an_answer_or_a_fault_in_doubt(answer: bytes) -> None:
    with Wire(answer) as wire:
        http = client(wire.url)
        try:
            http.send(DELETION, until=soon())
        except Transient as failure:
            assert failure.may_have_run  # noqa: PT017 - either is right here
        http.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path_factory.mktemp("tls") / "own.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=practice"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path, "-out", f"{path}.crt"),
        ],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def secure(certificate: Path) -> Iterator[Wire]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Wire(ok(b"{}"), stays_open=True, tls=context) as wire:
        yield wire


def test_an_unknown_authority_is_hopeless_and_nothing_is_sent(secure: Wire) -> None:
    failure = failure_of(secure.url)

    assert isinstance(failure, Hopeless)
    assert failure.closes_target
    assert not failure.may_have_run
    assert "ca_file" in str(failure)
    assert not secure.requests


def test_a_private_authority_is_trusted_when_it_is_named(secure: Wire, certificate: Path) -> None:
    http = client(secure.url, ca_file=str(certificate))

    for _ in range(2):
        assert http.send(DELETION, until=soon()).status == 200

    assert secure.connections == 1
    http.close()


def test_a_certificate_of_another_host_is_hopeless(secure: Wire, certificate: Path) -> None:
    failure = failure_of(secure.url.replace("127.0.0.1", "localhost"), ca_file=str(certificate))

    assert isinstance(failure, Hopeless)
    assert not secure.requests


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path, content: str | None) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)

    failure = failure_of("https://127.0.0.1:1", ca_file=str(ca_file))

    assert isinstance(failure, Hopeless)
    assert str(ca_file) in str(failure)


def test_a_peer_without_tls_did_nothing() -> None:
    with Wire(ok(b"{}")) as wire:
        failure = failure_of(wire.url.replace("http:", "https:"), until=soon(0.5))

    assert isinstance(failure, Transient)
    assert not failure.may_have_run
