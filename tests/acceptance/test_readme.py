"""Every command and every block of code in the README, as a newcomer would try them.

What stands there is taken from the page itself: a block or a command that no
test here knows is a failure.
"""

import json
import re
import shlex
import sqlite3
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any
from uuid import uuid4

import pytest
from typer.main import get_command

from api_adapters.contract import AdapterContract, FreePace, by_key, soon
from api_adapters.fakes.bas_ip import PASSWORD
from api_adapters.fakes.base import Practice
from api_adapters.fakes.server import PracticeServer, open_practice
from tests.acceptance.archive import Vendor, archived
from tests.acceptance.readme import PAGE, README, ROOT, block, blocks
from tests.acceptance.shell import Shell, shell
from tests.contract.adapters.sql_tables import place as table_place
from tests.integration.browser import free_port
from tests.integration.flowers import Flower
from tests.integration.service import wait_until
from worker.cli.entry import build
from worker.embedded.valkey import Valkey

#: What takes minutes, and so is only asked whether it could.
LONG = {"make demo", "make test", "make bench", "make soak"}


#: Each block by its kind and a text that it alone holds.
MAKE = ("console", "$ make demo")
MINUTE = ("console", "$ deletions init")
QUERY = ("console", "$ deletions submit events --query")
PURGES = ("console", "$ deletions purges history")
METRICS = ("console", "$ deletions metrics")
RUNNING = ("console", "$ celery -A worker.app worker")
CLIENT = ("python", "deletions.results(job, verdict=")
DJANGO = ("python", "from django.db import transaction")
FASTAPI = ("python", "from fastapi import FastAPI")
BY_NAME = ("python", "app.send_task(")
BEAT = ("python", "app.conf.beat_schedule")
ADAPTER = ("python", "class Archive(Adapter)")
ENTRY_POINT = ("toml", 'archive = "archive_adapter:Archive"')
CONFIGURATION = (
    ("toml", "[targets.archive]"),
    ("toml", "[targets.events]"),
    ("toml", "[purges.old-events]"),
)
OUTCOME = ("json", '"position":0')
GRANTS = ("sql", "CREATE ROLE deletion_worker")
KNOWN = (
    *(MAKE, MINUTE, QUERY, PURGES, METRICS, RUNNING, CLIENT, DJANGO, FASTAPI, BY_NAME, BEAT),
    *(ADAPTER, ENTRY_POINT, *CONFIGURATION, OUTCOME, GRANTS),
)


def test_every_block_is_one_that_a_test_runs() -> None:
    known = {block(*which) for which in KNOWN}

    assert [one for one in blocks() if one not in known] == []


# -- a person at a terminal ------------------------------------------------------


def test_what_make_is_said_to_do_it_can() -> None:
    said = {" ".join(line.split()[:2]) for line in block(*MAKE).commands}
    said |= {" ".join(found.split()[:2]) for found in re.findall(r"`(make [a-z][^`]*)`", PAGE)}

    assert said >= LONG
    for line in said:
        subprocess.run([*line.split(), "--dry-run"], cwd=ROOT, capture_output=True, check=True)


def test_a_minute_in_an_empty_directory() -> None:
    with shell() as person:
        said: dict[str, str] = {}
        for line in block(*MINUTE).commands:
            match line.split():
                case ["export", assignment]:
                    name, _, value = assignment.partition("=")
                    person.environ[name] = value
                case [*words, "&"]:
                    shown = person.start(shlex.join([*words, "--port=0"]))
                    person.wait(shown, "\n")
                    port = json.loads(shown.read_text())["port"]
                    path = person.folder / "deletions.toml"
                    path.write_text(path.read_text().replace("8411", str(port)))
                case words:
                    said[" ".join(words[1:3])] = person.run(line)

    assert said["targets check"].startswith("practice: ok")
    assert "deleted" in said["item practice"]


