"""How every store keeps protected keys, and tells a claim which places must stay."""

from datetime import timedelta

import pytest

from api_adapters.base import Verdict
from tests.contract.stores.steps import Steps, refusal
from tests.factories import (
    MINUTE,
    SECOND,
    Clock,
    appetite,
    chunk_of,
    final,
    keys,
    landed,
    new_job,
)
from worker.guarding import BY_KEY, kept_mark
from worker.item import Landed, Mark, digest_of_key, to_json
from worker.job import JobId
from worker.store.base import Claim, Protected, Store, Who

ADA = Who(os_user="ada", by="Ada", reason="the boss's")


def key(name: str, *, target: str = "crm") -> bytes:
    return digest_of_key(target, name)


def protect(
    store: Store, *names: str, target: str = "crm", until: timedelta | None = None
) -> Protected:
    texts = {key(name, target=target): to_json(name) for name in names}
    return store.protect(target, texts, ADA, until=until)


def kept(claim: Claim) -> set[int]:
    """The positions of a claim that must stay."""
    assert claim.protected == {(one.batch.job, at) for one in claim.batches for at in one.protected}
    return {position for _, position in claim.protected}


def keep(store: Store, steps: Steps, claim: Claim) -> None:
    """Answer as a worker does: what must stay is denied, the rest deleted."""
    marks = [
        {
            i.position: kept_mark(i.mark, BY_KEY) if i.position in one.protected else final()
            for i in one.items
        }
        for one in claim.batches
    ]
    steps.record_marks(claim, marks)


# -- keys -------------------------------------------------------------------------


def test_a_protected_key_is_kept_as_it_was_given(store: Store, clock: Clock) -> None:
    assert protect(store, "k1") == Protected(added=1, out=0)

    found = store.protection("crm", key("k1"))

    assert found is not None
    assert found.as_json() == {
        "item": "k1",
        "reason": "the boss's",
        "until": None,
        "os_user": "ada",
        "by": "Ada",
        "created_at": "2026-01-02T03:04:05.000Z",
    }
    assert store.protection("crm", key("k2")) is None
    assert store.protection("erp", key("k1")) is None


def test_a_key_that_is_protected_again_has_the_new_reason_and_end(store: Store) -> None:
    protect(store, "k1", "k2")
    texts = {key("k1"): to_json("K1"), key("k3"): to_json("k3")}

    done = store.protect("crm", texts, Who(by="Bob"), until=MINUTE)

    found = store.protection("crm", key("k1"))
    assert (done.added, found and (found.by, found.reason, found.text)) == (
        *(1, ("Bob", None, '"K1"')),
    )


def test_protected_keys_are_listed_in_pages(store: Store) -> None:
    names = [f"k{n}" for n in range(7)]
    protect(store, *names)
    protect(store, "x", target="erp")

    listed, after = [], b""
    while page := store.protections("crm", after=after, limit=3):
        assert len(page) <= 3
        listed += [one.text for one in page]
        after = page[-1].key

    assert sorted(listed) == [to_json(name) for name in names]


def test_more_keys_than_a_statement_names_are_protected_at_once(store: Store) -> None:
    names = [f"k{n}" for n in range(1_200)]

    assert protect(store, *names).added == 1_200
    assert protect(store, *names, "one more").added == 1
    done = store.unprotect("crm", [key(name) for name in names], ADA)

    assert done.removed == 1_200
    assert len(store.protections("crm", after=b"", limit=10)) == 1


def test_a_protection_lapses_at_its_moment(store: Store, steps: Steps, clock: Clock) -> None:
    protect(store, "k1", until=MINUTE)
    store.protect("crm", {key("k2"): '"k2"'}, ADA, until=clock() + MINUTE * 2)
    steps.running(4)
    assert kept(steps.claim(lasting=SECOND)) == {1, 2}
    clock.advance(MINUTE)
    store.rescue(lambda _, one: _unsent(one), limit=9)

    claim = steps.claim()

    assert kept(claim) == {2}
    assert store.protection("crm", key("k1")) is None
    assert [one.text for one in store.protections("crm", after=b"", limit=9)] == ['"k2"']
    assert store.unprotect("crm", [key("k1")], ADA).removed == 0


def _unsent(claimed):  # type: ignore[no-untyped-def]
    from worker.batch import Returned

    return Returned(claimed.batch)


