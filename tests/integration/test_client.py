"""The client, against a real broker, real workers and a practice backend over HTTP."""

import signal
import sqlite3
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.service import Service, Target, wait_until
from worker.client import DeletionClient, Item, JobStatus, NoAnswer, NotEnded, Refused, _Ear

IDS = 300


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    targets = {"monitor": Target(items=IDS), "slow": Target(items=1_000, latency=0.3)}
    with Service(targets=targets) as service:
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[DeletionClient]:
    with service.client() as client:
        yield client


@pytest.fixture(scope="module")
def without_workers() -> Iterator[Service]:
    with Service(workers=0) as service:
        yield service


def some_ids(count: int) -> Iterator[str]:
    """Ids that no backend has."""
    for number in range(count):
        yield f"{number:08x}-0000-4000-8000-000000000000"


def answers_in(service: Service) -> set[bytes]:
    """The answers that nobody has fetched."""
    with service.redis() as redis:
        return set(redis.keys("celery-task-meta-*"))


def test_a_few_items_are_deleted_and_every_one_is_told(
    service: Service, client: DeletionClient
) -> None:
    ids = service.practice.ids(3)

    job = client.submit("monitor", [*ids, "no id"], requested_by="a test")
    status = client.wait(job)
    outcomes = list(client.results(job))

    assert (status.state, status.items, status.requested_by) == ("completed", 4, "a test")
    assert {verdict: count for verdict, count in status.tally.items() if count} == {
        "deleted": 3,
        "rejected": 1,
    }
    assert [one.item for one in outcomes] == [*ids, "no id"]
    assert [one.verdict for one in outcomes] == ["deleted"] * 3 + ["rejected"]
    assert outcomes[0].decided_at is not None
    assert outcomes[0].decided_at.utcoffset() == timedelta(0)
    assert service.practice.deleted.keys() >= set(ids)


def test_an_iterable_of_any_length_is_one_job_in_its_order(client: DeletionClient) -> None:
    job = client.submit("monitor", some_ids(25_000), dry_run=True)

    assert client.wait(job).items == 25_000
    assert [one.item for one in client.results(job)] == list(some_ids(25_000))


