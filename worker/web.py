"""The HTTP server of `deletions metrics`: /metrics, /health and /live, and nothing else.

Nobody waits for it longer than a store may hang: a scrape has ten seconds, and
a probe that gives no answer says less than one that says no.
"""

import asyncio
import json
import logging
import signal
from collections.abc import Callable, Iterable
from datetime import timedelta

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from worker.checking import Check, Health
from worker.exporter import states
from worker.patient import Patient

log = logging.getLogger("deletions.web")

PATIENCE = timedelta(seconds=8)


class Web:
    """A server on sockets that are open from the start; port 0 takes a free one."""

    def __init__(
        self,
        collector: Collector,
        examine: Callable[[], Health],
        *,
        host: str,
        port: int,
        patience: timedelta = PATIENCE,
    ) -> None:
        """Raises OSError: the address cannot be used."""
        self._sockets = bind_sockets(port, host)
        self.port: int = self._sockets[0].getsockname()[1]
        collect = Patient(lambda: list(collector.collect()), patience=patience)
        health = Patient(examine, patience=patience)
        self._application = Application(
            [
                ("/metrics", _MetricsPage, {"collect": collect}),
                ("/health", _HealthPage, {"examine": health}),
                ("/live", _LivePage),
            ],
            # Every scrape and probe would be a line.
            log_function=lambda _: None,
        )

    async def run(self, stopped: asyncio.Event) -> None:
        """Serve on the running loop until told to stop."""
        server = HTTPServer(self._application, idle_connection_timeout=60, body_timeout=5)
        server.add_sockets(self._sockets)
        await stopped.wait()
        server.stop()
        await server.close_all_connections()


async def serve(web: Web) -> None:
    """Serve until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
    await web.run(stopped)


class _MetricsPage(RequestHandler):
    def initialize(self, collect: Callable[[], list[Metric]]) -> None:
        self._collect = collect

    async def get(self) -> None:
        """All metrics; a store that hangs is one that is not up."""
        try:
            found = await asyncio.to_thread(self._collect)
        except TimeoutError:
            log.warning("scrape.late", extra={"seconds": PATIENCE.total_seconds()})
            found = list(states(store=False, broker=False))
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Found(found))
        encode, content_type = choose_encoder(self.request.headers.get("Accept", ""))
        self.set_header("Content-Type", content_type)
        self.finish(encode(registry))


class _HealthPage(RequestHandler):
    def initialize(self, examine: Callable[[], Health]) -> None:
        self._examine = examine

    async def get(self) -> None:
        """200 where all is well, else 503; the body tells what was looked at."""
        try:
            health = await asyncio.to_thread(self._examine)
        except TimeoutError:
            health = late()
        self.set_status(200 if health.is_healthy else 503)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(health.as_json()))


class _LivePage(RequestHandler):
    def get(self) -> None:
        """This process answers; nothing is looked at."""
        self.set_header("Content-Type", "text/plain")
        self.finish("alive\n")


class _Found(Collector):
    """What was collected already."""

    def __init__(self, found: list[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        """The same."""
        return self._found


def late() -> Health:
    """What is told of a store or a broker that keeps silent."""
    said = f"no answer within {PATIENCE.total_seconds():.0f} s"
    return Health((Check("store", is_ok=False, message=said, is_away=True),))