# -- a service, and everything that is said to it ---------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """`deletions up` with the README's own configuration, and a shell beside it."""

    shell: Shell
    monitor: Practice
    slow: Practice
    archive: set[str]

    @property
    def broker_url(self) -> str:
        return f"redis+socket://{self.shell.folder}/.deletions/valkey.sock"

    def run_block(self, which: tuple[str, str], *, before: str, after: str = "") -> str:
        """Run a block of Python with this broker, something before it and after it."""
        text = block(*which).text.replace("redis://redis:6379/0", self.broker_url)
        return self.shell.script(dedent(before) + text + dedent(after))


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with ExitStack() as opened:
        person = opened.enter_context(shell())
        monitor = open_practice("bas_ip", items=300)
        slow = open_practice("bas_ip", items=200, latency=0.3)
        archive = opened.enter_context(archived(*(f"a{number}" for number in range(40))))
        install_adapter(person.folder)
        make_table(person.folder / "events.sqlite3")
        person.environ |= {
            "MONITOR_PASSWORD": PASSWORD,
            "EVENTS_URL": f"sqlite:///{person.folder / 'events.sqlite3'}",
        }
        tables = [block(*which).text for which in CONFIGURATION]
        text = "\n".join(tables).replace("http://archive:8080", archive.url)
        for name, practice, options in (
            ("monitor-17", monitor, "max_items = 60"),
            ("slow", slow, "max_items_per_call = 1"),
        ):
            server = opened.enter_context(PracticeServer(practice))
            text += MONITOR.format(name=name, url=server.base_url, options=options)
        (person.folder / "deletions.toml").write_text(text)
        person.wait(person.start(f"deletions up --workers=1 --port={free_port()}"), "Flower on")
        person.wait(person.folder / ".deletions" / "logs" / "worker1.log", " ready.")
        yield Place(person, monitor, slow, archive.left)


MONITOR = """
[targets.{name}]
adapter = "bas_ip"
base_url = "{url}"
username = "admin"
password = {{ env = "MONITOR_PASSWORD" }}
{options}
"""


def make_table(path: Path) -> None:
    """Rows of the table that the README deletes from, half of them old."""
    with closing(sqlite3.connect(path)) as table, table:
        table.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, created_at TEXT)")
        table.execute(
            "INSERT INTO events SELECT value, datetime('now', '-' || value * 10 || ' days')"
            " FROM json_each('[" + ",".join(map(str, range(1, 20))) + "]')"
        )


OLD = '{"older_than": {"column": "created_at", "age": "90d"}}'
DONE, PLAN, SLOW, LARGE, OTHER = (str(uuid4()) for _ in range(5))

#: Each row of the table of commands, and how it is tried; a number is the exit code.
TRIED: Mapping[str, tuple[str, ...]] = {
    "init · practice VENDOR · demo · migrate": ("init --config fresh.toml", "migrate"),
    "run TARGET [ITEM...] [--from FILE] [--query JSON] [--dry-run] [--output FILE]": (
        "run monitor-17 --from one.txt --output out.jsonl --yes",
        f"run events --query '{OLD}' --dry-run --output old.jsonl",
    ),
    "submit TARGET [ITEM...] [--from FILE] [--query JSON] [--id UUID] [--plan JOB] [--wait]": (
        f"submit monitor-17 {{ids[1]}} --id {DONE} --wait",
        f"submit monitor-17 --from items.txt --dry-run --id {PLAN} --wait",
        f"submit --plan {PLAN} --wait",
        f"submit events --query '{OLD}' --dry-run",
        f"submit monitor-17 --from many.txt --id {LARGE}",
        f"submit monitor-17 --from more.txt --id {OTHER}",
    ),
    "status JOB [--json] · jobs · watch JOB · explain JOB · events [JOB]": (
        f"status {DONE} --json",
        "jobs",
        f"watch {DONE}",
        f"explain {DONE}",
        f"events {DONE}",
        "events",
    ),
    "results JOB [--verdict V] [--format jsonl|csv|table] [--output FILE]": (
        f"results {DONE} --verdict deleted --format csv --output out.csv",
    ),
    "item TARGET KEY [--json]": ("item monitor-17 {ids[1]} --json",),
    "pause resume cancel approve decline JOB": (
        f"submit slow --from slow.txt --id {SLOW}",
        f"pause {SLOW}",
        f"resume {SLOW}",
        f"approve {LARGE}",
        f"decline {OTHER}",
    ),
    "resume JOB --accept-target": (f"pause {SLOW}", f"resume {SLOW} --accept-target"),
    "retry JOB [--also accepted,rejected] · forget TARGET KEY": (
        f"cancel {SLOW}",
        f"3 watch {SLOW}",
        f"retry {SLOW} --also accepted,rejected",
        "forget monitor-17 {ids[1]}",
    ),
    "protect add TARGET KEY... [--reason] [--until] [--by]": (
        "protect add monitor-17 {ids[2]} {ids[3]} --reason audit --until 90d --by Ann",
    ),
    "protect list TARGET · protect remove TARGET KEY...": (
        "protect list monitor-17",
        "protect remove monitor-17 {ids[2]} {ids[3]}",
    ),
    "purges · purges history NAME · purges run NAME [--dry-run] [--wait]": (
        "purges",
        "purges history old-events",
        "purges run old-events --dry-run --wait",
    ),
    "prune [--dry-run]": ("prune --dry-run", "prune"),
    "targets [check]": ("targets", "targets check"),
    # These stay, and `health` has something to tell once the clock has ticked.
    "metrics [--host] [--port] · health [--json]": (),
    "up": (),
}
#: Commands of rows that other tests here run, or, like `demo`, a whole module.
ELSEWHERE = {"practice", "demo"}


