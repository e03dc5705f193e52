"""The command, forked from a process that has imported what every command needs.

Starting Python and importing takes a command a second of CPU, most of what it
takes in all. A fork is a process of its own all the same: its files, folder,
environment, arguments, signals and end are its own.

    python -m tests.forked DESCRIPTOR
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import pytest

#: What a request may take: arguments and environment.
_LARGEST = 2**20
#: The three standard streams, and where the answers go.
_DESCRIPTORS = 4
#: Room for a number.
_SHORTEST = 64


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Its output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


def run_command(
    arguments: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str],
    stdin: bytes = b"",
    timeout: float = 90,
) -> Ended:
    """Run the command to its end, with files as its standard streams."""
    with ExitStack() as opened:
        given, out, err = (opened.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        given.write(stdin)
        given.seek(0)
        answers = opened.enter_context(_fork(arguments, folder, environ, (given, out, err)))
        pid = int(answers.recv(_SHORTEST))
        answers.settimeout(timeout)
        try:
            code = int(answers.recv(_SHORTEST))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            pytest.fail(f"the command does not end; it said:\n{_read(err)}\n{_read(out)}")
        return Ended(code, _read(out), _read(err))


def _read(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode()


def _fork(
    arguments: Sequence[str],
    folder: Path,
    environ: Mapping[str, str],
    streams: Sequence[BinaryIO],
) -> socket.socket:
    """Have the command run; where its id is told and, when it has ended, its exit code."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    request = {"arguments": [*arguments], "folder": str(folder), "environ": dict(environ)}
    with theirs:
        passed = [*(one.fileno() for one in streams), theirs.fileno()]
        socket.send_fds(_mother(), [json.dumps(request).encode()], passed)
    return ours


@cache
def _mother() -> socket.socket:
    """The line to the process that forks; it ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def _serve(line: socket.socket) -> None:
    """Fork for every request until nobody is there to ask."""
    # Nobody here waits for those who wait for the commands.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        read, passed, _, _ = socket.recv_fds(line, _LARGEST, _DESCRIPTORS)
        if not read:
            return
        if os.fork() == 0:
            line.close()
            _run(json.loads(read), passed)
        for descriptor in passed:
            os.close(descriptor)


def _run(request: Mapping[str, Any], passed: list[int]) -> NoReturn:
    """Fork the command, tell its id and, when it has ended, its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, answers = passed
    if pid := os.fork():
        for descriptor in streams:
            os.close(descriptor)
        told = socket.socket(fileno=answers)
        told.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        told.send(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    os.close(answers)
    os.setsid()
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.argv = ["deletions", *request["arguments"]]
    from worker.cli import main

    # As the command on the path does: what it returns is nothing.
    sys.exit(main())


def _import() -> None:
    """What the commands import when they are built and when they open a store."""
    import psycopg
    import sqlalchemy.dialects.postgresql.psycopg
    import sqlalchemy.dialects.sqlite.pysqlite

    import worker.assembly
    import worker.cli.entry

    del psycopg, sqlalchemy, worker


if __name__ == "__main__":
    _import()
    _serve(socket.socket(fileno=int(sys.argv[1])))
