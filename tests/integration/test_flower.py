"""Flower sees every job, shows no item, and does nothing."""

import base64
import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.service import Service, Target, wait_until
from worker.client import Refused
from worker.embedded.commands import CELERY
from worker.embedded.flower import USER, flower_command
from worker.embedded.processes import Command

PASSWORD = "correct horse"
#: In an item, and in what its sender says of his message.
SECRET = "somebody-0f5e1d3c"


@dataclass
class Flower:
    """One Flower to ask."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)

    def ask(
        self, path: str, *, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        """The status and text of a page."""
        named = self.headers if headers is None else headers
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=data, headers=named
        )
        try:
            with closing(urllib.request.urlopen(request, timeout=10)) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            return self.ask("/healthcheck")[0] == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service(targets={"monitor": Target(items=2)}) as service:
        yield service


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def flower(service: Service) -> Flower:
    """As `up` starts it."""
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    flower = Flower(free_port(), {"Authorization": f"Basic {token}"})
    service.processes.start(flower_command(PASSWORD, port=flower.port))
    wait_until(flower.answers, seconds=60)
    return flower


@pytest.fixture(scope="module")
def bare(service: Service) -> Flower:
    """As a person may start it: open to everybody."""
    flower = Flower(free_port())
    options = ("flower", f"--port={flower.port}", "--address=127.0.0.1")
    variables = {"FLOWER_UNAUTHENTICATED_API": "true"}
    service.processes.start(Command("bare", (*CELERY, *options), variables=variables))
    wait_until(flower.answers, seconds=60)
    return flower


@pytest.fixture(scope="module")
def ids(service: Service) -> list[str]:
    """What there is to delete."""
    return service.practice.ids(2)


@pytest.fixture(scope="module")
def job(service: Service, flower: Flower, bare: Flower, ids: list[str]) -> str:
    """A job that both have seen from its first to its last message."""
    for one in (flower, bare):
        wait_until(lambda one=one: sees(one, service), seconds=60)
    with service.client() as client:
        items = [*ids, SECRET, {"id": SECRET}]
        found: str = client.submit("monitor", items, requested_by="Ada")
        client.wait(found)
        assert len(list(client.results(found))) == 4
        assert client.item("monitor", ids[0])["jobs"]
    for one in (flower, bare):
        wait_until(lambda one=one: settled(one, found))
    return found


def sees(flower: Flower, service: Service) -> bool:
    """Whether it hears of a message that is sent now: it shows workers before that."""
    with service.client() as client, suppress(Refused):
        client.status(str(uuid4()))
    return bool(search(flower, "deletions.status"))


def settled(flower: Flower, job: str) -> bool:
    rows = [one for one in search(flower, job) if one["name"] == "deletions.settle"]
    return any(one["result"] for one in rows)


def search(flower: Flower, text: str) -> list[dict[str, Any]]:
    """What the search field of the tasks page finds."""
    query = f"/tasks/datatable?draw=1&start=0&length=100&search%5Bvalue%5D={text}"
    query += "&order%5B0%5D%5Bcolumn%5D=0&order%5B0%5D%5Bdir%5D=asc&columns%5B0%5D%5Bdata%5D=name"
    status, told = flower.ask(query)
    assert status == 200, told
    found: list[dict[str, Any]] = json.loads(told)["data"]
    return found


PAGES = ["/", "/workers", "/tasks", "/broker", "/tasks/datatable", "/api/workers", "/api/tasks"]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_without_the_password_is_refused(flower: Flower, path: str) -> None:
    assert flower.ask(path, headers={})[0] == 401


def test_a_wrong_password_is_refused(flower: Flower) -> None:
    wrong = base64.b64encode(f"{USER}:wrong".encode()).decode()

    assert flower.ask("/workers", headers={"Authorization": f"Basic {wrong}"})[0] == 401


@pytest.mark.parametrize("path", ["/workers", "/tasks", "/broker", "/api/workers", "/api/tasks"])
def test_a_page_with_the_password_is_shown(flower: Flower, path: str) -> None:
    assert flower.ask(path)[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api/task/send-task/deletions.submit",
        "/api/task/async-apply/deletions.submit",
        "/api/task/apply/deletions.submit",
        "/api/worker/shutdown/worker1",
        "/api/task/revoke/7b2f8c1e-0000-4000-8000-000000000001",
    ],
)
def test_it_does_nothing(flower: Flower, path: str) -> None:
    body = json.dumps({"kwargs": {"target": "monitor", "items": ["a"]}}).encode()

    assert flower.ask(path, data=body)[0] == 403


def test_a_job_is_found_by_its_id(flower: Flower, job: str) -> None:
    names = {one["name"] for one in search(flower, job)}

    assert {"deletions.submit", "deletions.settle"} <= names
    assert search(flower, "7b2f8c1e-0000-4000-8000-000000000001") == []


def test_it_shows_what_became_of_a_job(flower: Flower, job: str) -> None:
    (settled,) = [one for one in search(flower, job) if one["name"] == "deletions.settle"]

    assert f"job={job} completed" in settled["result"]
    assert "deleted=2" in settled["result"]
    assert "rejected=2" in settled["result"]


def test_it_sees_every_job_to_its_end(service: Service, flower: Flower, job: str) -> None:
    with service.client() as client:
        jobs = [client.submit("monitor", [f"{SECRET}-{number}"]) for number in range(30)]
        for one in jobs:
            client.wait(one)

    for one in jobs:
        wait_until(lambda one=one: settled(flower, one))


def test_its_memory_is_bounded() -> None:
    arguments = flower_command(PASSWORD).arguments

    assert "--max-tasks=10000" in arguments
    assert "--max-workers=100" in arguments


def test_its_password_is_not_in_its_command_line() -> None:
    assert PASSWORD not in " ".join(flower_command(PASSWORD).arguments)


def test_even_a_bare_one_shows_no_item(bare: Flower, job: str, ids: list[str]) -> None:
    tasks = json.loads(bare.ask("/api/tasks?limit=1000")[1])
    name = next(iter(json.loads(bare.ask("/api/workers?refresh=1")[1])))
    paths = ["/", "/workers", "/tasks", "/broker", "/metrics", "/api/tasks", "/api/workers"]
    paths += [f"/worker/{name}", f"/api/workers?refresh=1&workername={name}"]
    paths += [f"/task/{one}" for one in tasks] + [f"/api/task/info/{one}" for one in tasks]
    paths += [f"/api/task/result/{one}" for one in tasks]

    shown = [(path, *bare.ask(path)) for path in paths]

    assert job in json.dumps(tasks)
    assert [path for path, _, text in shown if SECRET in text] == []
    assert SECRET not in json.dumps(search(bare, ""))
    assert [path for path, _, text in shown if any(one in text for one in ids)] == []


def test_it_reads_no_file_of_its_working_directory() -> None:
    assert f"--conf={os.devnull}" in flower_command(PASSWORD).arguments