def test_a_stream_takes_little_memory_however_long_it_is(client: DeletionClient) -> None:
    tracemalloc.start()
    job = client.submit("monitor", some_ids(200_000), dry_run=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert client.status(job).items == 200_000
    # The ids alone would be 17 MiB.
    assert peak < 8 * 2**20


def test_large_items_travel_in_smaller_chunks(client: DeletionClient) -> None:
    items = [{"number": number, "text": "x" * 15_000} for number in range(300)]

    job = client.submit("monitor", items, dry_run=True)

    assert client.wait(job).tally["rejected"] == 300
    assert [one.item for one in client.results(job)] == items


def test_items_far_larger_than_the_first_ones_are_refused_with_advice(
    client: DeletionClient,
) -> None:
    items = ["1"] * 10_001 + ["x" * 15_000] * 10_000

    with pytest.raises(Refused, match="give the large ones first") as refusal:
        client.submit("monitor", items)

    assert refusal.value.code == "too_large"


def test_the_same_content_under_the_same_id_is_the_same_job(client: DeletionClient) -> None:
    id_ = str(uuid4())
    jobs = [client.submit("monitor", some_ids(5), job=id_, dry_run=True) for _ in range(3)]
    streamed = str(uuid4())
    jobs += [client.submit("monitor", some_ids(10_002), job=streamed, dry_run=True) for _ in "ab"]

    assert jobs == [id_, id_, id_, streamed, streamed]
    assert client.wait(id_).items == 5
    assert client.wait(streamed).items == 10_002


def test_other_content_under_the_same_id_is_refused(client: DeletionClient) -> None:
    job = client.submit("monitor", ["a"], dry_run=True)

    with pytest.raises(Refused, match="job_conflict") as refusal:
        client.submit("monitor", ["b"], job=job, dry_run=True)

    assert refusal.value.data == {"job": job}


@pytest.mark.parametrize("count", [1, 10_002])
def test_an_unknown_target_is_refused(client: DeletionClient, count: int) -> None:
    with pytest.raises(Refused) as refusal:
        client.submit("nowhere", some_ids(count))

    assert (refusal.value.code, refusal.value.data) == ("unknown_target", {"target": "nowhere"})


def test_an_item_that_is_too_large_is_refused_with_its_position(client: DeletionClient) -> None:
    with pytest.raises(Refused) as refusal:
        client.submit("monitor", ["small", "x" * 17_000])

    assert (refusal.value.code, refusal.value.data["position"]) == ("too_large", 1)


def test_a_refused_stream_leaves_no_open_job_behind(
    service: Service, client: DeletionClient
) -> None:
    with pytest.raises(Refused, match="too_large"):
        client.submit("monitor", [*some_ids(10_001), "x" * 17_000])

    opened = [line for line in service.logs()["worker1.log"].splitlines() if ".open[" in line]
    job = opened[-1].rpartition("job=")[2]
    assert client.wait(job).state == "cancelled"


def test_equal_items_are_one_and_told_as_duplicates(client: DeletionClient) -> None:
    few = client.submit("monitor", [*some_ids(2), *some_ids(2)], dry_run=True)
    many = client.submit("monitor", [*some_ids(10_005), *some_ids(7)], dry_run=True)

    assert (client.wait(few).items, client.status(few).duplicates) == (2, 2)
    assert (client.wait(many).items, client.status(many).duplicates) == (10_005, 7)


def test_a_dry_run_deletes_nothing(service: Service, client: DeletionClient) -> None:
    ids = service.practice.ids(20)[10:]

    job = client.submit("monitor", ids, dry_run=True)

    assert client.wait(job).tally["skipped"] == 10
    assert service.practice.remaining >= set(ids)


def test_waiting_tells_the_progress_and_ends_with_the_job(client: DeletionClient) -> None:
    seen: list[JobStatus] = []

    job = client.submit("slow", some_ids(250))
    status = client.wait(job, progress=seen.append, interval=timedelta(seconds=0.1))

    assert status.is_final
    assert seen[-1] == status
    assert [one.is_final for one in seen[:-1]] == [False] * (len(seen) - 1)
    pending = [one.pending for one in seen]
    assert pending == sorted(pending, reverse=True)
    assert len(set(pending)) > 2


def test_waiting_that_is_over_leaves_the_job_alone(client: DeletionClient) -> None:
    job = client.submit("slow", some_ids(300))

    with pytest.raises(NotEnded) as over:
        client.wait(job, timeout=timedelta(seconds=0.1))

    assert not over.value.status.is_final
    assert client.wait(job).state == "completed"


def test_results_come_by_the_page_and_by_verdict(client: DeletionClient) -> None:
    job = client.submit("monitor", [*some_ids(1_100), "bad", *some_ids(1_050), 7], dry_run=True)
    client.wait(job)

    rejected = list(client.results(job, verdict="rejected"))
    skipped = list(client.results(job, "skipped"))

    assert [(one.position, one.item) for one in rejected] == [(1_100, "bad"), (2_151, 7)]
    assert [one.position for one in skipped] == list(range(1_100))


def test_the_history_of_an_item_is_told_newest_first(client: DeletionClient) -> None:
    id_ = str(uuid4())
    jobs = [client.submit("monitor", [id_], dry_run=True) for _ in range(2)]
    for job in jobs:
        client.wait(job)

    history = client.item("monitor", id_)

    assert [one["job"] for one in history["jobs"]] == jobs[::-1]
    assert {one["verdict"] for one in history["jobs"]} == {"skipped"}


def test_a_job_is_paused_resumed_and_cancelled(client: DeletionClient) -> None:
    job = client.submit("slow", some_ids(1_000))

    assert client.pause(job).state == "paused"
    assert client.resume(job).state == "running"
    client.cancel(job)
    status = client.wait(job)

    assert status.state == "cancelled"
    assert status.tally["skipped"] > 0
    assert sum(status.tally.values()) == status.items == 1_000


def test_what_is_no_json_is_told_at_once(client: DeletionClient) -> None:
    with pytest.raises(ValueError, match="position 1 cannot be sent as JSON"):
        client.submit("monitor", ["a", float("nan")])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"position 0 cannot be sent .* UUID"):
        client.submit("monitor", [uuid4()])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="4300 digits"):
        client.submit("monitor", [10**5_000])
    with pytest.raises(TypeError, match="found one str"):
        client.submit("monitor", "abc")
    with pytest.raises(ValueError, match="items or a query"):
        client.submit("monitor")


STRANGE: list[Any] = [
    {"__type__": "uuid", "__value__": {"hex": "no hex"}},
    {"__type__": "decimal", "__value__": "1.0"},
    {"__type__": "unheard of", "__value__": None},
    {"id": {"__type__": "bytes", "__value__": "a"}, "": None},
    {"__unreadable__": {"code": "a", "message": "b"}},
    "\ud800 alone",
    "\u2028 \0 \x7f é 😀",
    "",
    10**40,
    -(2**63) - 1,
    None,
    True,
    1.5,
    ["a"],
    {"b": 1, "a": [1.5, None, {}]},
]