def test_a_moment_that_has_passed_protects_nothing(store: Store, clock: Clock) -> None:
    with refusal("invalid_message"):
        store.protect("crm", {key("k1"): '"k1"'}, ADA, until=clock() - SECOND)

    assert store.protections("crm", after=b"", limit=9) == []


def test_each_wish_is_one_event_that_names_no_item(store: Store) -> None:
    protect(store, "somebody", "somebody else")
    store.unprotect("crm", [key("somebody"), key("nobody")], ADA)

    removed, added = list(store.events(None, limit=9))

    assert (added.kind, removed.kind) == ("keys.protected", "keys.unprotected")
    assert (added.target, added.os_user, added.by) == ("crm", "ada", "Ada")
    assert (added.detail["keys"], added.detail["reason"]) == (2, "the boss's")
    assert removed.detail["keys"] == 1
    assert "somebody" not in repr(dict(added.detail))


# -- the claim ----------------------------------------------------------------------


def test_a_claim_tells_which_places_must_stay(store: Store, steps: Steps) -> None:
    job = steps.running(6, size=3)
    protect(store, "k1", "k5", "elsewhere")

    claim = steps.claim(appetite(calls=2))

    assert kept(claim) == {1, 5}
    assert claim.has_protected
    keep(store, steps, claim)
    assert steps.verdicts(job)[1] == "denied"
    assert steps.outcomes(job)[1].mark.calls == 0
    steps.adds_up(job)
    assert steps.work_off(job).tally[Verdict.DENIED] == 2


def test_a_claim_of_a_target_without_protected_keys_tells_nothing(
    store: Store, steps: Steps
) -> None:
    steps.running(3)
    protect(store, "k1", target="erp")

    claim = steps.claim()

    assert (kept(claim), claim.has_protected) == (set(), False)


def test_jobs_of_one_item_are_told_too(store: Store, steps: Steps) -> None:
    jobs = [steps.running([f"k{n}"]) for n in range(5)]
    protect(store, "k3")

    claim = steps.claim(appetite(calls=1, call_items=10))

    assert claim.protected == {(jobs[3], 0)}


def test_open_strays_are_told_too(store: Store, steps: Steps) -> None:
    steps.running(4)
    claim = steps.claim()
    doubt = Mark(doubt=True, calls=1)
    steps.record_marks(claim, [{0: final(), 1: final(), 2: doubt, 3: doubt}])
    protect(store, "k0", "k2")

    again = steps.claim()

    assert [item.position for item in again.batches[0].items] == [2, 3]
    assert kept(again) == {2}


def test_an_item_without_a_key_is_no_protected_one(store: Store, steps: Steps) -> None:
    steps.running([landed(0, "a"), Landed(1, '"?"', None, final(Verdict.REJECTED))])
    protect(store, "a")

    assert kept(steps.claim()) == {0}


def test_a_range_of_nothing_but_protected_keys_ends_denied(store: Store, steps: Steps) -> None:
    job = steps.running(3)
    protect(store, "k0", "k1", "k2")

    keep(store, steps, steps.claim())

    assert set(steps.verdicts(job).values()) == {"denied"}
    assert store.settle(job) is not None


# -- the look before a call -----------------------------------------------------------


def test_a_renewal_tells_what_was_protected_meanwhile(store: Store, steps: Steps) -> None:
    job = steps.running(4)
    claim = steps.claim()
    before = store.renew(claim.lease, lasting=MINUTE)
    protect(store, "k2")

    after = store.renew(claim.lease, lasting=MINUTE)
    store.unprotect("crm", [key("k2")], ADA)

    assert (before.protected, before.has_protected) == (frozenset(), False)
    assert (after.protected, after.has_protected) == ({(job, 2)}, True)
    assert store.renew(claim.lease, lasting=MINUTE) == before


def test_whoever_protects_a_key_hears_how_many_may_be_out(store: Store, steps: Steps) -> None:
    steps.running(4, size=2)
    steps.running(["k0", "other"])
    claim = steps.claim(appetite(calls=1, call_items=2, places=9))
    steps.claim(appetite(calls=1, call_items=2, places=9))

    done = protect(store, "k0", "k1", "k3", "nobody")

    assert [one.batch.first for one in claim.batches] == [0]
    assert done == Protected(added=4, out=2)


