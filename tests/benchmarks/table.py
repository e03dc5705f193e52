"""The table: every row of `make bench`.

The peers do not keep what we keep: dramatiq leaves its outcomes in Redis for
ten minutes, the bare loop knows nothing until the end, and the single
statement of SQL has no outcome of any row. Ours has ended when the store says
that the last item has its outcome; dramatiq's driver then has all outcomes in
hand, as without a store of its own it must fetch them.
"""

from tests.benchmarks.bars import Bar, By, Is

_MILLION = "1,000,000 items"
_HUNDREDS = f"{_MILLION} in calls of 100"
_THOUSANDS = f"{_MILLION} in calls of 1,000"

_THROUGHPUT = (
    Bar(
        "hundreds",
        f"{_HUNDREDS}: throughput beside dramatiq",
        "hundreds.dramatiq_batches.seconds",
        over="hundreds.ours.seconds",
        wanted=Is.AT_LEAST,
        limit=1.5,
    ),
    Bar(
        "hundreds",
        f"{_HUNDREDS}: throughput beside the chord",
        "hundreds.chord.seconds",
        over="hundreds.ours.seconds",
        wanted=Is.AT_LEAST,
        limit=8,
    ),
    Bar(
        "hundreds",
        f"{_HUNDREDS}, SQLite store: throughput beside the chord",
        "hundreds.chord.seconds",
        over="hundreds.ours_on_sqlite.seconds",
        wanted=Is.AT_LEAST,
        limit=3,
    ),
    Bar(
        "hundreds",
        "One Celery task an item, for a hundredth of the items: time an item beside ours",
        "hundreds.per_item.item_us",
        over="hundreds.ours.item_us",
        unit="µs",
    ),
    Bar(
        "thousands",
        f"{_THOUSANDS}: time beside dramatiq",
        "thousands.ours.seconds",
        over="thousands.dramatiq_batches.seconds",
        wanted=Is.AT_MOST,
        limit=1.6,
    ),
    Bar(
        "thousands",
        f"{_THOUSANDS}: time beside a bare loop",
        "thousands.ours.seconds",
        over="thousands.bare_loop.seconds",
        wanted=Is.AT_MOST,
        limit=2.2,
    ),
)


def _memory(what: str, name: str, *, limit: float) -> tuple[Bar, ...]:
    """The peak of one kind of process, and how little of it depends on the job."""
    peak = f"Peak memory of {what}"
    grown = (("million", _MILLION), ("millions", "5,000,000 items"))
    return (
        Bar(
            "growth",
            f"{peak} at {_MILLION}",
            f"growth.million.{name}",
            by=By.MOST,
            wanted=Is.AT_MOST,
            limit=limit,
            unit="MiB",
        ),
        *(
            Bar(
                "growth",
                f"{peak} at {told} beside 100,000",
                f"growth.{size}.{name}",
                over=f"growth.tenth.{name}",
                wanted=Is.AT_MOST,
                limit=1.1,
                unit="MiB",
            )
            for size, told in grown
        ),
    )


def _peers_memory(peer: str) -> tuple[Bar, ...]:
    """What a peer takes for the same, for comparison."""
    return tuple(
        Bar(
            "hundreds",
            f"{_HUNDREDS}, {peer}: peak memory of {what}",
            f"hundreds.{peer}.{name}",
            by=By.MOST,
            unit="MiB",
        )
        for what, name in (
            ("a worker process", "worker_mib"),
            ("Redis", "redis_mib"),
            ("the submitter", "submitter_mib"),
        )
    )


_GROWTH = (
    *_memory("a worker process", "worker_mib", limit=150),
    *_memory("Redis", "redis_mib", limit=32),
    *_memory("the submitter", "submitter_mib", limit=100),
    *_peers_memory("chord"),
    *_peers_memory("dramatiq_batches"),
    Bar(
        "growth",
        f"Time an item at {_MILLION} beside 100,000",
        "growth.million.item_us",
        over="growth.tenth.item_us",
        wanted=Is.AT_MOST,
        limit=1.15,
        unit="µs",
    ),
    Bar(
        "growth",
        "Time an item at 5,000,000 items beside 100,000",
        "growth.millions.item_us",
        over="growth.tenth.item_us",
        wanted=Is.AT_MOST,
        limit=1.3,
        unit="µs",
    ),
)

