"""The server of metrics and probes answers in time, whatever hangs behind it."""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.client import HTTPConnection
from threading import Event, Thread

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from worker.checking import Check, Health
from worker.web import Web

WELL = Health((Check("store", is_ok=True, message="it answers"),))
ILL = Health((Check("clock", is_ok=False, message="it is late"),))


class Fixed(Collector):
    """Collects one gauge, once it may."""

    def __init__(self, may: Callable[[], object] = lambda: None) -> None:
        self._may = may

    def collect(self) -> Iterable[Metric]:
        self._may()
        return [GaugeMetricFamily("deletions_things", "Things.", value=3)]


@contextmanager
def served(
    collector: Collector, examine: Callable[[], Health] = lambda: WELL
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """How to get a page: its status, content type and body."""
    web = Web(collector, examine, host="127.0.0.1", port=0, patience=timedelta(milliseconds=200))
    stopped, loops = asyncio.Event(), []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        await web.run(stopped)

    thread = Thread(target=lambda: asyncio.run(run()))
    thread.start()

    def get(path: str, *, accept: str = "*/*") -> tuple[int, str, str]:
        connection = HTTPConnection("127.0.0.1", web.port, timeout=20)
        try:
            connection.request("GET", path, headers={"Accept": accept})
            answer = connection.getresponse()
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
        finally:
            connection.close()

    try:
        yield get
    finally:
        loops[0].call_soon_threadsafe(stopped.set)
        thread.join()


def test_metrics_are_served_in_the_form_that_is_asked_for() -> None:
    with served(Fixed()) as get:
        status, kind, body = get("/metrics")
        _, other_kind, other = get("/metrics", accept="application/openmetrics-text")

    assert (status, "deletions_things 3.0" in body) == (200, True)
    assert kind.startswith("text/plain")
    assert other_kind.startswith("application/openmetrics-text")
    assert other.endswith("# EOF\n")


def test_a_store_that_hangs_is_not_up_and_holds_nobody() -> None:
    released = Event()
    with served(
        Fixed(lambda: released.wait(20)), lambda: WELL if released.wait(20) else ILL
    ) as get:
        for _ in range(3):
            status, _, body = get("/metrics")
            assert (status, "deletions_up 0.0" in body) == (200, True)
        status, _, body = get("/health")
        assert (status, json.loads(body)["healthy"]) == (503, False)
        assert get("/live")[0] == 200
        released.set()


def test_health_is_told_by_status_and_body() -> None:
    with served(Fixed()) as get:
        status, kind, body = get("/health")
    with served(Fixed(), lambda: ILL) as get:
        ill = get("/health")

    assert (status, kind, json.loads(body)) == (200, "application/json", WELL.as_json())
    assert (ill[0], json.loads(ill[2])) == (503, ILL.as_json())


def test_nothing_else_is_served() -> None:
    with served(Fixed()) as get:
        assert get("/")[0] == 404
        assert get("/metrics/../health?x=1")[0] == 404
