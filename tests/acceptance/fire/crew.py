"""The workers and the clock, as processes that a service manager looks after."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from worker.embedded.commands import clock_command, worker_command
from worker.embedded.leash import leashed
from worker.embedded.processes import Command

CLOCK = "clock"
#: A service manager starts again what ended by itself after so many seconds.
_RESTART_AFTER = 1.0
_ENDING_TAKES = 40.0
#: Our own words for what nobody expected, and Celery's for the end of a worker.
_NEVER_LOGGED = (
    "look.broke",
    "task.broke",
    "adapter.broke",
    "job.unsettled",
    "Unrecoverable error",
    "message.dropped",
)


@dataclass(slots=True)
class _Member:
    command: Command
    process: "subprocess.Popen[bytes] | None" = None
    is_frozen: bool = False
    #: We asked it to end, or killed it.
    is_dismissed: bool = True
    restart_at: float | None = None


class Crew:
    """Starts, kills, freezes and thaws; call it from the thread that made it.

    The kernel ends a process when the *thread* that started it has gone.
    """

    def __init__(self, data_dir: Path, *, workers: int, environ: Mapping[str, str]) -> None:
        commands = [worker_command(number) for number in range(1, workers + 1)]
        commands.append(clock_command(data_dir))
        self._members = {command.name: _Member(command) for command in commands}
        self._data_dir = data_dir
        self._environ = environ
        (data_dir / "logs").mkdir(mode=0o700, exist_ok=True)
        #: (name, exit code) of those that ended by themselves.
        self.deserted: list[tuple[str, int]] = []

    @property
    def workers(self) -> list[str]:
        """The workers that live and are not frozen."""
        return [
            name
            for name, member in self._members.items()
            if name != CLOCK and self.lives(name) and not member.is_frozen
        ]

    def lives(self, name: str) -> bool:
        """Whether a process is there."""
        process = self._members[name].process
        return process is not None and process.poll() is None

    def start_all(self) -> None:
        """Start those that are not there."""
        for name in self._members:
            self.start(name)

    def start(self, name: str) -> None:
        """Start one, if it is not there."""
        member = self._members[name]
        if self.lives(name):
            return
        with (self._data_dir / "logs" / f"{name}.log").open("ab") as log:
            member.process = subprocess.Popen(
                leashed(list(member.command.arguments)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._data_dir,
                env={**self._environ, **member.command.variables},
                start_new_session=True,
                umask=0o077,
            )
        member.is_frozen = member.is_dismissed = False
        member.restart_at = None

    def kill(self, name: str) -> None:
        """kill -9."""
        member = self._members[name]
        member.is_dismissed, member.is_frozen, member.restart_at = True, False, None
        if member.process is not None:
            member.process.kill()
            member.process.wait()

    def kill_all(self) -> None:
        """kill -9 of everybody, the frozen too."""
        for name in self._members:
            self.kill(name)

    def terminate(self, name: str) -> None:
        """Ask one to end; see `lives`."""
        self._members[name].is_dismissed = True
        self._signal(name, signal.SIGTERM)

    def freeze(self, name: str) -> None:
        """SIGSTOP: it does nothing, and nobody is told."""
        self._members[name].is_frozen = True
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT: it goes on where it was, without knowing that time has passed."""
        self._members[name].is_frozen = False
        self._signal(name, signal.SIGCONT)

    def thaw_all(self) -> None:
        """Let everybody go on."""
        for name, member in self._members.items():
            if member.is_frozen:
                self.thaw(name)

    def look_after(self) -> None:
        """Start again who ended without being asked to, as a service manager does."""
        now = time.monotonic()
        for name, member in self._members.items():
            if member.is_dismissed or member.process is None or member.process.poll() is None:
                continue
            if member.restart_at is None:
                self.deserted.append((name, member.process.returncode))
                member.restart_at = now + _RESTART_AFTER
            elif now >= member.restart_at:
                self.start(name)

    def end(self) -> list[str]:
        """Ask all to end; the names of those that had to be killed."""
        until = time.monotonic() + _ENDING_TAKES
        self.thaw_all()
        for name in self._members:
            self.terminate(name)
        while any(map(self.lives, self._members)) and time.monotonic() < until:
            time.sleep(0.02)
        stubborn = [name for name in self._members if self.lives(name)]
        self.kill_all()
        return stubborn

    def logs(self) -> dict[str, str]:
        """What every process has logged, by name."""
        paths = sorted((self._data_dir / "logs").glob("*.log"))
        return {path.stem: path.read_text(errors="replace") for path in paths}

    def complaints(self) -> list[str]:
        """What must never be in a log, whatever is broken."""
        return [
            f"{name}: {text.count(word)}x {word}"
            for name, text in self.logs().items()
            for word in _NEVER_LOGGED
            if word in text
        ]

    def _signal(self, name: str, signum: int) -> None:
        process = self._members[name].process
        if process is not None and process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signum)
