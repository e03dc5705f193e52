"""Processes of one run: each in a session of its own, bounded, and ended by its id."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from tests.benchmarks.measures import peak_mib, pids_of_session
from worker.embedded.leash import leashed

_LOOK_AGAIN = 0.01


class ChildFailed(Exception):
    """A process ended as it should not, or did not end in time; with what it said."""


class Child:
    """One process, what it prints, and whether it may start."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", folder: Path) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        #: What it printed.
        self.out = folder / f"{name}.out"
        self._log = folder / f"{name}.log"

    @property
    def is_up(self) -> bool:
        """Whether it lives."""
        return self._process.poll() is None

    @property
    def peak_mib(self) -> float:
        """The most memory that it, or any one process that it started, has had at once."""
        return max((peak_mib(pid) for pid in pids_of_session(self.pid)), default=0)

    def says(self, *, timeout: float = 60) -> dict[str, Any]:
        """Its first line, once it is there."""
        until = time.monotonic() + timeout
        while b"\n" not in (said := self.out.read_bytes()):
            if not self.is_up or time.monotonic() > until:
                raise self.failure("said nothing")
            time.sleep(_LOOK_AGAIN)
        return _read(said.splitlines()[0])

    def go(self) -> None:
        """Let it begin: it waits for a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def result(self, *, timeout: float, check: Callable[[], None]) -> dict[str, Any]:
        """Its last line, once it has ended in order. Raises ChildFailed."""
        for _ in self.ending(timeout=timeout):
            check()
        return _read(self.out.read_bytes().splitlines()[-1])

    def ending(self, *, timeout: float) -> Iterator[None]:
        """Yield again and again until it has ended in order.

        Raises:
            ChildFailed: it ended otherwise, or did not end in time.
        """
        until = time.monotonic() + timeout
        while self.is_up:
            yield
            if time.monotonic() > until:
                raise self.failure(f"did not end within {timeout:.0f} s")
            time.sleep(_LOOK_AGAIN)
        if self._process.returncode:
            raise self.failure(f"ended with {self._process.returncode}")

    def failure(self, what: str) -> ChildFailed:
        """What went wrong, with the end of its log."""
        said = self._log.read_text(errors="replace")[-3000:]
        return ChildFailed(f"{self.name} {what}\n{said}")

    def kill(self) -> None:
        """End it and all that it started."""
        # The number of one that has ended may be somebody else's by now.
        if self.is_up:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()


class Children:
    """All processes of a run; start and end them from one thread, the one that lives longest."""

    def __init__(self, folder: Path, *, environ: Mapping[str, str]) -> None:
        folder.mkdir()
        self._folder = folder
        self.environ = dict(environ)
        self._lasting: list[Child] = []
        self._all: list[Child] = []

    def start(self, name: str, *command: str, **variables: str) -> Child:
        """Start a process that is to last as long as the run."""
        child = self._start(name, command, variables, stdin=subprocess.DEVNULL)
        self._lasting.append(child)
        return child

    def start_driver(self, name: str, *command: str, **variables: str) -> Child:
        """Start a process that says when it is ready, is told to go, and ends by itself."""
        return self._start(name, command, variables, stdin=subprocess.PIPE)

    def check(self) -> None:
        """See that whatever is to last is there. Raises ChildFailed."""
        for child in self._lasting:
            if not child.is_up:
                raise child.failure("ended")

    def end(self) -> None:
        """End all of them at once: nothing that they hold is needed any more."""
        for child in reversed(self._all):
            child.kill()
        self._all.clear()
        self._lasting.clear()

    def _start(
        self, name: str, command: tuple[str, ...], variables: Mapping[str, str], *, stdin: int
    ) -> Child:
        name = f"{name}-{len(self._all)}"
        with self._open(f"{name}.out") as out, self._open(f"{name}.log") as log:
            process = subprocess.Popen(
                leashed(list(command)),
                stdin=stdin,
                stdout=out,
                stderr=log,
                cwd=self._folder,
                env={**self.environ, **variables},
                start_new_session=True,
            )
        child = Child(name, process, self._folder)
        self._all.append(child)
        return child

    def _open(self, name: str) -> IO[bytes]:
        return (self._folder / name).open("xb")


def _read(line: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(line)
    return value


def waiting(*, seconds: float, check: Callable[[], None]) -> Iterator[None]:
    """Yield again and again until the time is over, `check` being asked in between.

    Raises:
        ChildFailed: the time is over.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield
        check()
        time.sleep(_LOOK_AGAIN)
    raise ChildFailed(f"it did not come true within {seconds:.0f} s")
