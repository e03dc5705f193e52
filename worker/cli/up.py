"""`up`: the embedded default in the foreground."""

import os
import signal
import time
from datetime import timedelta
from types import FrameType
from typing import Annotated

import typer

from worker.cli.ends import say
from worker.cli.places import ConfigOption, find_places, opened_at
from worker.embedded.commands import child_environ, clock_command, worker_command
from worker.embedded.flower import PORT, USER, choose_password, flower_command
from worker.embedded.processes import Change, Processes, Seen
from worker.embedded.valkey import Valkey
from worker.environment import Environment

GRACE = timedelta(seconds=45)
LOOK_EVERY = 0.5


def up(
    *,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; else one a core.")
    ] = None,
    port: Annotated[int, typer.Option(help="Of Flower, on 127.0.0.1.")] = PORT,
    config: ConfigOption = None,
) -> None:
    """Valkey, workers, clock and Flower in one command, until Ctrl-C."""
    places = find_places(config)
    # A configuration or a store that cannot be used is told here, once.
    with opened_at(places):
        pass
    signal.signal(signal.SIGTERM, _interrupt)
    broker = Valkey(places.data_dir) if places.is_embedded else None
    if broker is not None:
        broker.start()
    try:
        _keep_up(places, broker, workers=workers or os.cpu_count() or 1, port=port)
    except KeyboardInterrupt:
        say("stopped")
    finally:
        if broker is not None:
            broker.stop()


def _keep_up(places: Environment, broker: Valkey | None, *, workers: int, port: int) -> None:
    """Start everything and start again what dies."""
    processes = Processes(places.data_dir, environ=child_environ(os.environ, places))
    password = choose_password(places.flower_password)
    try:
        for number in range(1, workers + 1):
            processes.start(worker_command(number))
        processes.start(clock_command(places.data_dir))
        processes.start(flower_command(password, port=port))
        say(f"{workers} workers and the clock; logs in {places.data_dir / 'logs'}")
        shown = f", password {password}" if places.flower_password is None else ""
        say(f"Flower on http://127.0.0.1:{port}, user {USER}{shown}")
        while True:
            for seen in processes.poll():
                say(_tell(seen))
            if broker is not None:
                broker.ensure()
            time.sleep(LOOK_EVERY)
    finally:
        say("stopping: calls that are out end first; Ctrl-C again does not wait for them")
        if killed := processes.stop(grace=GRACE):
            say(f"did not end within {GRACE.total_seconds():.0f} s: {', '.join(killed)}")


def _tell(seen: Seen) -> str:
    """What happened to a child."""
    match seen.change:
        case Change.DIED:
            return f"{seen.name} ended with {seen.exit_code} and is started again; see {seen.log}"
        case Change.STARTED:
            return f"{seen.name} runs again"


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End on SIGTERM as on Ctrl-C."""
    raise KeyboardInterrupt


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(up)
