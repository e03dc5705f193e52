"""The suite for adapters that have a practice backend: what answers may say.

It runs the adapter against a practice backend of its vendor, on real sockets,
lets the backend misbehave, and holds every answer against the backend's own
ledger.
"""

# ruff: noqa: S101 - asserting is what a suite is for

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

from api_adapters.base import Adapter, Breach, Evidence, Item, Reply, Verdict
from api_adapters.contract import AdapterContract, FreePace, assert_sound, by_key, gone_keys, soon
from api_adapters.errors import CallFailed, Refused, Transient
from api_adapters.fakes.base import Practice
from api_adapters.fakes.faults import Fault, Plan
from api_adapters.fakes.server import PracticeServer

Remaining = Callable[[], set[str]]

#: After these the work may be done, and the answer proves nothing.
SILENCES = (
    Fault.LOST,
    Fault.CUT,
    Fault.TRUNCATED,
    Fault.EMPTY,
    Fault.HTML,
    Fault.HUGE,
    Fault.DROPPED,
    Fault.ERROR,
    Fault.REDIRECTED,
)


class PracticeContract(AdapterContract):
    """What holds for every adapter whose backend can be told to misbehave."""

    #: Hook: the class under test, and its vendor's practice backend.
    adapter_type: ClassVar[type[Adapter]]
    backend_type: ClassVar[type[Practice]]
    #: Hook: the target's table, without `base_url`.
    settings: ClassVar[Mapping[str, Any]]
    #: Hook: the environment its secrets are read from.
    environment: ClassVar[Mapping[str, str]] = {}
    #: Hook: texts that may stand in no error and no log, hashes included.
    hidden: ClassVar[tuple[str, ...]] = ()

    def item(self, ident: str) -> Item:
        """Hook: the item that the ledger knows by this id."""
        return ident

    def make(self, base_url: str, *, pace: FreePace | None = None) -> Adapter:
        """Build the adapter for an address."""
        table = {**self.settings, "base_url": base_url}
        settings = self.adapter_type.Settings.model_validate(table)
        return self.adapter_type(settings, pace=pace or FreePace())

    @pytest.fixture(autouse=True)
    def _secrets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)

    @pytest.fixture
    def server(self) -> Iterator[PracticeServer]:
        backend = self.backend_type(self.backend_type.ids(6))
        with PracticeServer(backend) as server:
            yield server

    @pytest.fixture
    def pace(self) -> FreePace:
        return FreePace()

    @pytest.fixture
    def adapter(self, server: PracticeServer, pace: FreePace) -> Iterator[Adapter]:
        adapter = self.make(server.base_url, pace=pace)
        yield adapter
        adapter.close()

    @pytest.fixture
    def existing(self) -> list[Item]:
        return [self.item(ident) for ident in self.backend_type.ids(6)]

    @pytest.fixture
    def missing(self) -> list[Item]:
        return [self.item(ident) for ident in self.backend_type.ids(8)[6:]]

    @pytest.fixture
    def remaining(self, server: PracticeServer, adapter: Adapter) -> Remaining:
        backend = server.practice
        return lambda: {adapter.key(self.item(ident)) for ident in backend.remaining}

    def misbehave(self, server: PracticeServer, plan: str) -> None:
        """Let the backend misbehave, or skip what its answers cannot show."""
        if Fault(re.split("[:@]", plan)[0]) in self.backend_type.impossible:
            pytest.skip(f"this vendor's answers cannot show {plan}")
        server.practice.plan = Plan(plan)

    @pytest.mark.parametrize("fault", SILENCES)
    def test_an_answer_that_proves_nothing_settles_nothing_and_leaves_doubt(
        self, server: PracticeServer, adapter: Adapter, existing: list[Item], fault: Fault
    ) -> None:
        self.misbehave(server, fault)
        sent = by_key(adapter, existing)

        outcome = outcome_of(adapter, sent)

        assert server.practice.trapped == 0
        if isinstance(outcome, Reply):
            assert open_keys(outcome, sent) == set(sent)
            return
        assert isinstance(outcome, Transient)
        assert outcome.may_have_run

    @pytest.mark.parametrize(
        ("plan", "seconds"), [("busy:7", 7), ("busy_date:50", 50), ("busy:9000", 3600)]
    )
    def test_being_told_to_wait_is_obeyed_up_to_an_hour(
        self,
        server: PracticeServer,
        adapter: Adapter,
        existing: list[Item],
        plan: str,
        seconds: float,
    ) -> None:
        self.misbehave(server, plan)

        error = failure_of(adapter, existing)

        assert isinstance(error, Transient)
        assert not error.may_have_run
        assert error.wait is not None
        assert seconds - 2 <= error.wait.total_seconds() <= seconds

    def test_being_told_to_wait_without_a_time_costs_no_attempt(
        self, server: PracticeServer, adapter: Adapter, existing: list[Item]
    ) -> None:
        self.misbehave(server, Fault.BUSY)

        error = failure_of(adapter, existing)

        assert isinstance(error, Transient)
        assert not error.may_have_run
        assert error.wait

    def test_an_item_left_out_of_the_answer_stays_open(
        self,
        server: PracticeServer,
        adapter: Adapter,
        existing: list[Item],
        remaining: Remaining,
    ) -> None:
        self.misbehave(server, Fault.OMITTED)
        sent = by_key(adapter, existing)

        reply = adapter.delete(sent, until=soon())

        assert_sound(reply, sent)
        assert gone_keys(reply).isdisjoint(remaining())
        assert len(open_keys(reply, sent)) >= 1

    def test_a_stranger_in_the_answer_is_told_and_settles_nobody(
        self,
        server: PracticeServer,
        adapter: Adapter,
        existing: list[Item],
        remaining: Remaining,
    ) -> None:
        self.misbehave(server, Fault.STRANGER)
        sent = by_key(adapter, existing)

        reply = adapter.delete(sent, until=soon())

        assert_sound(reply, sent)
        assert gone_keys(reply).isdisjoint(remaining())
        assert Breach.STRANGER in {warned.breach for warned in reply.warnings}
        assert len(open_keys(reply, sent)) >= 1

    def test_flags_that_exclude_each_other_claim_no_deletion(
        self,
        server: PracticeServer,
        adapter: Adapter,
        existing: list[Item],
        remaining: Remaining,
    ) -> None:
        self.misbehave(server, Fault.CONTRADICTED)
        sent = by_key(adapter, existing)

        reply = adapter.delete(sent, until=soon())

        assert_sound(reply, sent)
        assert gone_keys(reply).isdisjoint(remaining())
        assert reply.warnings
        assert Verdict.DELETED not in {
            finding.verdict for key, finding in reply.findings.items() if key == next(iter(sent))
        }

    def test_items_are_matched_by_key_and_not_by_place(
        self, server: PracticeServer, adapter: Adapter, existing: list[Item], missing: list[Item]
    ) -> None:
        self.misbehave(server, Fault.SHUFFLED)
        sent = by_key(adapter, [*existing, *missing])

        reply = adapter.delete(sent, until=soon())

        deleted = {key for key, f in reply.findings.items() if f.verdict is Verdict.DELETED}
        assert deleted == set(by_key(adapter, existing))

    def test_one_bad_item_refuses_the_call_and_nothing_is_called_gone(
        self, server: PracticeServer, adapter: Adapter, existing: list[Item]
    ) -> None:
        server.practice.poison = {self.backend_type.ids(1)[0]}

        error = failure_of(adapter, existing)

        assert isinstance(error, Refused)

    def test_an_ended_token_costs_one_login_for_all_threads(
        self, server: PracticeServer, adapter: Adapter, existing: list[Item]
    ) -> None:
        adapter.delete(by_key(adapter, existing[:1]), until=soon())
        self.misbehave(server, "expired@1")
        calls = [by_key(adapter, [item]) for item in existing[1:]]

        with ThreadPoolExecutor(len(calls)) as threads:
            list(threads.map(lambda sent: adapter.delete(sent, until=soon()), calls))

        assert not server.practice.remaining
        assert server.practice.logins == 2


def outcome_of(
    adapter: Adapter, sent: Mapping[str, Item], *, seconds: float = 10
) -> Reply | CallFailed:
    """What a call came to; a failure is raised, or told within the reply."""
    try:
        reply = adapter.delete(sent, until=soon(seconds))
    except CallFailed as error:
        return error
    assert_sound(reply, sent)
    return reply.error or reply


def failure_of(adapter: Adapter, items: list[Item], *, seconds: float = 10) -> CallFailed:
    """What made a call fail that cannot succeed."""
    outcome = outcome_of(adapter, by_key(adapter, items), seconds=seconds)
    assert isinstance(outcome, CallFailed)
    return outcome


def open_keys(reply: Reply, sent: Mapping[str, Item]) -> set[str]:
    """The keys an answer left open: silent, unknown, taken without a name, or looked at."""
    unsettled = {Verdict.UNKNOWN, Verdict.ACCEPTED}
    looked = {Evidence.PROBE, Evidence.REPEAT}
    return {
        key
        for key in sent
        if (found := reply.findings.get(key)) is None
        or found.verdict in unsettled
        or found.evidence in looked
    }
