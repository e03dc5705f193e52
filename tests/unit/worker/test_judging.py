"""What one adapter call means for the batches it carried."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_adapters.base import Evidence, Finding, Reply, Verdict
from api_adapters.errors import CallFailed, Hopeless, Refused, Transient
from tests.factories import MINUTE, make_claimed
from worker.batch import BatchState, Claimed, Returned
from worker.item import Mark
from worker.judging import Circumstances, end_mark, judge, judge_end, judge_loss
from worker.retrying import LONGEST_PATIENCE, RetryRules

RETRY = RetryRules(max_attempts=3)
GIVEN = Circumstances(RETRY, chance=1.0)
DOUBT = Mark(doubt=True, calls=1)
LOST = Transient("no answer in time", code="timeout")
NOT_RUN = Transient("connection refused", may_have_run=False)


def in_doubt(claimed: Claimed) -> Claimed:
    """The same, every item of it in doubt."""
    return replace(claimed, batch=replace(claimed.batch, mark=DOUBT), marks={})


def judged(claimed: Claimed, reply: Reply, *, given: Circumstances = GIVEN) -> Returned:
    """Judge with the keys k0, k1, ..."""
    keys = {item.position: f"k{item.position}" for item in claimed.items}
    return judge(claimed, keys, reply, given=given)


def marks_after(claimed: Claimed, returned: Returned) -> dict[int, Mark]:
    """What is known of each item then."""
    return {
        item.position: returned.strays.get(item.position, returned.batch.mark)
        for item in claimed.items
    }


def found(verdict: Verdict, count: int = 4, **named: object) -> Reply:
    """An answer with one verdict for all."""
    finding = Finding(verdict, **named)  # type: ignore[arg-type]
    return Reply({f"k{n}": finding for n in range(count)})


FINAL_VERDICTS = sorted(set(Verdict) - {Verdict.UNKNOWN, Verdict.SKIPPED})


@pytest.mark.parametrize("verdict", FINAL_VERDICTS)
def test_what_the_answer_names_is_final(verdict: Verdict) -> None:
    returned = judged(make_claimed(), found(verdict, code="E1", message="so"))

    assert returned.state is BatchState.DONE
    assert returned.batch.mark == Mark(verdict, Evidence.ITEM, "E1", "so", calls=1)


@pytest.mark.parametrize(
    ("is_doubted", "evidence"), [(False, Evidence.ITEM), (True, Evidence.REPEAT)]
)
def test_absence_in_doubt_is_not_claimed(is_doubted: bool, evidence: Evidence) -> None:  # noqa: FBT001
    claimed = in_doubt(make_claimed()) if is_doubted else make_claimed()

    mark = judged(claimed, found(Verdict.ABSENT)).batch.mark

    assert (mark.verdict, mark.evidence) == (Verdict.ABSENT, evidence)


def test_what_a_probe_saw_gone_is_no_proof_in_doubt() -> None:
    reply = found(Verdict.ABSENT, evidence=Evidence.PROBE)

    assert judged(make_claimed(), reply).batch.mark.evidence is Evidence.PROBE
    assert judged(in_doubt(make_claimed()), reply).batch.mark.evidence is Evidence.REPEAT


def test_a_deletion_that_was_named_is_claimed_in_doubt_too() -> None:
    mark = judged(in_doubt(make_claimed()), found(Verdict.DELETED)).batch.mark

    assert (mark.verdict, mark.evidence, mark.calls) == (Verdict.DELETED, Evidence.ITEM, 2)


def test_silence_leaves_an_item_open_and_in_doubt() -> None:
    claimed = make_claimed()
    reply = Reply({"k0": Finding(Verdict.DELETED), "k2": Finding(Verdict.DELETED)})

    returned = judged(claimed, reply)

    marks = marks_after(claimed, returned)
    assert [marks[p].is_final for p in range(4)] == [True, False, True, False]
    assert marks[1] == Mark(doubt=True, calls=1, code="left_out", message=marks[1].message)
    assert (returned.batch.failures, returned.rest) == (1, timedelta(seconds=1))


def test_what_is_left_open_may_be_sent_again() -> None:
    mark = judged(make_claimed(), found(Verdict.UNKNOWN, code="?")).batch.mark

    assert (mark.verdict, mark.doubt, mark.calls, mark.code) == (None, True, 1, "?")


def test_what_must_not_be_repeated_stays_unknown() -> None:
    returned = judged(make_claimed(), found(Verdict.UNKNOWN, may_repeat=False))

    assert (returned.batch.mark.verdict, returned.state) == (Verdict.UNKNOWN, BatchState.DONE)


def test_an_adapter_cannot_skip() -> None:
    assert judged(make_claimed(), found(Verdict.SKIPPED)).batch.mark.verdict is None


def test_what_was_not_sent_is_as_it_was() -> None:
    claimed = make_claimed()
    unsent = frozenset({"k0", "k1", "k2", "k3"})

    for error in (None, LOST, Refused("no"), Hopeless("no")):
        assert judged(claimed, Reply(unsent=unsent, error=error)) == Returned(claimed.batch)


def test_a_passing_fault_costs_an_attempt() -> None:
    returned = judged(make_claimed(failures=1), Reply(error=LOST))

    assert (returned.batch.failures, returned.rest) == (2, timedelta(seconds=2))
    assert (returned.state, returned.split_at) == (BatchState.READY, None)
    assert returned.batch.mark == Mark(
        doubt=True, calls=1, code="timeout", message="no answer in time"
    )


def test_a_fault_that_cannot_have_run_leaves_no_doubt() -> None:
    assert not judged(make_claimed(), Reply(error=NOT_RUN)).batch.mark.doubt


@pytest.mark.parametrize("error", [NOT_RUN, Refused("x", may_have_run=False)])
def test_doubt_stays(error: CallFailed) -> None:
    assert judged(in_doubt(make_claimed()), Reply(error=error)).batch.mark.doubt


@pytest.mark.parametrize(
    ("claimed", "error", "verdict"),
    [
        (make_claimed(failures=2), NOT_RUN, Verdict.FAILED),
        (make_claimed(failures=2), LOST, Verdict.UNKNOWN),
        (in_doubt(make_claimed(failures=2)), NOT_RUN, Verdict.UNKNOWN),
        (make_claimed(failures=2), None, Verdict.UNKNOWN),
    ],
)
def test_attempts_that_are_used_up(
    claimed: Claimed, error: CallFailed | None, verdict: Verdict
) -> None:
    returned = judged(claimed, Reply(error=error))

    assert (returned.batch.mark.verdict, returned.state) == (verdict, BatchState.DONE)
    assert returned.batch.mark.evidence is Evidence.NONE


def test_one_item_that_makes_the_vendor_fail_does_not_take_the_others_along() -> None:
    given_answers = replace(GIVEN, target_answers=True)

    returned = judged(make_claimed(failures=2), Reply(error=LOST), given=given_answers)

    assert (returned.split_at, returned.batch.failures) == (2, 2)
    assert returned.batch.mark.verdict is None


def test_one_item_alone_is_given_up_though_the_target_answers() -> None:
    given_answers = replace(GIVEN, target_answers=True)

    returned = judged(make_claimed(1, failures=2), Reply(error=NOT_RUN), given=given_answers)

    assert returned.batch.mark.verdict is Verdict.FAILED


def test_being_told_to_wait_costs_no_attempt() -> None:
    error = Transient("429", wait=MINUTE, may_have_run=False)

    returned = judged(make_claimed(failures=2), Reply(error=error))

    assert (returned.batch.failures, returned.batch.told_to_wait) == (2, MINUTE)
    assert returned.rest == MINUTE


@pytest.mark.parametrize("wait", [timedelta(), -MINUTE, MINUTE, timedelta(days=99)])
def test_being_told_to_wait_for_ever_ends(wait: timedelta) -> None:
    claimed, waited = make_claimed(told_to_wait=LONGEST_PATIENCE - MINUTE), 0
    while True:
        returned = judged(claimed, Reply(error=Transient("429", wait=wait, may_have_run=False)))
        if returned.state is BatchState.DONE:
            break
        claimed, waited = replace(claimed, batch=returned.batch), waited + 1
        assert waited < 100

    assert returned.batch.mark.verdict is Verdict.FAILED


def test_a_refused_call_that_was_shared_is_parted_by_batches() -> None:
    returned = judged(make_claimed(), Reply(error=Refused("no")), given=replace(GIVEN, company=5))

    assert (returned.batch.company, returned.split_at, returned.batch.failures) == (3, None, 0)


def test_a_refused_batch_is_split_in_two() -> None:
    returned = judged(make_claimed(), Reply(error=Refused("no")))

    assert (returned.split_at, returned.batch.company, returned.batch.failures) == (2, 1, 0)


def test_an_item_that_is_refused_alone_is_rejected() -> None:
    error = Refused("bad id", may_have_run=False, code="400")

    mark = judged(make_claimed(1), Reply(error=error)).batch.mark

    assert mark == Mark(Verdict.REJECTED, Evidence.ITEM, "400", "bad id", calls=1)


def test_a_batch_whose_last_open_item_is_refused_keeps_the_others() -> None:
    claimed = make_claimed()
    reply = Reply({f"k{n}": Finding(Verdict.DELETED) for n in range(3)}, error=Refused("no"))

    marks = marks_after(claimed, judged(claimed, reply))

    assert [marks[n].verdict for n in range(4)] == [Verdict.DELETED] * 3 + [Verdict.REJECTED]


@pytest.mark.parametrize("may_have_run", [True, False])
def test_a_hopeless_call_lets_the_batch_wait(may_have_run: bool) -> None:  # noqa: FBT001
    returned = judged(make_claimed(), Reply(error=Hopeless("no", may_have_run=may_have_run)))

    assert (returned.state, returned.batch.failures) == (BatchState.READY, 0)
    assert returned.batch.mark.doubt is may_have_run


def test_a_hopeless_call_that_was_shared_is_parted_by_batches() -> None:
    shared = replace(GIVEN, company=4)

    parted = judged(make_claimed(), Reply(error=Hopeless("quota")), given=shared)
    closed = judged(
        make_claimed(), Reply(error=Hopeless("login", closes_target=True)), given=shared
    )

    assert (parted.batch.company, closed.batch.company) == (2, None)


def test_an_item_that_cannot_be_sent_any_more_is_rejected() -> None:
    claimed = make_claimed()
    keys = {0: "k0", 1: "k1", 2: "k2"}

    marks = marks_after(claimed, judge(claimed, keys, found(Verdict.DELETED, 3), given=GIVEN))
    doubted = in_doubt(claimed)
    unknown = marks_after(doubted, judge(doubted, keys, found(Verdict.DELETED, 3), given=GIVEN))

    assert (marks[3].verdict, marks[3].calls) == (Verdict.REJECTED, 0)
    assert unknown[3].verdict is Verdict.UNKNOWN


def test_what_a_lost_worker_had_counts_as_sent() -> None:
    returned = judge_loss(make_claimed(), given=GIVEN)

    assert (returned.batch.failures, returned.batch.mark.doubt) == (1, True)
    assert returned.batch.mark.code == "worker_lost"


def test_what_workers_are_lost_on_again_and_again_is_unknown() -> None:
    returned = judge_loss(make_claimed(failures=2), given=GIVEN)

    assert returned.batch.mark.verdict is Verdict.UNKNOWN


def test_what_a_job_that_ends_leaves_undone_is_skipped_or_unknown() -> None:
    claimed = make_claimed(marks={1: DOUBT})

    marks = marks_after(claimed, judge_end(claimed, code="cancelled", message="by Ada"))

    assert [marks[n].verdict for n in range(4)] == [
        Verdict.SKIPPED,
        Verdict.UNKNOWN,
        Verdict.SKIPPED,
        Verdict.SKIPPED,
    ]
    assert {mark.code for mark in marks.values()} == {"cancelled"}


def test_texts_of_a_backend_are_cut() -> None:
    mark = judged(
        make_claimed(), found(Verdict.DENIED, code="c" * 99, message="m" * 999)
    ).batch.mark

    assert (len(mark.code or ""), len(mark.message or "")) == (64, 300)
    assert len(end_mark(Mark(), "stopped", "m" * 999).message or "") == 300


FINDINGS = st.dictionaries(
    st.sampled_from([f"k{n}" for n in range(6)]),
    st.builds(Finding, st.sampled_from(Verdict), may_repeat=st.booleans()),
)
ERRORS = st.sampled_from(
    [None, LOST, NOT_RUN, Transient("429", wait=MINUTE), Refused("no"), Hopeless("no")]
)


REPLIES = st.builds(
    lambda findings, error, unsent: Reply(findings, frozenset(unsent) - findings.keys(), error),
    FINDINGS,
    ERRORS,
    st.sets(st.sampled_from([f"k{n}" for n in range(6)])),
)
CIRCUMSTANCES = st.builds(
    Circumstances,
    st.just(RETRY),
    st.floats(0, 1),
    company=st.integers(1, 3),
    target_answers=st.booleans(),
)


@given(REPLIES, CIRCUMSTANCES, st.integers(0, 4), st.booleans())
def test_judging_loses_nothing(
    reply: Reply,
    given: Circumstances,
    failures: int,
    is_doubted: bool,  # noqa: FBT001
) -> None:
    claimed = make_claimed(6, failures=failures)
    claimed = in_doubt(claimed) if is_doubted else claimed

    returned = judged(claimed, reply, given=given)

    marks = marks_after(claimed, returned)
    assert returned.batch.open_items == sum(not mark.is_final for mark in marks.values())
    assert returned.split_at is None or 0 < returned.split_at <= 5
    for position, mark in marks.items():
        key = f"k{position}"
        assert mark.doubt or not is_doubted
        if key in reply.unsent:
            assert mark == claimed.items[position].mark
        elif mark.verdict in {Verdict.DELETED, Verdict.ABSENT, Verdict.ACCEPTED}:
            assert reply.findings[key].verdict is mark.verdict
        elif mark.verdict is Verdict.FAILED and key not in reply.findings:
            assert not mark.doubt