@pytest.mark.parametrize("extra", [0, 10_000])
def test_strange_items_travel_intact(client: DeletionClient, extra: int) -> None:
    items: list[Item] = [*STRANGE, *some_ids(extra)]

    job = client.submit("monitor", items, dry_run=True)
    client.wait(job)

    rejected = list(client.results(job, verdict="rejected"))
    assert [one.item for one in rejected] == STRANGE
    assert [type(one.item) for one in rejected] == [type(item) for item in STRANGE]


def test_the_history_of_a_strange_item_names_it_intact(client: DeletionClient) -> None:
    for item in STRANGE:
        assert client.item("monitor", item)["item"] == item


def test_what_is_posted_is_done_without_an_answer(service: Service, client: DeletionClient) -> None:
    ids = service.practice.ids(50)[40:]
    before = answers_in(service)

    job = client.post("monitor", ids)

    wait_until(lambda: service.practice.deleted.keys() >= set(ids))
    assert client.wait(job).tally["deleted"] == 10
    assert answers_in(service) <= before


def test_a_post_waits_for_no_worker(without_workers: Service) -> None:
    with without_workers.client() as client, without_workers.redis() as redis:
        waiting = redis.llen("deletions")

        client.post("monitor", ["a"])

        assert redis.llen("deletions") == waiting + 1


def test_a_long_post_is_streamed(client: DeletionClient) -> None:
    job = client.post("monitor", some_ids(10_001), dry_run=True)

    assert client.wait(job).items == 10_001


def test_nothing_is_left_in_the_broker_by_many_requests(
    service: Service, client: DeletionClient
) -> None:
    job = client.submit("monitor", ["a"], dry_run=True)
    answers = answers_in(service)
    with service.redis() as redis:
        connections = redis.client_list()
        for _ in range(50):
            client.submit("monitor", ["a"], job=job, dry_run=True)
            client.status(job)

        assert answers_in(service) <= answers
        # A thread listens for the few answers that it heard last.
        assert len(redis.pubsub_channels()) < 25
        # A worker may open one more meanwhile; a hundred requests would leave a hundred.
        assert len(redis.client_list()) < len(connections) + 10


def test_a_request_costs_few_commands(service: Service, client: DeletionClient) -> None:
    job = client.submit("monitor", ["a"], dry_run=True)
    with service.redis() as redis:
        redis.config_resetstat()
        for _ in range(50):
            client.status(job)
        asked = redis.info("commandstats")
        times = {name.removeprefix("cmdstat_"): one["calls"] for name, one in asked.items()}

    # An answer that is told is not looked for, nor is whether it was given before.
    assert times.get("mget", 0) < 10
    assert times.get("get", 0) < 10
    # Only an answer is kept and announced in one.
    assert times.get("multi", 0) < 75
    assert times["lpush"] >= 50


def test_an_answer_that_is_not_told_is_looked_for(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Ear, "hear", lambda _, keys, seconds: time.sleep(seconds) or {})
    with service.client() as client:
        job = client.submit("monitor", some_ids(10_001), dry_run=True)

        assert client.wait(job).items == 10_001


def test_where_telling_is_forbidden_answers_are_looked_for(service: Service) -> None:
    with service.redis() as redis, service.client() as client:
        redis.acl_setuser("default", enabled=True, nopass=True, commands=["-subscribe"])
        try:
            job = client.submit("monitor", ["a"], dry_run=True)
            for _ in range(20):
                assert client.status(job).items == 1
        finally:
            redis.acl_setuser("default", enabled=True, nopass=True, commands=["+subscribe"])
        denied = [int(one["count"]) for one in redis.acl_log() if one["object"] == "subscribe"]
        redis.acl_log_reset()

    # It is not tried again with each request.
    assert denied == [1]


class Interrupted(Exception):
    """What an application, or Celery, raises into whatever runs for too long."""


@pytest.mark.parametrize("deaf_for", [0, 60])
def test_what_is_raised_into_a_wait_comes_out(without_workers: Service, deaf_for: float) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted("enough")

    before = signal.signal(signal.SIGALRM, interrupt)
    began = time.monotonic()
    try:
        with without_workers.client(timeout=timedelta(seconds=60)) as client:
            client._line._drop_ear(deaf_for=deaf_for)
            signal.setitimer(signal.ITIMER_REAL, 0.7)
            with pytest.raises(Interrupted, match="enough"):
                client.status(str(uuid4()))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert time.monotonic() - began < 30


