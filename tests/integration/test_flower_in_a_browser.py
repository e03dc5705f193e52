"""What a person sees of a job in Flower, as `deploy/flower` sets it up, in a real browser.

`python -m tests.integration.test_flower_in_a_browser deploy/flower/tasks.png` takes
the picture of the README.
"""

import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.browser import Browser, free_port
from tests.integration.flowers import CONFIGURATION, Flower, shipped_command
from tests.integration.service import Service, Target, wait_until
from worker.embedded.commands import CELERY
from worker.embedded.flower import flower_command

USER, PASSWORD = "deletions", "correct-horse"
STREAMED = 12_000
#: In an item that nobody should see.
SECRET = "somebody-0f5e1d3c"


@dataclass(frozen=True, slots=True)
class Scene:
    """A service with its Flower, and two jobs that have settled on it."""

    service: Service
    flower: Flower
    #: Streamed in chunks and deleted in several slices.
    large: str
    #: One message, with an item that no monitor has.
    small: str

    @property
    def url(self) -> str:
        """Its tasks page, for whoever has the password."""
        return f"http://{USER}:{PASSWORD}@127.0.0.1:{self.flower.port}/tasks"


@contextmanager
def staged() -> Iterator[Scene]:
    """Both jobs at once on one slow monitor, seen from beginning to end."""
    options = {"max_items_per_call": 1_000}
    target = Target(items=STREAMED, latency=0.15, options=options)
    with Service(targets={"monitor-17": target}) as service:
        flower = Flower.with_password(free_port(), USER, PASSWORD)
        service.processes.start(shipped_command(flower.port, users=f"{USER}:{PASSWORD}"))
        wait_until(flower.answers)
        wait_until(lambda: flower.hears(service))
        ids = service.practice.ids(STREAMED)
        # These are there no more, or never were.
        ids += service.practice.ids(150, seed=1)
        with service.client() as client:
            large = client.submit("monitor-17", ids[100:], requested_by="hr-portal")
            small = client.submit("monitor-17", [*ids[:100], SECRET], requested_by="reception")
        for job in (large, small):
            wait_until(lambda job=job: flower.has_seen_all(job))
        yield Scene(service, flower, large, small)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with staged() as scene:
        yield scene


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


def search(browser: Browser, scene: Scene, text: str) -> dict[str, list[dict[str, str]]]:
    """Log in, type into the search field and read the rows of the table, by task."""
    # Its page notes the last search in the browser when it is left.
    browser.open(scene.url.replace("/tasks", "/healthcheck"))
    browser.run("localStorage.clear()")
    browser.open(scene.url)
    wait_until(lambda: rows_of(browser))
    browser.type("input[type=search]", text)
    # Until then the page shows what the first letters find.
    asked = "return jQuery.active || $('#tasks-table').DataTable().ajax.params().search.value"
    wait_until(lambda: browser.run(asked) == text)
    found: dict[str, list[dict[str, str]]] = {}
    for row in rows_of(browser):
        found.setdefault(row["name"], []).append(row)
    return found


def rows_of(browser: Browser) -> list[dict[str, Any]]:
    """The table as a person reads it: each row's cells by the heading of their column."""
    script = """
        const texts = (at, what) => [...at.querySelectorAll(what)].map(one => one.innerText.trim())
        const heads = texts(document.querySelector('.dataTables_scrollHead'), 'th')
            .map(head => head.toLowerCase())
        return [...document.querySelectorAll('#tasks-table tbody tr[id]')].map(row =>
            Object.fromEntries(texts(row, 'td').map((text, at) => [heads[at], text])))
    """
    rows: list[dict[str, Any]] = browser.run(script)
    return rows


def test_a_job_in_one_message_is_read_from_submit_to_settle(browser: Browser, scene: Scene) -> None:
    found = search(browser, scene, scene.small)

    assert set(found) == {"deletions.submit", "deletions.execute", "deletions.settle"}
    (submitted,), (settled,) = found["deletions.submit"], found["deletions.settle"]
    assert submitted["kwargs"] == f"job='{scene.small}' target='monitor-17' items=101"
    assert settled["result"] == f"completed deleted=100 rejected=1 job={scene.small}"
    assert any(
        f"job={scene.small} items=100" in one["result"] for one in found["deletions.execute"]
    )
    assert {one["state"] for rows in found.values() for one in rows} == {"SUCCESS"}


def test_a_streamed_job_is_read_from_open_over_its_slices_to_settle(
    browser: Browser, scene: Scene
) -> None:
    found = search(browser, scene, scene.large)

    assert {name: len(rows) for name, rows in found.items() if name != "deletions.execute"} == {
        "deletions.open": 1,
        "deletions.append": 2,
        "deletions.seal": 1,
        "deletions.plan": 1,
        "deletions.settle": 1,
    }
    assert any(f"job={scene.large} items=" in one["result"] for one in found["deletions.execute"])
    assert found["deletions.plan"][0]["result"] == f"running items=12050 job={scene.large}"
    assert (
        found["deletions.settle"][0]["result"]
        == f"completed deleted=11900 absent=150 job={scene.large}"
    )


def test_no_item_is_in_the_page(browser: Browser, scene: Scene) -> None:
    search(browser, scene, "deletions.")

    page = browser.source

    assert scene.small in page
    assert SECRET not in page
    assert [one for one in scene.service.practice.ids(STREAMED) if one in page] == []


def test_whoever_has_no_password_reads_nothing(browser: Browser, scene: Scene) -> None:
    # Under another name of the host the browser knows no password.
    port = scene.flower.port
    browser.open(f"http://localhost:{port}/tasks")
    without = browser.text
    browser.open(f"http://{USER}:{PASSWORD}@localhost:{port}/tasks")

    assert without == ""
    assert "TASK HISTORY" in browser.text


def settings_of(**variables: str) -> dict[str, Any]:
    """What the shipped configuration says in this environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("FLOWER_")]:
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        return runpy.run_path(str(CONFIGURATION))


def test_the_shipped_configuration_says_what_up_says() -> None:
    said = settings_of(FLOWER_BASIC_AUTH="ann:secret")

    options = dict(
        option.split("=", 1) for option in flower_command("x").arguments if "=" in option
    )
    for option in ("read-only", "max-tasks", "max-workers", "purge-offline-workers", "address"):
        assert str(said[option.replace("-", "_")]).lower() == options[f"--{option}"]
    assert said["tasks_columns"] == options["--tasks-columns"]
    assert not said["persistent"]


@pytest.mark.parametrize("users", ["", "deletions", "deletions:", ":secret", "a:b,c", "a:é"])
def test_a_configuration_without_a_sound_password_is_refused(users: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        settings_of(FLOWER_BASIC_AUTH=users)


def test_flower_does_not_start_without_a_password() -> None:
    environ = {name: value for name, value in os.environ.items() if "FLOWER_" not in name}
    command = (*CELERY, "flower", f"--conf={CONFIGURATION}", "--port=0")

    ended = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 2
    assert ended.stderr.endswith(
        "FLOWER_BASIC_AUTH: expected USER:PASSWORD in ASCII, commas between\n"
    )


def take_picture(path: Path) -> None:
    """What the README shows: the way of one job."""
    with staged() as scene, Browser(width=1400, height=945, scale=0.85) as browser:
        search(browser, scene, scene.large)
        path.write_bytes(browser.picture())


if __name__ == "__main__":
    take_picture(Path(sys.argv[1]))
