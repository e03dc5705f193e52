"""The Celery app: `celery -A worker.app worker|beat|flower` work as everyone expects.

Importing it does nothing; the environment is read when Celery first asks for
its configuration.
"""

import logging
import os
import sys
from typing import Any

from celery import Celery
from celery.signals import (
    after_setup_logger,
    after_setup_task_logger,
    beat_init,
    celeryd_init,
    worker_process_init,
)
from celery.utils.log import get_multiprocessing_logger
from kombu import Queue

from worker.assembly import read_places
from worker.checking import CLOCK_TICKS_EVERY
from worker.embedded.valkey import Valkey
from worker.envelopes import read_envelopes_carefully
from worker.environment import Environment, LogFormat, make_data_dir
from worker.errors import BadConfiguration
from worker.listener import Listener
from worker.logs import begin, shape
from worker.quiet import read_plain_json
from worker.redis_clients import ask_for_less
from worker.taking import Taker

#: Public tasks and planning; control never waits behind work.
CONTROL_QUEUE = "deletions"
#: Bells: "there is work on this target".
BELL_QUEUE = "deletions.bells"
#: Threads of one worker process, unless `-c` says otherwise. They wait for
#: backends most of the time.
THREADS = 32

#: How the clock's messages are sent. Clocks of two hosts may differ by some
#: seconds, so a tick lives for longer than its interval.
TICK: dict[str, Any] = {"queue": CONTROL_QUEUE, "expires": 60}

WRONG_CONFIGURATION = 2

_CELERYS_OWN = (
    "CELERY_BROKER_URL",
    "CELERY_BROKER_READ_URL",
    "CELERY_BROKER_WRITE_URL",
    "CELERY_RESULT_BACKEND",
)


def _configure() -> dict[str, Any]:
    """Every setting, with its reason."""
    places = _places()
    # Celery would let these win over every setting: an application's own broker
    # is not where our messages are.
    for name in _CELERYS_OWN:
        os.environ.pop(name, None)
    # Bounded sockets: without them a half-open connection hangs for ever.
    transport = {
        "socket_timeout": 5,
        "socket_connect_timeout": 3,
        "health_check_interval": 5,
        # A carrier whose worker died is delivered again after this. Carriers
        # take seconds, and repeating one is safe.
        "visibility_timeout": 60,
    }
    # A Unix socket has nothing to keep alive, and redis-py refuses the option.
    is_tcp = not places.result_backend_url.startswith("redis+socket:")
    if not places.broker_url.startswith("redis+socket:"):
        transport["socket_keepalive"] = True
    return {
        "broker_url": places.broker_url,
        "result_backend": places.result_backend_url,
        "broker_transport_options": transport,
        "result_backend_transport_options": {"visibility_timeout": 60},
        "redis_socket_timeout": 5,
        "redis_socket_connect_timeout": 3,
        "redis_socket_keepalive": is_tcp,
        "redis_backend_health_check_interval": 5,
        # An answer whose connection broke is given on another one; otherwise
        # its sender would be told that what was done has failed.
        "result_backend_always_retry": True,
        "result_backend_max_retries": 3,
        # A worker waits for its broker, however long it is away.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # Calls are network waits, so threads; `-P` and `-c` still win.
        "worker_pool": "threads",
        "worker_concurrency": THREADS,
        # A bell that lies in a worker's memory is one that nobody answers.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        # The lease alone gives work back: a deletion is never cut in half and
        # run again because a connection was lost.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "task_acks_late": False,
        "task_reject_on_worker_lost": False,
        # Flower sees what happens; what is shown of it, `quiet` decides.
        "worker_send_task_events": True,
        "task_send_sent_event": False,
        "worker_consumer": "worker.quiet:QuietConsumer",
        "task_ignore_result": True,
        # An answer that nobody fetched within a minute was not waited for.
        "result_expires": 60,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "task_default_queue": CONTROL_QUEUE,
        "task_queues": (Queue(CONTROL_QUEUE), Queue(BELL_QUEUE)),
        "task_routes": {"deletions.execute": {"queue": BELL_QUEUE}},
        # What is due is decided in the store; the clock only says when to look.
        # A tick that no worker heard in time is one of many: the next one does.
        "beat_schedule": {
            "purge": {
                "task": "deletions.purge",
                "schedule": CLOCK_TICKS_EVERY.total_seconds(),
                "options": TICK,
            },
            "prune": {"task": "deletions.prune", "schedule": 3600.0, "options": TICK},
        },
        "worker_redirect_stdouts": False,
        "enable_utc": True,
        "timezone": "UTC",
        # One state file a clock, never in the working directory.
        "beat_schedule_filename": str(places.data_dir / "clock-schedule"),
    }


def _places() -> Environment:
    """Where everything is; a faulty environment ends the program with one message."""
    try:
        return read_places(os.environ)
    except BadConfiguration as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(WRONG_CONFIGURATION) from error


app = Celery(
    "deletions",
    include=["worker.tasks"],
    events="worker.dispatcher:PromptEvents",
    set_as_current=False,
)
app.add_defaults(_configure)
app.steps["consumer"].add(Listener)
app.steps["consumer"].add(Taker)


@after_setup_logger.connect
@after_setup_task_logger.connect
def _shape_logs(logger: logging.Logger, **_: Any) -> None:
    """One line a record, of ours and of Celery's."""
    shape(logger.handlers, _places().log_format)
    shape(get_multiprocessing_logger().handlers, _places().log_format)


@celeryd_init.connect
def _start_worker(instance: Any, **_: Any) -> None:
    """What a worker needs before it connects."""
    # What is said before Celery has set up its logging, and replaced this.
    begin(_places().log_format)
    # Celery's banner is no record: a program that reads the lines would trip over it.
    instance.quiet = instance.quiet or _places().log_format is LogFormat.JSON
    read_plain_json()
    read_envelopes_carefully()
    ask_for_less()
    _start_embedded()


@beat_init.connect
def _start_clock(**_: Any) -> None:
    """What the clock needs before it connects."""
    _start_embedded()


@worker_process_init.connect
def _start_child(**_: Any) -> None:
    """A child of another pool than that of threads reads messages alike."""
    read_plain_json()
    read_envelopes_carefully()
    ask_for_less()


#: The embedded server, held for as long as this process lives.
_held: list[Valkey] = []


def _start_embedded() -> None:
    """Start the bundled server where no broker is configured."""
    places = _places()
    if places.is_embedded and not _held:
        server = Valkey(make_data_dir(places.data_dir))
        server.start()
        _held.append(server)
