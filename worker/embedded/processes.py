"""Starts child processes, brings back those that die, and takes all of them along at the end."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from pathlib import Path
from typing import IO

from worker.embedded.leash import leashed

FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=30)
#: A child that has run this long is in order; its next pause is the first again.
SOUND_AFTER = timedelta(minutes=1)

_LARGEST_LOG = 10 * 1024 * 1024
_LOOK_AGAIN = 0.02


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, under which name, and what its environment has beside ours."""

    name: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)


class Change(Enum):
    """What was seen of a child."""

    DIED = auto()  #: it ended without being asked to
    STARTED = auto()  #: it was started again


@dataclass(frozen=True, slots=True)
class Seen:
    """A change of one child, for the log and for people."""

    name: str
    change: Change
    exit_code: int | None = None
    log: Path | None = None


@dataclass(slots=True)
class _Child:
    command: Command
    process: "subprocess.Popen[bytes]"
    started_at: float
    pause: timedelta = FIRST_PAUSE
    #: Set while it is dead and waits to be started again.
    start_at: float | None = None


class Processes:
    """The children of this process.

    All methods are called from one thread that lives as long as the process:
    the kernel ends a child when the *thread* that started it has gone. Ctrl-C
    reaches only us, and each child logs to `<data dir>/logs/NAME.log`.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._data_dir = data_dir
        self._environ = environ
        self._clock = clock
        self._children: dict[str, _Child] = {}

    def start(self, command: Command) -> int:
        """Start a child under a name that is not taken; returns its process id."""
        if command.name in self._children:
            raise ValueError(f"a child named '{command.name}' is there already")
        process = self._spawn(command)
        self._children[command.name] = _Child(command, process, self._clock())
        return process.pid

    def poll(self) -> list[Seen]:
        """Look after the children: returns at once, with what has changed.

        A child that died is started again by a later call, after a pause that
        grows with each death.
        """
        seen = []
        for child in self._children.values():
            if child.start_at is None:
                if child.process.poll() is not None:
                    seen.append(self._note_death(child))
            elif self._clock() >= child.start_at:
                child.process = self._spawn(child.command)
                child.started_at, child.start_at = self._clock(), None
                seen.append(Seen(child.command.name, Change.STARTED))
        return seen

    def pids(self) -> dict[str, int]:
        """The process ids of the living, by name."""
        return {
            name: child.process.pid
            for name, child in self._children.items()
            if child.process.poll() is None
        }

    def stop(self, *, grace: timedelta) -> list[str]:
        """Ask all to finish, wait for `grace`, then kill; returns the names of the killed.

        An interruption of the wait, such as a second Ctrl-C, kills at once.
        """
        until = time.monotonic() + grace.total_seconds()
        try:
            for child in self._children.values():
                child.process.terminate()
            while self.pids() and time.monotonic() < until:
                time.sleep(_LOOK_AGAIN)
        finally:
            killed = list(self.pids())
            for child in self._children.values():
                child.process.kill()
                child.process.wait()
            self._children.clear()
        return killed

    def _note_death(self, child: _Child) -> Seen:
        now = self._clock()
        if now - child.started_at >= SOUND_AFTER.total_seconds():
            child.pause = FIRST_PAUSE
        child.start_at = now + child.pause.total_seconds()
        child.pause = min(child.pause * 2, LONGEST_PAUSE)
        name = child.command.name
        return Seen(name, Change.DIED, child.process.returncode, self._log_path(name))

    def _spawn(self, command: Command) -> "subprocess.Popen[bytes]":
        with self._open_log(command.name) as log:
            return subprocess.Popen(
                leashed(list(command.arguments)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Not where we were started: Celery puts its working directory
                # first in the path, and an application has a `worker` of its own.
                cwd=self._data_dir,
                env={**self._environ, **command.variables},
                start_new_session=True,
                umask=0o077,
            )

    def _open_log(self, name: str) -> IO[bytes]:
        path = self._log_path(name)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if path.exists() and path.stat().st_size > _LARGEST_LOG:
            path.replace(path.with_suffix(".log.1"))
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")

    def _log_path(self, name: str) -> Path:
        return self._data_dir / "logs" / f"{name}.log"
