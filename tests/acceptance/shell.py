"""A person who has installed the package, in an empty folder.

with shell() as person:
    person.run("deletions init")
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from uuid import uuid4

import pytest

from tests.integration.service import need_a_server, wait_until
from worker.cli import main

_COMMANDS = Path(sys.executable).parent


@dataclass
class Shell:
    """A shell in a folder of its own; what it starts ends with it."""

    folder: Path
    environ: dict[str, str]
    started: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def run(self, line: str, *, code: int = 0) -> str:
        """Run a line to its end and see that it ends with that code; its output."""
        ended = subprocess.run(
            shlex.split(line),
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert ended.returncode == code, f"{line}\n{ended.stdout}{ended.stderr}"
        assert "Traceback" not in ended.stderr, ended.stderr
        return ended.stdout

    def type(self, line: str, *, code: int = 0) -> str:
        """Run a line of ours in this process, which takes a tenth of the time; its output."""
        said = StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
            for name in os.environ.keys() - self.environ.keys():
                patch.delenv(name)
            for name, value in self.environ.items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            patch.syspath_prepend(self.folder)
            patch.setattr(sys, "argv", shlex.split(line))
            with pytest.raises(SystemExit) as ended:
                main()
        assert (ended.value.code or 0) == code, f"{line}\n{said.getvalue()}"
        return said.getvalue()

    def start(self, line: str, *, cwd: Path | None = None) -> Path:
        """Start what stays; the file that it writes to."""
        shown = self.folder / f"{len(self.started)}.log"
        with shown.open("wb") as log:
            self.started.append(
                subprocess.Popen(
                    shlex.split(line),
                    cwd=cwd or self.folder,
                    env=self.environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
        return shown

    def wait(self, shown: Path, text: str) -> None:
        """Wait until what was started has written a text."""
        wait_until(
            lambda: (
                self.started[-1].poll() is not None
                or (shown.exists() and text in shown.read_text())
            ),
        )
        assert text in shown.read_text(), shown.read_text()

    def script(self, text: str, *arguments: str) -> str:
        """Run a Python program; its output."""
        path = self.folder / f"{uuid4()}.py"
        path.write_text(text)
        return self.run(shlex.join(["python", "-W", "error", str(path), *arguments]))

    def end(self) -> None:
        """End what is running."""
        for process in self.started:
            process.send_signal(signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


@contextmanager
def shell() -> Iterator[Shell]:
    """An empty folder, and an environment that knows nothing of us but the command."""
    need_a_server()
    folder = Path(tempfile.mkdtemp(prefix="readme-", dir="/tmp"))
    ours = ("DELETIONS_", "FLOWER_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environ["PATH"] = f"{_COMMANDS}{os.pathsep}{environ['PATH']}"
    # People install the package; here it lies in a checkout.
    paths = [str(folder), *filter(None, [environ.get("PYTHONPATH")])]
    opened = Shell(folder, {**environ, "PYTHONPATH": os.pathsep.join(paths)})
    try:
        yield opened
    finally:
        opened.end()
        shutil.rmtree(folder)
