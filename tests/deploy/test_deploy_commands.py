"""The very commands of deploy/ run: one deployment of all that compose, systemd and Kubernetes say.

Read out of the files, each with the environment that its file gives it and no
more; places, ports and passwords alone are those of this test. A command that
several of them have is started once.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from api_adapters.fakes.server import PracticeServer, open_practice
from tests.deploy.redis_server import RedisServer, free_port
from tests.deploy.written import (
    DEPLOY,
    OVERLAY,
    Started,
    composed,
    containers,
    default_command,
    health_check,
    in_kubernetes,
    in_units,
    manifests,
)
from tests.integration.service import wait_until
from tests.opened import Opened
from tests.postgres import PostgresqlServer, programs
from worker.client import DeletionClient, JobStatus, Refused
from worker.embedded.processes import Command, Processes

PROGRAMS = Path(sys.executable).parent
PAGE_PASSWORD = "deletions:pages-password"
ITEMS = 300
#: What all of deploy/ gives a process to end.
GRACE = timedelta(seconds=60)


class Deployment(Opened):
    """Redis, PostgreSQL, a practice monitor and every command; use it in a `with` statement."""

    def __init__(self) -> None:
        super().__init__()
        self.pages, self.metrics = free_port(), free_port()

    def _open(self, opened: ExitStack) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="deploy-", dir="/tmp"))
        opened.callback(shutil.rmtree, self.directory)
        self.redis = opened.enter_context(RedisServer())
        self.postgres = self._open_postgres(opened)
        self.practice = open_practice("bas_ip", items=ITEMS)
        backend = opened.enter_context(PracticeServer(self.practice))
        self._write_configuration(backend)
        self.processes = Processes(self.directory, environ={"PATH": self._path()})
        opened.callback(self.processes.stop, grace=GRACE)

    def client(self) -> DeletionClient:
        """What another application has; to be closed."""
        return DeletionClient(self.redis.url("submitter"), timeout=timedelta(seconds=20))

    def run(self, started: Started) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        command = self.here(started)
        return subprocess.run(
            command.arguments,
            env={"PATH": self._path(), **command.variables},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def here(self, started: Started) -> Command:
        """A command with the places of this test; who may do what stays as it is written."""
        arguments = [self._argument(one) for one in started.arguments]
        program = PROGRAMS / Path(arguments[0]).name
        if program.exists():
            arguments[0] = str(program)
        variables = {name: self._value(value) for name, value in started.variables.items()}
        places = {
            "DELETIONS_CONFIG": str(self.directory / "deletions.toml"),
            "DELETIONS_DATA_DIR": str(self.directory),
            "HOSTNAME": socket.gethostname(),
        }
        if "flower" in arguments:
            places |= {"FLOWER_PORT": str(self.pages), "FLOWER_ADDRESS": "127.0.0.1"}
        return Command(started.name, tuple(arguments), variables={**variables, **places})

    def _argument(self, text: str) -> str:
        changed = {
            "9808": str(self.metrics),
            "0.0.0.0": "127.0.0.1",
            "--conf=/etc/deletions/flowerconfig.py": f"--conf={DEPLOY}/flower/flowerconfig.py",
        }
        return changed.get(text, text)

    def _value(self, text: str) -> str:
        text = re.sub(r"redis://(\w+):[^@]*@[^/]*/0", lambda m: self.redis.url(m[1]), text)
        text = re.sub(r"postgresql://deletions:.*", self.store_url, text)
        return re.sub(r"^deletions:.*", PAGE_PASSWORD, text)

    @property
    def store_url(self) -> str:
        """The database that is ours."""
        return self.postgres.url("deletions", "deletions").render_as_string()

    def _open_postgres(self, opened: ExitStack) -> PostgresqlServer:
        """PostgreSQL with the settings that are shipped, but for those that cost memory."""
        server = PostgresqlServer(programs())
        opened.callback(server.remove)
        settings = server.directory / "postgresql.conf"
        shutil.copy(DEPLOY / "postgresql" / "postgresql.conf", settings)
        settings.chmod(0o644)
        server._settings = {"config_file": str(settings), "listen_addresses": "", "fsync": "off"}
        server.make()
        server.start()
        server.execute("CREATE ROLE deletions LOGIN", "CREATE DATABASE deletions OWNER deletions")
        return server

    def _write_configuration(self, backend: PracticeServer) -> None:
        """The example, with the practice monitor for the one it names."""
        (self.directory / "monitor-17.password").write_text(self.practice.settings["password"])
        text = (OVERLAY / "deletions.toml").read_text()
        text = text.replace("http://10.0.0.17/api/v1", backend.base_url)
        text = text.replace('"api"', '"admin"').replace(
            "/run/secrets/deletions", str(self.directory)
        )
        (self.directory / "deletions.toml").write_text(text)

    def _path(self) -> str:
        return f"{PROGRAMS}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def every_command() -> list[Started]:
    """What the files start, of programs that are ours."""
    written = [*composed({}).values(), *in_units().values(), *in_kubernetes().values()]
    return [one for one in written if Path((*one.arguments, "")[0]).name in {"celery", "deletions"}]


def is_migration(started: Started) -> bool:
    return "migrate" in started.arguments


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    """Migrated, and with every different command running."""
    with Deployment() as deployment:
        commands = {}
        for started in every_command():
            command = deployment.here(started)
            commands.setdefault(command.arguments, (started, command))
        for started, _ in commands.values():
            if is_migration(started):
                done = deployment.run(started)
                assert done.returncode == 0, done.stderr
        for started, command in commands.values():
            if not is_migration(started):
                deployment.processes.start(command)
        wait_until(lambda: is_answering(deployment))
        yield deployment


@pytest.fixture(scope="module")
def deleted(deployment: Deployment) -> JobStatus:
    """What became of a job of another application: each test that asks for it may come first."""
    ids = deployment.practice.ids(ITEMS)
    with deployment.client() as client:
        job = client.submit("monitor-17", ids[:-10], requested_by="test")
        return client.wait(job, timeout=timedelta(seconds=20))


def is_answering(deployment: Deployment) -> bool:
    """Whether all that listen do so."""
    try:
        return all(
            ask(port, page)[0] == 200
            for port, page in (
                (deployment.metrics, "/health"),
                (deployment.pages, "/healthcheck"),
            )
        )
    except OSError:
        return False


def ask(port: int, page: str) -> tuple[int, str]:
    """The status and text of a page."""
    try:
        with closing(urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=5)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def test_they_are_one_program_in_three_places() -> None:
    parts = {one.arguments for one in in_kubernetes().values()}

    ours = {one.arguments for one in every_command() if one.name.startswith("compose")}
    assert ours == parts
    assert default_command() in parts


def test_every_command_runs(deployment: Deployment) -> None:
    running = deployment.processes.pids()

    assert {re.sub(r"^[a-z]+-", "", name) for name in running} == {
        *("worker-1", "deletions-worker", "clock", "metrics", "flower")
    }


def test_another_application_has_its_items_deleted(
    deployment: Deployment, deleted: JobStatus
) -> None:
    assert deleted.tally["deleted"] == ITEMS - 10
    with deployment.client() as client:
        assert {one.verdict for one in client.results(deleted.id)} == {"deleted"}


@pytest.mark.usefixtures("deleted")
def test_nobody_was_refused_anything_in_redis(deployment: Deployment) -> None:
    with closing(deployment.redis.client()) as administrator:
        refused = [
            (one["username"], one["context"], one["object"])
            for one in administrator.acl_log(count=1000)
            if one["username"] != "default"
        ]

    assert refused == []


def test_the_image_tells_its_health(deployment: Deployment) -> None:
    worker = in_kubernetes()["worker"]
    done = deployment.run(Started("health", health_check(), worker.variables))

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_probe_of_a_worker_asks_that_worker(deployment: Deployment) -> None:
    (worker,) = [one for one in manifests() if one["kind"] == "StatefulSet"]
    probe = tuple(containers(worker)[0]["livenessProbe"]["exec"]["command"])
    done = deployment.run(Started("probe", probe, in_kubernetes()["worker"].variables))

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"worker@{socket.gethostname()}: OK" in done.stdout


@pytest.mark.usefixtures("deleted")
def test_the_metrics_tell_what_was_deleted(deployment: Deployment) -> None:
    text = ask(deployment.metrics, "/metrics")[1]

    assert f'deletions_items_total{{target="monitor-17",verdict="deleted"}} {ITEMS - 10}' in text
    assert ask(deployment.metrics, "/live")[0] == 200


def test_flower_asks_for_its_password(deployment: Deployment) -> None:
    assert ask(deployment.pages, "/workers")[0] == 401


def test_no_password_is_seen_by_ps(deployment: Deployment) -> None:
    places = [Path(f"/proc/{pid}/cmdline") for pid in deployment.processes.pids().values()]
    if not all(place.exists() for place in places):
        pytest.skip("this system does not show the arguments of a process")

    assert not any(b"password" in place.read_bytes() for place in places)


@pytest.mark.soak
def test_workers_go_on_while_the_store_is_moved_on_and_do_not_start_before_that(
    deployment: Deployment,
) -> None:
    """What the README says of an upgrade: nobody's running work is harmed by its order."""
    was = deployment.postgres.execute(
        "SELECT version_num FROM alembic_version", database="deletions"
    )
    deployment.postgres.execute(
        "UPDATE alembic_version SET version_num = '9999'", database="deletions"
    )

    newly_started = deployment.run(in_kubernetes()["worker"])
    with deployment.client() as client:
        job = client.submit("monitor-17", deployment.practice.ids(ITEMS)[-10:])
        status = client.wait(job, timeout=timedelta(seconds=20))
    deployment.postgres.execute(
        f"UPDATE alembic_version SET version_num = '{was[0][0]}'", database="deletions"
    )

    assert newly_started.returncode == 2
    assert "9999" in newly_started.stderr
    assert status.tally["deleted"] == 10


def test_all_end_in_time_and_what_comes_meanwhile_waits_for_them(deployment: Deployment) -> None:
    children = {name: child.process for name, child in deployment.processes._children.items()}
    worker = deployment.here(in_kubernetes()["worker"])
    began = time.monotonic()

    killed = deployment.processes.stop(grace=GRACE)
    took = time.monotonic() - began
    with deployment.client() as client:
        job = client.post("monitor-17", ["cd613e30-d8f1-4adf-91b7-584a2265b1f5"])
        deployment.processes.start(worker)
        client.wait(client_has(client, job), timeout=timedelta(seconds=20))

    assert killed == []
    assert {name: child.returncode for name, child in children.items()} == dict.fromkeys(
        children, 0
    )
    assert took < 20


def client_has(client: DeletionClient, job: str) -> str:
    """A job that was posted, once a worker has read it."""

    def is_known() -> bool:
        with suppress(Refused):
            return bool(client.status(job))
        return False

    wait_until(is_known)
    return job