def test_one_deaf_thread_leaves_the_others_their_ears(
    service: Service, client: DeletionClient
) -> None:
    job = client.submit("monitor", ["a"], dry_run=True)
    client.status(job)
    thread = threading.Thread(target=client._line._drop_ear, kwargs={"deaf_for": 60})
    thread.start()
    thread.join()
    with service.redis() as redis:
        redis.config_resetstat()
        for _ in range(20):
            client.status(job)
        looks = redis.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"]

    assert looks < 5


def test_more_threads_than_connections_are_answered(service: Service) -> None:
    few = f"{service.broker_url}{'&' if '?' in service.broker_url else '?'}max_connections=5"
    with (
        service.client() as client,
        DeletionClient(
            service.broker_url, result_backend_url=few, timeout=timedelta(seconds=30)
        ) as narrow,
        ThreadPoolExecutor(24) as threads,
    ):
        job = client.submit("monitor", ["a"], dry_run=True)
        told = list(threads.map(lambda _: narrow.status(job).items, range(100)))

    assert told == [1] * 100


def test_what_is_read_can_be_handed_over_as_it_comes(client: DeletionClient) -> None:
    job = client.submit("monitor", some_ids(25_000), dry_run=True)
    client.wait(job)

    again = client.submit("monitor", (one.item for one in client.results(job)), dry_run=True)

    assert client.wait(again).items == 25_000


class Announcer:
    """Tells of answers in its own order."""

    def __init__(self, *keys: str) -> None:
        self._told = [{"channel": key.encode(), "data": key.upper().encode()} for key in keys]

    def pubsub(self, **_: object) -> "Announcer":
        return self

    def subscribe(self, _: str) -> None:
        """Whatever is listened for."""

    def get_message(self, *, timeout: float) -> dict[str, bytes] | None:
        assert timeout > 0
        return self._told.pop(0) if self._told else None


def test_an_answer_that_comes_while_another_one_is_waited_for_is_kept() -> None:
    ear = _Ear(Announcer("a", "b", "c"))
    for key in ("a", "b", "c", "d"):
        ear.expect(key)

    assert ear.hear(["c"], 10) == {"c": b"C"}
    assert ear.hear(["b", "d"], 0) == {"b": b"B"}
    assert ear.hear(["d"], 0.01) == {}
    assert ear.hear(["a"], 0) == {"a": b"A"}


def test_no_silence_is_longer_than_the_time_that_is_left(
    without_workers: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.client._LONGEST_SILENCE", 60)
    began = time.monotonic()
    with (
        without_workers.client(timeout=timedelta(seconds=0.2)) as client,
        without_workers.redis() as redis,
    ):
        for _ in range(40):
            with pytest.raises(NoAnswer):
                client.status(str(uuid4()))
        # Nor is each of them listened for ever after.
        assert len(redis.pubsub_channels()) < 30

    assert time.monotonic() - began < 50


def test_an_answer_whose_announcement_was_lost_is_found(service: Service) -> None:
    def end_listeners() -> None:
        while not is_over.wait(0.02):
            redis.client_kill_filter(_type="pubsub")

    is_over = threading.Event()
    with service.redis() as redis, service.client() as client:
        job = client.submit("monitor", ["a"], dry_run=True)
        thread = threading.Thread(target=end_listeners)
        thread.start()
        try:
            assert {client.status(job).items for _ in range(20)} == {1}
        finally:
            is_over.set()
            thread.join()


def test_a_queue_that_is_never_empty_is_worked_off_without_a_pause() -> None:
    with Service(workers=0) as service, service.client() as client, service.redis() as redis:
        jobs = [client.post("monitor", ["a"], dry_run=True) for _ in range(80)]
        service.start_worker("-c", "4")
        wait_until(lambda: redis.llen("deletions") < 60)
        began = time.monotonic()
        wait_until(lambda: not redis.llen("deletions"))
        seconds = time.monotonic() - began
        assert all(client.wait(job).items == 1 for job in jobs)

    # With a pause of a second after every few of them, it was more than ten.
    assert seconds < 5


def test_closing_gives_back_every_connection(service: Service) -> None:
    with service.redis() as redis:
        before = {one["id"] for one in redis.client_list()}
        with service.client() as client:
            job = client.submit("monitor", ["a"], dry_run=True)
            assert {one["id"] for one in redis.client_list()} > before
        wait_until(lambda: {one["id"] for one in redis.client_list()} <= before)

        assert client.status(job).id == job
        client.close()


def test_threads_share_one_client(service: Service, client: DeletionClient) -> None:
    def submit(number: int) -> tuple[int, int | None]:
        job = client.submit("monitor", [f"{number}-{index}" for index in range(number)])
        return number, client.status(job).items

    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(submit, range(1, 25)))

    assert done == [(number, number) for number in range(1, 25)]


