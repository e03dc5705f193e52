"""The client where applications use it: in their Celery tasks, in Django, in FastAPI."""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any
from uuid import uuid4

import pytest
import uvicorn
from celery import Celery
from fastapi import FastAPI, HTTPException

from tests.integration.service import Service, Target, wait_until
from worker.client import DeletionClient, Refused

IDS = 100

SHOP = """
    import os
    from celery import Celery
    from worker.client import DeletionClient, Refused

    app = Celery("shop", broker=os.environ["SHOP_URL"], backend=os.environ["SHOP_URL"])
    app.conf.task_default_queue = "shop"
    app.conf.task_send_sent_event = True
    client = DeletionClient(os.environ["SHOP_URL"])
    # The connection is open when the pool forks.
    try:
        client.status("00000000-0000-4000-8000-000000000000")
    except Refused as refusal:
        before = refusal.code

    @app.task(name="shop.close_accounts")
    def close_accounts(ids):
        job = client.submit("monitor", ids, requested_by="shop")
        status = client.wait(job)
        return [job, status.state, status.tally["deleted"], before]
"""

DJANGO = """
    import sys
    import django
    from django.conf import settings
    from django.db import connection, transaction
    from worker.client import DeletionClient

    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    settings.configure(DATABASES={"default": database})
    django.setup()
    path = list(sys.path)

    def close_account(id, *, fails):
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO closed VALUES (%s)", [id])
            transaction.on_commit(lambda: posted.append(client.post("monitor", [id])))
            assert not posted
            if fails:
                raise ValueError("something else went wrong")

    posted = []
    with DeletionClient(sys.argv[1]) as client:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE closed (id TEXT)")
        try:
            close_account(sys.argv[2], fails=True)
        except ValueError:
            pass
        assert not posted
        close_account(sys.argv[2], fails=False)
    connection.close()
    assert sys.path == path
    print(posted[0])
"""


#: Asks the shop to close some accounts; the task's id.
Ask = Callable[[list[str]], str]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service(targets={"monitor": Target(items=IDS)}) as service:
        yield service


@contextmanager
def shop_worker(service: Service, directory: Path) -> Iterator[Ask]:
    """Another application's own worker, with a pool that forks, on the same broker."""
    (directory / "shop.py").write_text(dedent(SHOP))
    environ = {**os.environ, "SHOP_URL": service.broker_url, "PYTHONPATH": str(directory)}
    command = [sys.executable, "-m", "celery", "-A", "shop", "worker", "-Q", "shop"]
    command += ["-P", "prefork", "-c", "2", "--without-mingle", "--without-gossip"]
    with (directory / "shop.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, env=environ, stdout=log, stderr=log)
    # Without a result backend: a result that Celery made is forgotten through a
    # connection of its own, whenever the garbage collector comes to it.
    shop = Celery("caller", broker=service.broker_url, set_as_current=False)
    send = partial(shop.send_task, "shop.close_accounts", queue="shop")
    try:
        with closing(shop), shop.connection_for_write() as connection:
            yield lambda ids: send([ids], connection=connection).id
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def answer_to(service: Service, id_: str) -> Any:
    """What a task of the shop has returned."""
    key = f"celery-task-meta-{id_}"
    with service.redis() as redis:
        wait_until(lambda: redis.exists(key))
        return json.loads(redis.get(key) or "")["result"]


def test_it_works_inside_a_task_of_another_application(service: Service, tmp_path: Path) -> None:
    ids = service.practice.ids(20)

    with shop_worker(service, tmp_path) as ask:
        asked = [ask(ids[start : start + 5]) for start in range(0, 20, 5)]
        told = [answer_to(service, one) for one in asked]

    assert [one[1:] for one in told] == [["completed", 5, "unknown_job"]] * 4
    assert len({job for job, *_ in told}) == 4
    assert service.practice.deleted.keys() >= set(ids)


def test_django_posts_after_the_commit_and_not_after_a_rollback(service: Service) -> None:
    id_ = service.practice.ids(30)[29]
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "not.there"}

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(DJANGO), service.broker_url, id_],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    wait_until(lambda: service.practice.deleted[id_] == 1)
    with service.client() as client:
        assert client.wait(done.stdout.strip()).tally["deleted"] == 1


def web_application(client: DeletionClient) -> FastAPI:
    """What the README shows."""
    web = FastAPI()

    @web.post("/accounts/close", status_code=202)
    def close_accounts(ids: list[str]) -> dict[str, str]:
        return {"job": client.post("monitor", ids, requested_by="web")}

    @web.get("/deletions/{job}")
    def deletion(job: str) -> dict[str, Any]:
        try:
            status = client.status(job)
        except Refused as refusal:
            raise HTTPException(404, refusal.code) from refusal
        return {"state": status.state, "tally": status.tally}

    return web


@contextmanager
def served(web: FastAPI) -> Iterator[str]:
    """The web application on a free port."""
    server = uvicorn.Server(uvicorn.Config(web, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def call(url: str, body: object = None) -> Any:
    """One call of a web application."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def test_fastapi_posts_in_a_request_and_tells_the_state_in_another(service: Service) -> None:
    ids = service.practice.ids(50)[30:]

    with service.client() as client, served(web_application(client)) as url:
        job = call(f"{url}/accounts/close", ids)["job"]
        wait_until(lambda: service.practice.deleted.keys() >= set(ids))
        client.wait(job)

        assert call(f"{url}/deletions/{job}")["tally"]["deleted"] == 20
        with pytest.raises(urllib.error.HTTPError, match="404") as missing:
            call(f"{url}/deletions/{uuid4()}")
        missing.value.close()