def rows_of_commands() -> list[str]:
    """The first cells of the table of commands."""
    table = README.partition("## Commands")[2].partition("\n\nStandard output")[0]
    cells = [line.replace("\\|", "¦").split("|")[1] for line in table.splitlines()[4:]]
    return [cell.replace("`", "").replace("¦", "|").strip() for cell in cells]


def test_the_table_of_commands_is_tried_as_it_stands_there() -> None:
    assert rows_of_commands() == list(TRIED)
    for cell, lines in TRIED.items():
        if not lines:
            continue
        tried = " ".join(lines)
        named = {part.split()[0] for part in cell.split(" · ")} - ELSEWHERE
        assert all(re.search(rf"\b{name}\b", tried) for name in named), cell
        assert all(option in tried for option in re.findall(r"--[a-z-]+", cell)), cell


def test_every_command_of_the_table_runs(place: Place) -> None:
    ids, files = place.monitor.ids(300), place.shell.folder
    for name, start, end in (
        ("one", 0, 1),
        ("items", 10, 13),
        ("many", 100, 200),
        ("more", 200, 300),
    ):
        (files / f"{name}.txt").write_text("\n".join(ids[start:end]))
    (files / "slow.txt").write_text("\n".join(place.slow.ids(200)))

    for line in [line for lines in TRIED.values() for line in lines]:
        code, words = line.split(" ", 1) if line[0].isdigit() else ("0", line)
        words = re.sub(r"\{ids\[(\d+)\]\}", lambda found: ids[int(found[1])], words)
        # It starts processes, which end with the thread that started them.
        do = place.shell.run if words.startswith("run ") else place.shell.type
        do(f"deletions {words}", code=int(code))

    assert place.monitor.deleted.keys() >= {*ids[:2], *ids[10:13], *ids[100:200]}
    assert place.monitor.remaining >= set(ids[200:300])


@pytest.mark.parametrize("which", [QUERY, PURGES])
def test_every_other_command_runs(place: Place, which: tuple[str, str]) -> None:
    for line in block(*which).commands:
        place.shell.type(line)


def test_metrics_and_probes_are_served(place: Place) -> None:
    (line,) = block(*METRICS).commands
    (said,) = block(*METRICS).text.splitlines()[1:]
    shown = place.shell.start(line.replace("9808", "0").replace("0.0.0.0", "127.0.0.1"))
    place.shell.wait(shown, "\n")
    port = re.search(r":(\d+)/", shown.read_text())[1]  # type: ignore[index]
    watch = Flower(int(port))

    assert said.replace("9808", port).replace("0.0.0.0", "127.0.0.1") in shown.read_text()
    assert "deletions_up 1" in watch.ask("/metrics")[1]
    assert watch.ask("/live")[0] == 200
    wait_until(lambda: watch.ask("/health")[0] == 200)
    assert json.loads(place.shell.type("deletions health --json"))["healthy"]


def test_every_command_that_the_text_names_is_there() -> None:
    named = re.findall(r"`deletions ([a-z]+)(?: ([a-z]+)\b)?[^`]*`", PAGE)
    known: Any = get_command(build()).commands  # type: ignore[attr-defined]

    assert len(named) > 5
    for name, further in named:
        assert name in known
        assert not further or further in getattr(known[name], "commands", (further,))