def test_what_is_decided_already_is_not_out(store: Store, steps: Steps) -> None:
    steps.running(4, size=4)
    claim = steps.claim()
    steps.record_marks(claim, [{0: final(), 1: final()}])
    steps.claim()

    assert protect(store, "k0", "k2").out == 1


# -- what was kept back ----------------------------------------------------------------


@pytest.fixture
def ended(store: Store, steps: Steps) -> JobId:
    """A job that has ended, two of whose five items were kept back."""
    job = steps.running(5)
    protect(store, "k1", "k3")
    keep(store, steps, steps.claim())
    assert store.settle(job) is not None
    return job


def test_whoever_protects_keys_no_longer_hears_what_was_kept_back(
    store: Store, steps: Steps, ended: JobId
) -> None:
    whole = steps.running(["k1", "k3"])
    keep(store, steps, steps.claim())
    store.settle(whole)
    steps.running(["k1"])

    done = store.unprotect("crm", [key("k1"), key("k3"), key("k4")], ADA)

    assert (done.removed, done.kept) == (2, {ended: 2, whole: 2})
    assert store.unprotect("crm", [key("k1")], ADA).kept == {}


def test_what_was_tried_again_is_offered_once(store: Store, steps: Steps, ended: JobId) -> None:
    child = store.open(new_job(parent=ended, leftovers=frozenset({Verdict.DENIED}))).id
    store.copy_leftovers(child, limit=9)
    steps.planned(child)
    keep(store, steps, steps.claim())
    store.settle(child)

    assert store.unprotect("crm", [key("k1")], ADA).kept == {child: 1}


# -- kept at the door -------------------------------------------------------------------


def at_the_door(position: int, name: str) -> Landed:
    """An item that a glob keeps: it has its outcome, and its key."""
    return Landed(position, to_json(name), key(name), kept_mark(Mark(), "a glob"))


def test_what_is_kept_at_the_door_is_never_claimed_and_found_again(
    store: Store, steps: Steps
) -> None:
    job = steps.running([landed(0, "a"), at_the_door(1, "b"), landed(2, "c")])

    claim = steps.claim()

    assert [item.position for item in claim.batches[0].items] == [0, 2]
    steps.record(claim)
    assert steps.verdicts(job) == {0: "deleted", 1: "denied", 2: "deleted"}
    assert [one.job for one in store.mentions(key("b"), limit=9)] == [job]
    steps.adds_up(job)


def test_equal_items_kept_at_the_door_are_one(store: Store, steps: Steps) -> None:
    items = [at_the_door(0, "b"), landed(1, "a"), at_the_door(2, "b")]
    job = store.submit(new_job(), chunk_of(items)).id

    steps.planned(job)
    steps.record(steps.claim())

    assert steps.verdicts(job) == {0: "denied", 1: "deleted"}
    status = store.settle(job)
    assert status is not None
    assert (status.job.items, status.job.duplicates) == (2, 1)
    steps.adds_up(job)


def test_what_was_kept_at_the_door_may_be_tried_again(store: Store, steps: Steps) -> None:
    job = steps.running([at_the_door(0, "b"), *[landed(n, f"k{n}") for n in (1, 2)]])
    steps.record(steps.claim())
    store.settle(job)
    child = store.open(new_job(parent=job, leftovers=frozenset({Verdict.DENIED}))).id

    store.copy_leftovers(child, limit=9)
    steps.planned(child)
    claim = steps.claim()

    assert [item.item for one in claim.batches for item in one.items] == ["b"]
    steps.record(claim)
    assert steps.verdicts(child) == {0: "deleted"}


def test_a_plan_keeps_what_was_kept_at_its_door(store: Store, steps: Steps) -> None:
    plan = steps.submitted([at_the_door(0, "b"), landed(1, "a")], dry_run=True)
    assert store.finish_dry(plan)
    assert steps.verdicts(plan) == {0: "denied", 1: "skipped"}
    job = store.open(new_job(plan=plan)).id

    while not store.copy_plan(job, limit=9):
        pass
    steps.planned(job)
    steps.record(steps.claim())

    assert steps.verdicts(job) == {0: "denied", 1: "deleted"}
    steps.adds_up(job)


def test_many_jobs_share_the_protected_keys(store: Store, steps: Steps) -> None:
    jobs = [steps.running(keys(3)) for _ in range(3)]
    protect(store, "k1")

    claim = steps.claim(appetite(calls=3))

    assert claim.protected == {(job, 1) for job in jobs}
