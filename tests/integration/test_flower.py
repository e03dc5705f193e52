"""Flower sees every job, shows no item, and does nothing."""

import base64
import json
import os
from collections.abc import Iterator

import pytest

from tests.integration.browser import free_port
from tests.integration.flowers import Flower
from tests.integration.service import Service, Target, wait_until
from worker.embedded.commands import CELERY
from worker.embedded.flower import USER, flower_command
from worker.embedded.processes import Command

PASSWORD = "correct horse"
#: In an item, and in what its sender says of his message.
SECRET = "somebody-0f5e1d3c"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service(targets={"monitor": Target(items=2)}) as service:
        yield service


@pytest.fixture(scope="module")
def flower(service: Service) -> Flower:
    """As `up` starts it."""
    flower = Flower.with_password(free_port(), USER, PASSWORD)
    service.processes.start(flower_command(PASSWORD, port=flower.port))
    wait_until(flower.answers)
    return flower


@pytest.fixture(scope="module")
def bare(service: Service) -> Flower:
    """As a person may start it: open to everybody."""
    flower = Flower(free_port())
    options = ("flower", f"--port={flower.port}", "--address=127.0.0.1")
    variables = {"FLOWER_UNAUTHENTICATED_API": "true"}
    service.processes.start(Command("bare", (*CELERY, *options), variables=variables))
    wait_until(flower.answers)
    return flower


@pytest.fixture(scope="module")
def ids(service: Service) -> list[str]:
    """What there is to delete."""
    return service.practice.ids(2)


@pytest.fixture(scope="module")
def job(service: Service, flower: Flower, bare: Flower, ids: list[str]) -> str:
    """A job that both have seen from its first to its last message."""
    for one in (flower, bare):
        wait_until(lambda one=one: one.hears(service))
    with service.client() as client:
        items = [*ids, SECRET, {"id": SECRET}]
        found: str = client.submit("monitor", items, requested_by="Ada")
        client.wait(found)
        assert len(list(client.results(found))) == 4
        assert client.item("monitor", ids[0])["jobs"]
    for one in (flower, bare):
        wait_until(lambda one=one: one.has_seen_all(found))
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
    names = {one["name"] for one in flower.search(job)}

    assert {"deletions.submit", "deletions.settle"} <= names
    assert flower.search("7b2f8c1e-0000-4000-8000-000000000001") == []


def test_it_shows_what_became_of_a_job(flower: Flower, job: str) -> None:
    (settled,) = flower.runs(job, "deletions.settle")

    assert settled["result"] == f"completed deleted=2 rejected=2 job={job}"


def test_a_slice_names_its_jobs_with_their_counts(flower: Flower, job: str) -> None:
    (worked,) = flower.runs(job, "deletions.execute")

    assert worked["result"] == f"items=2 calls=1 jobs=1 job={job} items=2"


def test_it_sees_every_job_to_its_end(service: Service, flower: Flower, job: str) -> None:
    with service.client() as client:
        jobs = [client.submit("monitor", [f"{SECRET}-{number}"]) for number in range(30)]
        for one in jobs:
            client.wait(one)

    for one in jobs:
        wait_until(lambda one=one: flower.has_settled(one))


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
    assert SECRET not in json.dumps(bare.search(""))
    assert [path for path, _, text in shown if any(one in text for one in ids)] == []


def test_it_reads_no_file_of_its_working_directory() -> None:
    assert f"--conf={os.devnull}" in flower_command(PASSWORD).arguments
