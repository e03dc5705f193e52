"""A person at a terminal: the command as a real process, in a folder of its own.

with Terminal({"monitor": Monitor(items=100)}) as terminal:
    ended = terminal.run("jobs")
"""

import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from api_adapters.fakes.bas_ip import PASSWORD
from api_adapters.fakes.base import Practice
from api_adapters.fakes.server import PracticeServer, open_practice
from tests.forked import Ended, run_command
from tests.integration.service import need_a_server, wait_until
from tests.opened import Opened
from worker.environment import CONFIGURATION, DATA_DIR

COMMAND = Path(sys.executable).with_name("deletions")

#: Every process that a terminal has started has this in its environment.
_MARK = "DELETIONS_ACCEPTANCE"
_SECRET = "MONITOR_PASSWORD"


@dataclass(frozen=True, slots=True)
class Monitor:
    """A practice monitor and what the configuration says of it."""

    items: int = 0
    seed: int = 0
    misbehave: str = ""
    #: Seconds that each call takes.
    latency: float = 0
    options: str = ""


class Terminal(Opened):
    """One folder with a configuration, practice monitors, and commands in it.

    What it started has ended when it is left, and the folder is gone.
    """

    def __init__(self, monitors: Mapping[str, Monitor] | None = None, *, more: str = "") -> None:
        self._monitors = {"monitor": Monitor()} if monitors is None else monitors
        self._more = more
        super().__init__()
        self.practices: dict[str, Practice] = {}
        self._started: list[subprocess.Popen[bytes]] = []

    def _open(self, opened: ExitStack) -> None:
        need_a_server()
        # A short path: a Unix socket's is at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="cli-", dir="/tmp"))
        opened.callback(shutil.rmtree, self.folder)
        opened.callback(self._end_all)
        self.data_dir = self.folder / "data"
        self.configuration = self.folder / "deletions.toml"
        self.environ = {
            **{name: value for name, value in os.environ.items() if "DELETIONS_" not in name},
            "COLUMNS": "200",
            "TERM": "xterm",
            CONFIGURATION: str(self.configuration),
            DATA_DIR: str(self.data_dir),
            _MARK: str(self.folder),
            _SECRET: PASSWORD,
        }
        tables = [
            self._open_monitor(opened, name, monitor) for name, monitor in self._monitors.items()
        ]
        self.configuration.write_text("\n".join([*tables, self._more]))

    @property
    def practice(self) -> Practice:
        """The backend of the first monitor; its items are `ids` of its seed."""
        return next(iter(self.practices.values()))

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        environ: Mapping[str, str] | None = None,
        timeout: float = 90,
    ) -> Ended:
        """Run a command to its end, with files all around."""
        return run_command(
            arguments,
            folder=self.folder,
            environ={**self.environ, **(environ or {})},
            stdin=stdin,
            timeout=timeout,
        )

    def start(
        self,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> "subprocess.Popen[bytes]":
        """Start a command."""
        # Who was started in the background has SIGINT ignored, and so would we.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(
            [str(COMMAND), *arguments],
            cwd=self.folder,
            env={**self.environ, **(environ or {})},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def type(self, *arguments: str, keys: str = "", timeout: float = 90) -> Ended:
        """Run a command on a terminal that shows its standard error; `keys` are typed."""
        ours, theirs = pty.openpty()
        with os.fdopen(ours, "r+b", buffering=0) as keyboard:
            process = self.start(*arguments, stdin=theirs, stderr=theirs)
            os.close(theirs)
            keyboard.write(keys.encode())
            shown = bytearray()
            # Linux says EIO when the last process that has the terminal is gone.
            with suppress(OSError):
                while part := keyboard.read(65_536):
                    shown += part
            out, _ = process.communicate(timeout=timeout)
        return Ended(process.returncode, out.decode(), shown.decode())

    def processes(self) -> dict[int, str]:
        """What was started from here and lives, by process id."""
        mark = f"{_MARK}={self.folder}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        line = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                        found[int(entry.name)] = os.fsdecode(line)
        return found

    def logs(self) -> str:
        """What every process has logged, for people."""
        paths = sorted((self.data_dir / "logs").iterdir())
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in paths)

    def ids(self, count: int, *, seed: int = 0) -> list[str]:
        """The first ids of a monitor of that seed."""
        return self.practice.ids(count, seed=seed)

    def file(self, name: str, content: str | bytes) -> str:
        """A file in the folder; its path."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def _open_monitor(self, opened: ExitStack, name: str, monitor: Monitor) -> str:
        practice = open_practice(
            "bas_ip",
            items=monitor.items,
            seed=monitor.seed,
            misbehave=monitor.misbehave,
            latency=monitor.latency,
        )
        server = opened.enter_context(PracticeServer(practice))
        self.practices[name] = practice
        return "\n".join(
            [
                f"[targets.{name}]",
                'adapter = "bas_ip"',
                f'base_url = "{server.base_url}"',
                'username = "admin"',
                f'password = {{ env = "{_SECRET}" }}',
                monitor.options,
            ]
        )

    def _end_all(self) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.processes())
        for process in self._started:
            # What a test that failed has not read is closed here.
            with process:
                pass


def finish(
    process: "subprocess.Popen[bytes]", *, stdin: bytes | None = None, timeout: float = 90
) -> Ended:
    """Wait for the end of a command."""
    try:
        out, err = process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"the command does not end; it said:\n{err.decode()}\n{out.decode()[-2000:]}")
    return Ended(process.returncode, out.decode(), err.decode())


@contextmanager
def service(terminal: Terminal, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
    """`deletions up` with one worker, once that answers; it is stopped afterwards."""
    shown = terminal.folder / "up.log"
    with shown.open("wb") as log:
        arguments = ("up", "--workers=1", *options)
        process = terminal.start(*arguments, stdout=log.fileno(), stderr=log.fileno())
    try:
        worker_log = terminal.data_dir / "logs" / "worker1.log"
        wait_until(
            lambda: (
                process.poll() is not None
                or (worker_log.exists() and " ready." in worker_log.read_text())
            ),
        )
        assert process.poll() is None, shown.read_text()
        yield process
    finally:
        process.terminate()
        process.wait(60)
        said = shown.read_text()
        if "did not end" in said or "Traceback" in said:
            pytest.fail(said + terminal.logs())
