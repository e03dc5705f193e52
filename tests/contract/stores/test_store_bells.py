"""When every store lets a bell be rung, and what a look finds."""

from datetime import timedelta

from tests.contract.stores.steps import Steps
from tests.factories import MINUTE, SECOND, Clock, appetite, new_job
from worker.store.base import DECLINED_FOR, Busy, CallNote, Claim, Store, Who


def test_a_bell_is_due_when_work_is_ready(store: Store, steps: Steps) -> None:
    assert store.may_ring("crm") is False
    steps.submitted()
    assert store.may_ring("crm") is False
    steps.running()

    assert store.may_ring("crm") is True


def test_one_bell_of_a_target_is_unanswered(store: Store, steps: Steps, clock: Clock) -> None:
    steps.running(20)
    store.may_ring("crm")
    clock.advance()

    assert store.may_ring("crm") is False


def test_a_bell_answers_in_its_claim(store: Store, steps: Steps, clock: Clock) -> None:
    steps.running(20)
    store.may_ring("crm")
    clock.advance()
    steps.claim(appetite(places=1))

    assert store.may_ring("crm") is True


def claim_for_bell(
    store: Store, *, places: int, answers_bell: bool = True, is_slow: bool = False
) -> Claim | Busy:
    """Claim as whoever comes because of a bell, or goes on."""
    return store.claim(
        "crm",
        fingerprint="f1",
        holder="w1",
        lasting=MINUTE,
        appetite=lambda _: appetite(places=places, is_slow=is_slow),
        answers_bell=answers_bell,
    )


def test_a_claim_that_takes_something_answers(store: Store, steps: Steps) -> None:
    steps.running(20)
    store.may_ring("crm")

    claim = claim_for_bell(store, places=1)

    assert isinstance(claim, Claim)
    assert claim.bells == 0
    assert store.may_ring("crm") is True


def test_a_claim_that_answers_rings_the_next_bell(store: Store, steps: Steps) -> None:
    steps.running(20)
    store.may_ring("crm")

    claim = claim_for_bell(store, places=2)

    assert isinstance(claim, Claim)
    assert claim.bells == 1
    assert store.may_ring("crm") is False


def test_a_claim_that_is_busy_answers_nothing(store: Store, steps: Steps) -> None:
    steps.running(20)
    steps.claim(appetite(places=1))
    store.may_ring("crm")

    assert claim_for_bell(store, places=1) == Busy()
    assert store.may_ring("crm") is False


def test_a_bell_that_is_answered_without_a_claim_may_be_rung_again(
    store: Store, steps: Steps
) -> None:
    steps.running(20)
    store.may_ring("crm")

    store.answer_bell("crm")

    assert store.may_ring("crm") is True


def test_a_bell_that_was_declined_may_be_rung_again_after_a_moment(
    store: Store, steps: Steps, clock: Clock
) -> None:
    steps.running(40)
    store.may_ring("crm")

    store.decline_bell("crm")

    assert store.may_ring("crm") is False
    claim = claim_for_bell(store, places=4, answers_bell=False)
    assert isinstance(claim, Claim)
    assert claim.bells == 0
    clock.advance(DECLINED_FOR + timedelta(milliseconds=1))
    assert store.may_ring("crm") is True


def test_a_claim_that_finds_nothing_answers_too(store: Store, steps: Steps, clock: Clock) -> None:
    job = steps.running(20)
    store.may_ring("crm")
    store.pause(job, Who())
    clock.advance()
    steps.try_claim()
    store.resume(job, Who())

    assert store.may_ring("crm") is True


def test_a_bell_that_was_lost_is_rung_again_after_five_seconds(
    store: Store, steps: Steps, clock: Clock
) -> None:
    steps.running(20)
    store.may_ring("crm")
    clock.advance(SECOND * 5)
    assert store.may_ring("crm") is False
    clock.advance()

    assert store.may_ring("crm") is True