# -- other applications -------------------------------------------------------------


def test_the_client_submits_waits_and_reads(place: Place) -> None:
    ids = [*place.monitor.ids(60)[50:], str(uuid4())]

    said = place.run_block(CLIENT, before=f"link_ids = {ids!r}\n")

    assert said == f"10 {ids[10]} item\n"
    assert place.monitor.deleted.keys() >= set(ids[:10])


def test_django_posts_after_the_commit(place: Place) -> None:
    ids = place.monitor.ids(70)[60:]

    place.run_block(
        DJANGO,
        before=f"""
            import django
            from django.conf import settings
            from django.db import connection, models

            database = {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
            settings.configure(
                DATABASES={{"default": database}}, DELETIONS_BROKER_URL="{place.broker_url}"
            )
            django.setup()

            class Account(models.Model):
                link_id = models.CharField(max_length=36, primary_key=True)
                is_open = models.BooleanField(default=True)

                class Meta:
                    app_label = "accounts"

            with connection.schema_editor() as editor:
                editor.create_model(Account)
            for id_ in {ids!r}:
                Account.objects.create(link_id=id_)
        """,
        after="""
            close(Account.objects.all())
            assert not Account.objects.filter(is_open=True)
            deletions.close()
            connection.close()
        """,
    )

    wait_until(lambda: place.monitor.deleted.keys() >= set(ids))


def test_fastapi_posts_and_tells_the_state(place: Place) -> None:
    ids = place.monitor.ids(80)[70:]

    said = place.run_block(
        FASTAPI,
        before="",
        after=f"""
            import asyncio
            import time

            import httpx

            async def call(method, path, **more):
                transport = httpx.ASGITransport(app=web)
                async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
                    return await client.request(method, path, **more)

            job = asyncio.run(call("POST", "/accounts/close", json={ids!r})).json()["job"]
            path, until = f"/deletions/{{job}}", time.monotonic() + 20
            while (told := asyncio.run(call("GET", path))).json().get("state") != "completed":
                assert time.monotonic() < until, told.text
            print(told.json()["tally"]["deleted"])
            print(asyncio.run(call("GET", "/deletions/{uuid4()}")).status_code)
            deletions.close()
        """,
    )

    assert said == "10\n404\n"


#: Celery's results unsubscribe when they are collected, which fails loudly while Python ends.
COLLECT = "__import__('gc').collect()"


def test_celery_sends_by_name_and_by_the_clock(place: Place) -> None:
    ids = place.monitor.ids(90)[80:]

    said = place.run_block(
        BY_NAME, before=f"link_ids = {ids!r}\n", after=f"print(answer['items'])\n{COLLECT}"
    )
    beat = place.run_block(
        BEAT,
        before="",
        after=f"""
            from celery.beat import Scheduler

            clock = Scheduler(app=app, lazy=True)
            clock.setup_schedule()
            print(clock.apply_async(clock.schedule["visitors"]).get(timeout=10)["items"])
            {COLLECT}
        """,
    )

    assert (said, beat) == ("10\n", "1\n")
    wait_until(lambda: place.monitor.deleted.keys() >= set(ids))


# -- an adapter of one's own --------------------------------------------------------