def test_the_broker_of_the_application_is_left_alone(
    service: Service, client: DeletionClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Celery takes these before any URL that it is given.
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "redis://127.0.0.1:1")
    monkeypatch.setenv("DELETIONS_BROKER_URL", service.broker_url)

    with DeletionClient() as named:
        job = named.submit("monitor", ["a"], dry_run=True)

    assert client.status(job).id == job


def test_a_broker_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DELETIONS_BROKER_URL", raising=False)

    with pytest.raises(ValueError, match="DELETIONS_BROKER_URL"):
        DeletionClient()


@pytest.mark.parametrize("count", [1, 10_001])
def test_without_a_worker_there_is_no_answer(without_workers: Service, count: int) -> None:
    job = str(uuid4())
    with (
        without_workers.client(timeout=timedelta(seconds=0.5)) as client,
        pytest.raises(NoAnswer) as silence,
    ):
        client.submit("monitor", some_ids(count), job=job)

    assert silence.value.job == job


def test_without_a_broker_there_is_no_answer() -> None:
    url = "redis+socket:///tmp/nobody-listens-here.sock"
    before = time.monotonic()
    with DeletionClient(url, timeout=timedelta(seconds=0.5)) as client:
        for send in (client.submit, client.post):
            with pytest.raises(NoAnswer) as silence:
                send("monitor", ["a"])
            assert "nobody-listens-here" in str(silence.value.__cause__)

    assert time.monotonic() - before < 20


def test_a_lost_request_is_sent_again(without_workers: Service) -> None:
    service = without_workers
    answers: list[Any] = []

    def submit() -> None:
        with service.client(timeout=timedelta(seconds=60)) as client:
            job = client.submit("monitor", ["a", "b"])
            answers.append(client.status(job).items)

    thread = threading.Thread(target=submit)
    with service.redis() as redis:
        redis.delete("deletions")
        thread.start()
        wait_until(lambda: redis.llen("deletions"))
        assert redis.lpop("deletions")
    service.start_worker()
    thread.join(60)

    assert answers == [2]


def test_a_lost_answer_makes_no_second_job(
    service: Service, without_workers: Service, client: DeletionClient
) -> None:
    job = str(uuid4())
    elsewhere = without_workers.broker_url
    with (
        DeletionClient(
            service.broker_url, result_backend_url=elsewhere, timeout=timedelta(seconds=6)
        ) as deaf,
        pytest.raises(NoAnswer),
    ):
        deaf.submit("monitor", ["a", "b"], job=job, dry_run=True)

    handled = [line for line in service.logs()["worker1.log"].splitlines() if f"job={job}" in line]
    assert sum("deletions.submit[" in line for line in handled) == 2
    assert client.submit("monitor", ["a", "b"], job=job, dry_run=True) == job
    assert client.wait(job).items == 2


def test_a_store_that_is_away_is_waited_for(service: Service, client: DeletionClient) -> None:
    with closing(sqlite3.connect(service.data_dir / "store.sqlite3")) as store:
        store.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as threads:
            submitted = threads.submit(client.submit, "monitor", ["a"], dry_run=True)
            wait_until(lambda: "refused: store_unavailable" in service.logs()["worker1.log"])
            assert not submitted.done()
            store.execute("ROLLBACK")

            assert client.wait(submitted.result()).items == 1


@pytest.mark.soak
def test_what_was_posted_while_the_store_was_away_is_kept(
    service: Service, client: DeletionClient
) -> None:
    with closing(sqlite3.connect(service.data_dir / "store.sqlite3")) as store:
        store.execute("BEGIN IMMEDIATE")
        # Nobody hears that this one is refused.
        posted = client.post("monitor", ["b", "c"], dry_run=True)
        wait_until(lambda: "submit.kept" in service.logs()["worker1.log"])
        store.execute("ROLLBACK")

    wait_until(lambda: _is_known(client, posted))
    assert client.wait(posted).items == 2


def _is_known(client: DeletionClient, job: str) -> bool:
    try:
        return bool(client.status(job))
    except Refused:
        return False


def test_connections_that_were_cut_are_made_again(service: Service, client: DeletionClient) -> None:
    job = client.submit("monitor", ["a"], dry_run=True)
    with service.redis() as redis:
        redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    assert client.submit("monitor", ["a"], job=job, dry_run=True) == job
