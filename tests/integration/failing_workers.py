"""Workers that fail at a named step, all of them forks of one process.

    python -m tests.integration.failing_workers LOGS

reads a line `STEP ACT` for each, and writes its process id; a line with a
process id alone is answered with what became of it. A worker of its own takes
seconds to import what a fork has already.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.integration.failpoints import Act, arm
from worker.embedded.leash import leashed

IMPORTED = (
    "alembic.command",
    "alembic.autogenerate",
    "api_adapters.bas_ip",
    "api_adapters.nimble",
    "celery.apps.worker",
    "celery.backends.redis",
    "celery.bin.celery",
    "celery.concurrency.thread",
    "kombu.transport.redis",
    "sqlalchemy.dialects.sqlite",
    "worker.tasks",
)
ROOT = Path(__file__).parents[2]
_PR_SET_PDEATHSIG = 1
#: What became of a worker of which nothing else was seen yet.
LIVES = "lives"


class FailingWorkers:
    """Starts them; use it in a `with` statement, from one thread."""

    def __init__(self, data_dir: Path, *, environ: Mapping[str, str]) -> None:
        self._logs = data_dir / "logs"
        self._environ = {**environ, "PYTHONPATH": str(ROOT)}

    def __enter__(self) -> Self:
        program = [sys.executable, "-m", "tests.integration.failing_workers", str(self._logs)]
        self._mother = subprocess.Popen(
            leashed(program),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self._logs.parent,
            env=self._environ,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Its children end with it, the frozen ones too.
        self._mother.kill()
        self._mother.communicate()

    def start(self, step: str, act: Act = Act.KILL) -> int:
        """A worker that is armed with a step; its process id."""
        return int(self._ask(f"{step} {act.name}"))

    def fate(self, pid: int) -> str:
        """`lives`, the signal that killed or stopped it, or `ended`."""
        return self._ask(str(pid))

    def _ask(self, line: str) -> str:
        assert self._mother.stdin is not None
        assert self._mother.stdout is not None
        self._mother.stdin.write(f"{line}\n")
        self._mother.stdin.flush()
        return self._mother.stdout.readline().strip()


def main(logs: Path) -> None:
    """Answer until there is no more to read."""
    _import_everything()
    fates: dict[int, str] = {}
    for line in sys.stdin:
        match line.split():
            case [step, act]:
                pid = _fork(step, Act[act], logs / f"{step}.log")
                fates[pid] = LIVES
                answer = str(pid)
            case [number]:
                answer = fates[int(number)] = _fate(int(number), fates[int(number)])
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _import_everything() -> None:
    """What a worker imports until it is ready."""
    for name in IMPORTED:
        import_module(name)
    assert threading.active_count() == 1, "a fork would lack the other threads"


def _fork(step: str, act: Act, log: Path) -> int:
    """Start an armed worker; its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            _become_a_worker(step, act, log)
        finally:
            os._exit(1)
    return pid


def _become_a_worker(step: str, act: Act, log: Path) -> None:
    """Never returns but by the end of the worker."""
    from worker.app import app

    # The wish of its parent's death does not survive a fork, and a process
    # that is stopped hears no milder signal.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    arm(step, act)
    options = ["-n", f"{step}@%h", "--loglevel=INFO", "--without-mingle", "--without-gossip"]
    app.worker_main(["worker", *options])


def _fate(pid: int, known: str) -> str:
    """What became of a child, as far as one can see now."""
    if known not in {LIVES, signal.SIGSTOP.name}:
        return known
    seen, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
    if not seen:
        return known
    if os.WIFSTOPPED(status):
        return signal.Signals(os.WSTOPSIG(status)).name
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return LIVES if os.WIFCONTINUED(status) else "ended"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