def test_a_claim_that_leaves_work_and_a_place_rings(
    store: Store, steps: Steps, clock: Clock
) -> None:
    steps.running(20)

    assert steps.claim(appetite(places=2)).bells == 1
    clock.advance()
    assert store.may_ring("crm") is False


def test_a_bell_of_a_slow_target_calls_for_half_of_the_free_places(
    store: Store, steps: Steps
) -> None:
    steps.running(90)

    claims = [claim_for_bell(store, places=6, is_slow=True) for _ in range(6)]

    assert [one.bells for one in claims if isinstance(one, Claim)] == [3, 2, 2, 1, 1, 0]


def test_the_last_places_of_many_are_called_for_at_once(store: Store, steps: Steps) -> None:
    steps.running(900)

    claims = [claim_for_bell(store, places=32, is_slow=True) for _ in range(27)]

    bells = [one.bells for one in claims if isinstance(one, Claim)]
    assert (bells[0], bells[15], bells[23], bells[24], bells[26]) == (16, 8, 8, 7, 5)


def test_a_claim_that_leaves_no_work_does_not_ring(steps: Steps) -> None:
    steps.running(10)

    assert steps.claim().bells == 0


def test_a_claim_that_takes_the_last_place_does_not_ring(steps: Steps) -> None:
    steps.running(30)

    assert [steps.claim(appetite(places=2)).bells for _ in range(2)] == [1, 0]


def test_no_bell_is_rung_for_a_target_that_rests(store: Store, steps: Steps, clock: Clock) -> None:
    steps.running(20)
    store.record(steps.claim().lease, [], call=CallNote(SECOND, answered=True, rest=MINUTE))
    clock.advance(SECOND * 10)

    assert store.may_ring("crm") is False
    clock.advance(MINUTE)
    assert store.may_ring("crm") is True


def test_no_bell_is_rung_for_a_job_that_is_paused(store: Store, steps: Steps) -> None:
    store.pause(steps.running(), Who())

    assert store.may_ring("crm") is False


def test_one_look_in_a_while_is_won(store: Store, clock: Clock) -> None:
    assert store.look(every=SECOND * 2) is not None
    clock.advance(SECOND)
    assert store.look(every=SECOND * 2) is None
    clock.advance(SECOND)
    assert store.look(every=SECOND * 2) is not None


def test_a_look_rings_every_target_with_work_and_no_bell(
    store: Store, steps: Steps, clock: Clock
) -> None:
    for target in ("crm", "erp"):
        steps.running(20, target=target)
    steps.running(20, target="rung")
    store.may_ring("rung")
    clock.advance()

    first = store.look(every=SECOND)
    clock.advance()
    second = store.look(every=SECOND)

    assert first is not None
    assert second is not None
    assert first.ring == ("crm", "erp")
    assert second.ring == ()


def test_a_look_leaves_a_job_to_whoever_has_just_recorded_its_last(
    store: Store, steps: Steps, clock: Clock
) -> None:
    job = steps.running()
    steps.record(steps.claim())
    looks = [store.look(every=SECOND)]
    clock.advance(SECOND * 5)
    looks.append(store.look(every=SECOND))

    assert [look and look.settle for look in looks] == [(), (job,)]


def test_a_look_names_the_jobs_to_settle(store: Store, steps: Steps, clock: Clock) -> None:
    steps.running(20)
    done, ending, empty = steps.running(["a"], target="erp"), steps.submitted(), steps.running(0)
    steps.record(steps.claim(target="erp"))
    store.cancel(ending, Who())
    store.open(new_job())
    clock.advance(SECOND * 6)

    look = store.look(every=SECOND)

    assert look is not None
    assert set(look.settle) == {done, ending, empty}
    store.settle(done)


def test_a_look_does_not_name_what_is_settled(store: Store, steps: Steps) -> None:
    steps.work_off(steps.running())

    look = store.look(every=SECOND)

    assert look is not None
    assert (look.settle, look.plan, look.ring) == ((), (), ())
