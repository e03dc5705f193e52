"""The server of deploy/redis: started by its own entrypoint, as compose starts it."""

import os
import shutil
import socket
import tempfile
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path

import redis

from tests.deploy.written import DEPLOY, composed
from tests.integration.service import need_a_server, wait_until
from tests.opened import Opened
from worker.embedded.processes import Command, Processes
from worker.embedded.valkey import find_server

#: The administrator is a user of these tests alone.
PASSWORDS = {
    "submitter": "submitters-password",
    "worker": "workers-password",
    "clock": "clocks-password",
    "flower": "flowers-password",
}


class RedisServer(Opened):
    """Listens on a free port of the loopback interface; use it in a `with` statement."""

    def __init__(self, **variables: str) -> None:
        super().__init__()
        self._variables = variables
        self.port = free_port()

    def _open(self, opened: ExitStack) -> None:
        need_a_server()
        self._directory = Path(tempfile.mkdtemp(prefix="redis-", dir="/tmp"))
        opened.callback(shutil.rmtree, self._directory)
        processes = Processes(self._directory, environ={"PATH": self._path()})
        opened.callback(processes.stop, grace=timedelta(seconds=10))
        self.pid = processes.start(self._command())
        wait_until(self._answers)

    def url(self, user: str, *, database: int = 0) -> str:
        """Where a user of the file comes in."""
        password = PASSWORDS.get(user, user)
        return f"redis://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def client(self, user: str = "administrator", *, database: int = 0) -> "redis.Redis[str]":
        """A connection of a user; to be closed."""
        return redis.Redis.from_url(self.url(user, database=database), decode_responses=True)

    def _command(self) -> Command:
        """What compose starts, with places and the port of this test."""
        given = {f"{user.upper()}_PASSWORD": password for user, password in PASSWORDS.items()}
        written = composed({**given, **self._variables})["redis"]
        entrypoint, *command = (
            one.replace("/etc/redis", str(DEPLOY / "redis")) for one in written.arguments
        )
        acl = self._directory / "users.acl"
        places = ("--dir", str(self._directory), "--aclfile", str(acl))
        here = ("--port", str(self.port), "--bind", "127.0.0.1", "--acllog-max-len", "1000")
        variables = {
            **written.variables,
            "ACL_TEMPLATE": str(self._template()),
            "ACL_FILE": str(acl),
        }
        return Command("redis", (entrypoint, *command, *places, *here), variables=variables)

    def _template(self) -> Path:
        """The file, and an administrator to look with."""
        path = self._directory / "template.acl"
        shipped = (DEPLOY / "redis" / "users.acl").read_text()
        path.write_text(f"{shipped}\nuser administrator on >administrator ~* &* +@all\n")
        return path

    def _path(self) -> str:
        """The server under the name that its image gives it."""
        (self._directory / "valkey-server").symlink_to(find_server())
        return f"{self._directory}{os.pathsep}{os.environ.get('PATH', os.defpath)}"

    def _answers(self) -> bool:
        try:
            with closing(self.client()) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def log(self) -> str:
        """What it has said."""
        return (self._directory / "logs" / "redis.log").read_text()


def free_port() -> int:
    """A port that nobody has just now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