_PROMPTNESS = (
    Bar(
        "latency",
        "100 ms latency, 32 calls in flight, 100,000 items in calls of 100: time beside the ideal",
        "latency.ours.seconds",
        over="latency.ideal.seconds",
        wanted=Is.AT_MOST,
        limit=1.25,
    ),
    Bar(
        "single",
        "One-item job on an idle service, until its outcome is readable",
        "single.ms",
        wanted=Is.AT_MOST,
        limit=100,
        unit="ms",
    ),
    Bar(
        "single",
        "One-item job on an idle service, until its outcome is readable",
        "single.ms",
        by=By.P99,
        wanted=Is.AT_MOST,
        limit=500,
        unit="ms",
    ),
    Bar(
        "beside",
        "One-item job while a million runs on its target",
        "beside.same.seconds",
        by=By.P95,
        wanted=Is.AT_MOST,
        limit=2,
    ),
    Bar(
        "beside",
        "One-item job while a million runs on another target",
        "beside.other.seconds",
        by=By.P95,
        wanted=Is.AT_MOST,
        limit=2,
    ),
    Bar(
        "crowd",
        "10,000 one-item jobs from 8 submitters, until the last outcome",
        "crowd.jobs_per_second",
        wanted=Is.AT_LEAST,
        limit=150,
        unit="jobs/s",
    ),
    Bar(
        "crowd",
        "The same in calls of 1,000 with 100 ms latency",
        "crowd.sharing.jobs_per_second",
        wanted=Is.AT_LEAST,
        limit=150,
        unit="jobs/s",
    ),
    Bar(
        "crowd",
        "The same in calls of 1,000 with 100 ms latency: calls in all",
        "crowd.sharing.calls",
        by=By.MOST,
        wanted=Is.AT_MOST,
        limit=200,
        unit="calls",
    ),
    Bar(
        "crowd",
        "Jobs of both that were lost",
        "crowd.lost",
        by=By.MOST,
        wanted=Is.AT_MOST,
        limit=0,
        unit="jobs",
    ),
)

_READING = (
    Bar(
        "stored",
        "What happened to an item, asked with the client, 10,000,000 items stored",
        "stored.item_ms",
        by=By.P95,
        wanted=Is.AT_MOST,
        limit=100,
        unit="ms",
    ),
    Bar(
        "stored",
        "The same as a command, the start of its process included",
        "stored.command_ms",
        unit="ms",
    ),
    Bar(
        "stored",
        "Any page of 1,000 outcomes in 1,000,000, read with the client",
        "stored.page_ms",
        by=By.P95,
        wanted=Is.AT_MOST,
        limit=50,
        unit="ms",
    ),
    Bar(
        "stored",
        "1,000,000 outcomes as JSON lines, by the command",
        "stored.rows_per_second",
        wanted=Is.AT_LEAST,
        limit=100_000,
        unit="rows/s",
    ),
    Bar(
        "stored",
        "Peak memory of that command beside 100,000 outcomes",
        "stored.million.command_mib",
        over="stored.tenth.command_mib",
        wanted=Is.AT_MOST,
        limit=1.1,
        unit="MiB",
    ),
)

_TABLES = (
    Bar(
        "tables",
        "1,000,000 rows of a table by key, 1,000 a call: time beside a single DELETE",
        "tables.ours.seconds",
        over="tables.single_delete.seconds",
        wanted=Is.AT_MOST,
        limit=5,
    ),
)

_CEILING = (
    Bar("ceiling", "The practice server alone, 100 a call", "ceiling.hundreds", unit="items/s"),
    Bar("ceiling", "The practice server alone, 1,000 a call", "ceiling.thousands", unit="items/s"),
)

TABLE = (*_CEILING, *_THROUGHPUT, *_GROWTH, *_PROMPTNESS, *_READING, *_TABLES)