def install_adapter(folder: Path) -> None:
    """Lay the README's adapter down as an installer would lay a package."""
    points = tomllib.loads(block(*ENTRY_POINT).text)["project"]["entry-points"]
    info = folder / "archive_adapter-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: archive-adapter\nVersion: 1.0\n")
    lines = [f"[{group}]\n{name} = {at}" for group in points for name, at in points[group].items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    (folder / "archive_adapter.py").write_text(block(*ADAPTER).text)


def test_the_adapter_has_at_most_thirty_lines() -> None:
    assert len(list(filter(str.strip, block(*ADAPTER).text.splitlines()))) <= 30


def test_the_adapter_of_thirty_lines_deletes_in_a_real_job(place: Place) -> None:
    items = [f"a{number}" for number in range(5, 25)]

    place.shell.type(shlex.join(["deletions", "submit", "archive", *items, "gone1", "--wait"]))
    told = place.shell.type("deletions item archive gone1 --json")

    assert place.archive == {f"a{number}" for number in (*range(5), *range(25, 40))}
    assert json.loads(told)["jobs"][0]["verdict"] == "absent"
    assert place.shell.type("deletions targets check").count(": ok") == 4


class TestTheAdapterOfThirtyLines(AdapterContract):
    """What holds for every adapter holds for this one."""

    bad_items = ("two words", 17, {"id": "a"})

    @pytest.fixture
    def vendor(self) -> Iterator[Vendor]:
        with archived(*"abcdef") as vendor:
            yield vendor

    @pytest.fixture
    def adapter(self, vendor: Vendor) -> Iterator[Any]:
        names: dict[str, Any] = {}
        exec(block(*ADAPTER).text, names)
        settings = names["Archive"].Settings(adapter="archive", base_url=vendor.url)
        with closing(names["Archive"](settings, pace=FreePace())) as adapter:
            yield adapter

    @pytest.fixture
    def existing(self) -> list[Any]:
        return list("abcd")

    @pytest.fixture
    def missing(self) -> list[Any]:
        return ["x1", "x2"]

    @pytest.fixture
    def remaining(self, vendor: Vendor) -> Any:
        return lambda: set(vendor.left)


# -- rows of a table ----------------------------------------------------------------


def test_the_least_privilege_suffices(tmp_path: Path) -> None:
    told = tomllib.loads(block(*CONFIGURATION[1]).text)["targets"]["events"]
    with table_place("postgresql", tmp_path) as base:
        base.run(
            "CREATE SCHEMA app",
            "CREATE TABLE app.events (id int PRIMARY KEY, created_at timestamptz, name text)",
            "INSERT INTO app.events SELECT n, now() - n * interval '1 day', 'x'"
            " FROM generate_series(1, 120) n",
            block(*GRANTS).text,
        )
        url = base.url.replace("postgres@", "deletion_worker@")
        adapter = base.adapter(**told | {"url": url, "schema": "app"})

        adapter.check(until=soon())
        query = adapter.freeze(json.loads(OLD), until=soon())
        found = by_key(adapter, adapter.find(query, until=soon()))
        adapter.delete_found(found, query, until=soon())
        left = base.run("SELECT count(*) FROM app.events")
        adapter.close()
        base.run("DROP OWNED BY deletion_worker", "DROP ROLE deletion_worker")

    assert (len(found), left) == (31, [(89,)])


# -- in production --------------------------------------------------------------------


def test_worker_clock_and_flower_run_as_it_is_said() -> None:
    with shell() as person, Valkey(person.folder / "data") as broker_url:
        person.run("deletions init")
        person.environ |= {
            "DELETIONS_CONFIG": str(person.folder / "deletions.toml"),
            "DELETIONS_DATA_DIR": str(person.folder / "data"),
            "FLOWER_PORT": str(free_port()),
        }
        # Here are no hosts of those names.
        here = {
            "DELETIONS_BROKER_URL": broker_url,
            "DELETIONS_STORE_URL": f"sqlite:///{person.folder / 'data' / 'store.sqlite3'}",
        }
        for line in block(*RUNNING).commands:
            match line.split():
                case ["export", assignment]:
                    name, _, value = assignment.partition("=")
                    person.environ[name] = here.get(name, value)
                case _:
                    person.start(line, cwd=ROOT)
        user, _, password = person.environ["FLOWER_BASIC_AUTH"].partition(":")
        flower = Flower.with_password(int(person.environ["FLOWER_PORT"]), user, password)

        wait_until(flower.answers)
        wait_until(lambda: "worker1@" in flower.ask("/workers?json=1")[1])
        wait_until(lambda: list((person.folder / "data").glob("clock-schedule*")))

        assert flower.ask("/tasks", headers={})[0] == 401
        assert [process.poll() for process in person.started] == [None] * 3


def test_what_the_page_leads_to_is_there() -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)]+)\)", PAGE)

    assert "deploy/flower/tasks.png" in targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_row_of_results_is_json() -> None:
    assert list(json.loads(block(*OUTCOME).text)) == [
        *("position", "item", "verdict", "evidence", "code", "message", "attempts", "decided_at")
    ]
