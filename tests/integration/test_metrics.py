"""Real workers of every pool, counted once each, and told by a real exporter."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.forked import Ended, run_command
from tests.integration.service import _ALONE, Service, Target, wait_until
from worker.embedded.commands import clock_command, worker_command
from worker.environment import BROKER_URL, STORE_URL

DELETIONS = Path(sys.executable).with_name("deletions")
POOLS = {"threads": (), "prefork": ("-P", "prefork", "-c", "2"), "solo": ("-P", "solo")}
#: Half a second and more for each call, so that a worker dies with some of them out.
SLOW = 0.5


@contextmanager
def exporter(service: Service, **environ: str) -> Iterator[str]:
    """Where a `deletions metrics` of its own listens."""
    process = subprocess.Popen(
        [DELETIONS, "metrics", "--port", "0"],
        env={**service.environ, **environ},
        cwd=service.directory,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        where = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert where is not None
        yield where[0]
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (0, "")


def scrape(where: str) -> dict[tuple[str, ...], float]:
    """Every sample by its name and its labels' values, in the order of their names."""
    with urlopen(f"{where}/metrics", timeout=20) as answer:
        told = answer.read().decode()
    return {
        (one.name, *(one.labels[name] for name in sorted(one.labels))): one.value
        for family in text_string_to_metric_families(told)
        for one in family.samples
    }


def items_in(told: dict[tuple[str, ...], float]) -> Counter[str]:
    """Items by verdict."""
    found = {name[2]: int(n) for name, n in told.items() if name[0] == "deletions_items_total"}
    return Counter({verdict: count for verdict, count in found.items() if count})


def health(service: Service, *options: str, **environ: str) -> Ended:
    """What `deletions health` says."""
    return run_command(
        ("health", *options), folder=service.directory, environ={**service.environ, **environ}
    )


@pytest.mark.parametrize(
    "pool", ["prefork", *(pytest.param(one, marks=pytest.mark.soak) for one in ("threads", "solo"))]
)
def test_what_every_pool_did_is_counted_once(pool: str) -> None:
    target = Target("nimble", items=40, misbehave="busy:2=0.01")
    with Service(
        targets={"crm": target}, workers=2, worker_options=(*_ALONE, *POOLS[pool])
    ) as service:
        ids = list(service.practice.remaining)
        with service.client() as client, exporter(service) as where:
            tallies: Counter[str] = Counter()
            for _ in range(2):
                status = client.wait(client.submit("crm", [*ids[:30], "no such id"]))
                tallies.update({name: n for name, n in status.tally.items() if n})
            wait_until(lambda: scrape(where)["deletions_look_lag_seconds",] < 20)
            told = scrape(where)

        assert items_in(told) == tallies
        assert tallies["deleted"] == 30
        calls = sum(n for name, n in told.items() if name[0] == "deletions_calls_total")
        paced = told["deletions_calls_total", "paced", "crm"]
        assert calls - paced == told["deletions_call_duration_seconds_count", "crm"] > 0
        assert told["deletions_calls_total", "ok", "crm"] > 0
        assert told["deletions_batches_ready", "crm"] == 0
        assert told["deletions_up",] == told["deletions_store_up",] == 1


@pytest.mark.soak
def test_what_a_killed_worker_had_counted_stays_and_adds_up() -> None:
    options = {"timeout": "2s", "max_in_flight": 4, "max_items_per_call": 1}
    target = Target("bas_ip", items=24, latency=SLOW, options=options)
    with Service(targets={"monitor": target}) as service:
        ids = list(service.practice.remaining)
        with service.client() as client, exporter(service) as where:
            job = client.submit("monitor", ids)
            wait_until(lambda: sum(items_in(scrape(where)).values()) >= 4)
            before = items_in(scrape(where))
            for pid in service.processes.pids().values():
                os.kill(pid, signal.SIGKILL)
            held = scrape(where)
            assert held["deletions_batches_leased", "monitor"] > 0
            service.practice.latency *= 0
            service.processes.start(worker_command(2, *_ALONE, *POOLS["prefork"]))
            wait_until(lambda: client.status(job).state == "completed")
            told = scrape(where)
            tally = {name: n for name, n in client.status(job).tally.items() if n}

        assert items_in(told) == tally
        assert sum(tally.values()) == len(ids)
        assert all(items_in(told)[verdict] >= count for verdict, count in before.items())
        assert told["deletions_batches_leased", "monitor"] == 0
        assert told["deletions_batches_ready", "monitor"] == 0


