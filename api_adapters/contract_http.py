"""The suite for adapters that speak HTTP: what may go wrong on a wire."""

# ruff: noqa: S101 - asserting is what a suite is for

import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from api_adapters.base import Adapter, Item, Reply
from api_adapters.contract import FreePace, by_key, soon
from api_adapters.contract_practice import SILENCES, PracticeContract, failure_of, outcome_of
from api_adapters.errors import CallFailed, Hopeless, Transient
from api_adapters.fakes.faults import Fault
from api_adapters.fakes.server import HOST, PracticeServer


class HttpAdapterContract(PracticeContract):
    """What holds for every adapter that is reached over HTTP."""

    def test_no_request_is_sent_twice_unasked(
        self, server: PracticeServer, adapter: Adapter, existing: list[Item]
    ) -> None:
        adapter.delete(by_key(adapter, existing[:1]), until=soon())
        self.misbehave(server, Fault.DROPPED)

        outcome_of(adapter, by_key(adapter, existing[1:]))

        assert server.practice.calls == 2

    def test_a_refused_connection_did_nothing(self, existing: list[Item]) -> None:
        with socket.create_server((HOST, 0)) as unused:
            port = unused.getsockname()[1]
        adapter = self.make(f"http://{HOST}:{port}{self.backend_type.base_path}")

        error = failure_of(adapter, existing)

        assert isinstance(error, Transient)
        assert not error.may_have_run

    def test_a_wrong_address_closes_the_target(
        self, server: PracticeServer, existing: list[Item]
    ) -> None:
        adapter = self.make(f"{server.url}/nowhere")

        error = failure_of(adapter, existing)

        assert isinstance(error, Hopeless)
        assert error.closes_target
        assert not error.may_have_run
        adapter.close()

    def test_a_dripping_answer_ends_at_the_deadline(
        self, server: PracticeServer, adapter: Adapter, existing: list[Item]
    ) -> None:
        adapter.check(until=soon())
        self.misbehave(server, "dripping:0.05")
        started = time.monotonic()

        error = failure_of(adapter, existing, seconds=0.5)

        assert time.monotonic() - started < 2
        assert isinstance(error, Transient)
        assert error.may_have_run

    def test_silence_ends_at_the_deadline(self, existing: list[Item]) -> None:
        with socket.create_server((HOST, 0)) as silent:
            address = f"http://{HOST}:{silent.getsockname()[1]}"
            adapter = self.make(address + self.backend_type.base_path)
            started = time.monotonic()

            error = failure_of(adapter, existing, seconds=0.3)

            assert time.monotonic() - started < 2
            assert isinstance(error, Transient)
            adapter.close()

    def test_every_request_passes_the_pace(
        self, server: PracticeServer, adapter: Adapter, pace: FreePace, existing: list[Item]
    ) -> None:
        adapter.check(until=soon())
        adapter.delete(by_key(adapter, existing), until=soon())

        assert pace.entered == server.practice.requests

    def test_building_opens_no_connection_and_reads_no_secret(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in self.environment:
            monkeypatch.delenv(name)
        with socket.create_server((HOST, 0)) as listener:
            listener.settimeout(0.05)

            self.make(f"http://{HOST}:{listener.getsockname()[1]}").close()

            with pytest.raises(TimeoutError):
                listener.accept()

    def test_a_missing_secret_is_hopeless_and_named(
        self, server: PracticeServer, existing: list[Item], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in self.environment:
            monkeypatch.delenv(name)
        adapter = self.make(server.base_url)

        error = failure_of(adapter, existing)

        assert isinstance(error, Hopeless)
        assert not error.may_have_run
        assert any(name in str(error) for name in self.environment)
        assert server.practice.calls == 0
        adapter.close()

    @pytest.mark.parametrize("fault", [*SILENCES, Fault.BUSY, Fault.EXPIRED])
    def test_no_credential_and_no_item_is_told_to_errors_and_logs(
        self,
        server: PracticeServer,
        adapter: Adapter,
        existing: list[Item],
        caplog: pytest.LogCaptureFixture,
        fault: Fault,
    ) -> None:
        self.misbehave(server, fault)
        for name in list(logging.root.manager.loggerDict):
            caplog.set_level(logging.DEBUG, logger=name)

        outcome = outcome_of(adapter, by_key(adapter, existing))

        if isinstance(outcome, CallFailed):
            logging.getLogger("worker").error("a call failed", exc_info=outcome)

        for hidden in (*self.hidden, *self.backend_type.ids(6)):
            assert hidden not in caplog.text

    def test_threads_share_one_adapter(
        self, server: PracticeServer, adapter: Adapter, existing: list[Item]
    ) -> None:
        together = threading.Barrier(3)

        def work(items: list[Item]) -> Reply:
            together.wait()
            return adapter.delete(by_key(adapter, items), until=soon())

        with ThreadPoolExecutor(3) as threads:
            replies = list(threads.map(work, [existing[:2], existing[2:4], existing[4:]]))

        assert not server.practice.remaining
        assert all(len(reply.findings) == 2 for reply in replies)