def test_health_is_told_to_probes_and_people() -> None:
    with Service() as service, exporter(service) as where:
        told = health(service)
        assert told.code == 1
        assert "clock: failed: no clock has ever ticked" in told.out
        with pytest.raises(HTTPError) as refused:
            urlopen(f"{where}/health", timeout=20)
        assert refused.value.code == 503
        refused.value.close()

        service.processes.start(clock_command(service.data_dir))
        wait_until(lambda: health(service).code == 0)
        shape = json.loads(health(service, "--json").out)
        assert [one["name"] for one in shape["checks"]] == [
            "store",
            "migrations",
            "broker",
            "clock",
            "progress",
        ]
        assert shape["healthy"]
        with urlopen(f"{where}/health", timeout=20) as answer:
            assert json.load(answer)["healthy"]
        with urlopen(f"{where}/live", timeout=20) as answer:
            assert answer.status == 200


def test_what_is_away_is_told_in_time() -> None:
    with Service(workers=0) as service:
        nowhere = {BROKER_URL: "redis://:pass@127.0.0.1:1/0"}
        gone = {STORE_URL: "postgresql://nobody@127.0.0.1:1/store"}
        began = time.monotonic()
        told = health(service, **nowhere, **gone)
        assert told.code == 4
        assert "store: failed" in told.out
        assert "broker: failed" in told.out
        assert "pass" not in told.out + told.err
        with exporter(service, **gone) as where:
            found = scrape(where)
            with pytest.raises(HTTPError) as refused:
                urlopen(f"{where}/health", timeout=20)
            refused.value.close()
        assert found["deletions_up",] == found["deletions_store_up",] == 0
        assert found["deletions_broker_up",] == 1
        assert refused.value.code == 503
        assert time.monotonic() - began < 30


def test_health_makes_no_store() -> None:
    with Service(workers=0) as service:
        assert health(service).code == 4
        assert not list(service.data_dir.glob("store.sqlite3*"))


@pytest.mark.parametrize("pool", ["threads", pytest.param("prefork", marks=pytest.mark.soak)])
def test_every_line_of_a_workers_log_is_json(pool: str) -> None:
    environ = {"DELETIONS_LOG_FORMAT": "json"}
    options = (*_ALONE, *POOLS[pool])
    with Service(targets={"crm": Target("nimble", items=9)}, environ=environ) as service:
        service.start_worker(*options, "--loglevel=DEBUG")
        service.processes.start(clock_command(service.data_dir))
        with service.client() as client:
            for item in list(service.practice.remaining):
                job = client.submit("crm", [item])
                client.wait(job)
        wait_until(lambda: "deletions.purge" in service.logs()["clock.log"])
        logs = service.logs()

    told: list[dict[str, Any]] = []
    for name, text in logs.items():
        if name.startswith("worker"):
            told += [json.loads(line) for line in text.splitlines()]
    settled = [one for one in told if one["event"] == "job.settled"]
    assert job in {one["job"] for one in settled}
    done = [one for one in told if "runtime_seconds" in one]
    assert {"deletions.submit", "deletions.execute"} <= {one["task"] for one in done}
    assert all(one["task_id"] in one["event"] for one in done)
    calls = [one for one in told if one["event"] == "call.ended"]
    assert all({"job", "batch", "target", "lease", "answer"} <= set(one) for one in calls)
    assert all(json.loads(line) for line in logs["clock.log"].splitlines() if line[:1] == "{")
