"""`deletions up`, and every command beside it: one service for all tests of this file."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.acceptance.terminal import Monitor, Terminal, service
from tests.integration.service import wait_until

NOWHERE = "7b2f8c1e-0000-4000-8000-000000000001"
STATUS = {
    "id": str,
    "target": str,
    "state": str,
    "reason": str | None,
    "items": int,
    "duplicates": int,
    "pending": int,
    "tally": dict,
    "batches": dict,
    "requested_by": str | None,
    "parent": str | None,
    "children": list,
    "created_at": str,
    "started_at": str | None,
    "finished_at": str | None,
    "rate_per_second": float | int | None,
    "eta_seconds": float | int | None,
    "waiting_for": str | None,
}
ROW = ["position", "item", "verdict", "evidence", "code", "message", "attempts", "decided_at"]
HOSTILE: list[Any] = [
    "=cmd()",
    "\x1b[31mred\x1b[0m",
    "two\nlines",
    "nul\0",
    "\ud800",
    2**70,
    -5,
    {"id": "=1+1", "é": [1]},
    "long" * 2_000,
    "\u202eturned",
]


@dataclass(frozen=True, slots=True)
class Up:
    """A running service: a terminal beside it, its process, and Flower's address."""

    terminal: Terminal
    process: "subprocess.Popen[bytes]"
    flower: str


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    monitors = {
        "monitor": Monitor(items=1_000),
        "braked": Monitor(items=10, seed=2, options="max_items = 2"),
        "slow": Monitor(items=2_000, seed=3, latency=0.3),
    }
    with Terminal(monitors) as terminal:
        port = free_port()
        with service(terminal, f"--port={port}") as process:
            yield Up(terminal, process, f"http://127.0.0.1:{port}")


@pytest.fixture
def terminal(up: Up) -> Terminal:
    return up.terminal


@pytest.fixture(scope="module")
def hostile(up: Up) -> str:
    """A job of items that nobody should trust; two of them are deleted."""
    lines = [json.dumps(item) for item in [*HOSTILE, *up.terminal.ids(1_000)[900:902]]]
    name = up.terminal.file("hostile.jsonl", "\n".join(lines))
    ended = up.terminal.run("submit", "monitor", "--from", name, "--wait")
    assert ended.code == 1
    return ended.out.strip()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def submitted(terminal: Terminal, *arguments: str, code: int = 0) -> str:
    """Submit a job; its id."""
    ended = terminal.run("submit", *arguments)
    assert ended.code == code, ended
    return ended.out.strip()


def status_of(terminal: Terminal, job: str) -> dict[str, Any]:
    (found,) = terminal.run("status", job, "--json").rows
    return found


def test_submit_prints_the_job_id_alone_and_waits_for_its_end(terminal: Terminal) -> None:
    ended = terminal.run("submit", "monitor", *terminal.ids(2), "--wait")

    assert ended.code == 0
    assert str(UUID(ended.out.strip())) + "\n" == ended.out
    assert "completed after" in ended.err


def test_the_same_id_is_the_same_job_and_refuses_other_content(terminal: Terminal) -> None:
    job, first, second = str(uuid4()), *terminal.ids(12)[10:]

    once = terminal.run("submit", "monitor", first, "--id", job, "--wait")
    again = terminal.run("submit", "monitor", first, "--id", job)
    other = terminal.run("submit", "monitor", second, "--id", job)

    assert (once.code, again.code, other.code) == (0, 0, 2)
    assert once.out == again.out == f"{job}\n"
    assert other.out == ""
    assert job in other.err
    assert second in terminal.practice.remaining


def test_status_has_exactly_the_keys_of_the_contract(terminal: Terminal, hostile: str) -> None:
    status = status_of(terminal, hostile)

    assert list(status) == list(STATUS)
    assert all(isinstance(status[key], kind) for key, kind in STATUS.items())
    assert list(status["tally"]) == [
        *("deleted", "absent", "accepted", "denied", "rejected", "failed", "unknown", "skipped")
    ]
    assert list(status["batches"]) == ["ready", "leased", "done", "split"]
    assert (status["state"], status["items"], status["pending"]) == ("completed", 12, 0)
    assert sum(status["tally"].values()) == 12


def test_status_and_jobs_and_events_tell_people_of_a_job(terminal: Terminal, hostile: str) -> None:
    status = terminal.run("status", hostile)
    jobs = terminal.run("jobs")
    events = terminal.run("events", hostile)

    assert "completed after" in status.out
    assert hostile in jobs.out
    assert hostile in events.out
    assert (status.err, jobs.err, events.err) == ("", "", "")
    assert "\x1b" not in status.out + jobs.out + events.out


def test_results_are_rows_of_the_contract_and_keep_hostile_items(
    terminal: Terminal, hostile: str
) -> None:
    ended = terminal.run("results", hostile)

    assert ended.code == 0
    assert ended.out.isascii()
    assert [list(row) for row in ended.rows] == [ROW] * 12
    assert [row["item"] for row in ended.rows[:10]] == HOSTILE
    assert [row["position"] for row in ended.rows] == list(range(12))


def test_results_for_spreadsheets_are_guarded_and_those_for_people_escaped(
    terminal: Terminal, hostile: str
) -> None:
    sheet = terminal.run("results", hostile, "--format", "csv")
    table = terminal.run("results", hostile, "--format", "table")

    assert "'=cmd()," in sheet.out
    assert ",'-5," in sheet.out
    assert "\x1b" not in table.out
    assert "\u202e" not in table.out
    assert "\\x1b[31mred" in table.out
    assert len(table.out.splitlines()) == 13


def test_results_of_one_verdict_go_to_a_file(terminal: Terminal, hostile: str) -> None:
    path = terminal.folder / "kept.jsonl"

    ended = terminal.run("results", hostile, "--verdict", "deleted", "--output", str(path))

    assert (ended.code, ended.out) == (0, "")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["position"] for row in rows] == [10, 11]


def test_a_reader_that_leaves_early_is_no_fault(terminal: Terminal) -> None:
    name = terminal.file("many.txt", "\n".join(f"no item {n}" for n in range(9_000)))
    job = submitted(terminal, "monitor", "--from", name, "--wait", code=1)

    with terminal.start("results", job) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()

    assert json.loads(first)["position"] == 0
    assert (process.returncode, said) == (0, b"")


def test_item_tells_every_job_that_named_it(terminal: Terminal, hostile: str) -> None:
    gone = terminal.run("item", "monitor", terminal.ids(1_000)[900].upper(), "--json")
    kept = terminal.ids(1_000)[999]

    (found,) = gone.rows
    assert gone.code == 0
    assert found["jobs"][0]["job"] == hostile
    assert found["jobs"][0]["verdict"] == "deleted"
    assert found["protected"] is False
    assert terminal.run("item", "monitor", kept).code == 4
    assert terminal.run("item", "nowhere", kept).code == 2


def test_a_job_over_the_brake_waits_and_runs_when_it_is_approved(terminal: Terminal) -> None:
    ids = terminal.ids(3, seed=2)
    waiting = terminal.run("run", "braked", *ids)
    job = waiting.err.split("deletions approve ")[1].split(",")[0]

    assert waiting.code == 5
    assert status_of(terminal, job)["waiting_for"] == "approval"
    assert not terminal.practices["braked"].requests
    assert terminal.run("approve", job, "--by", "ann", "--reason", "checked").code == 0
    assert terminal.run("watch", job).code == 0
    assert terminal.practices["braked"].deleted.keys() == set(ids)
    approved = [row for row in terminal.run("events", job, "--json").rows if row["by"] == "ann"]
    assert len(approved) == 1
    assert approved[0]["os_user"]


def test_a_declined_job_is_skipped_as_a_whole(terminal: Terminal) -> None:
    ids = terminal.ids(10, seed=2)[5:]
    job = submitted(terminal, "braked", *ids, "--wait", code=5)

    assert terminal.run("decline", job).code == 0
    assert terminal.run("watch", job).code == 3
    rows = terminal.run("results", job).rows
    assert {(row["verdict"], row["attempts"]) for row in rows} == {("skipped", 0)}
    assert set(ids) <= terminal.practices["braked"].remaining
    assert terminal.run("item", "braked", ids[0]).code == 1


def test_a_job_is_paused_resumed_and_cancelled(terminal: Terminal) -> None:
    name = terminal.file("slow.txt", "\n".join(terminal.ids(2_000, seed=3)))
    job = submitted(terminal, "slow", "--from", name)

    assert terminal.run("pause", job).code == 0
    assert status_of(terminal, job)["state"] == "paused"
    assert terminal.run("pause", job).code == 2
    assert terminal.run("resume", job).code == 0
    assert terminal.run("cancel", job).code == 0
    assert terminal.run("watch", job).code == 3
    tally = status_of(terminal, job)["tally"]
    assert tally["skipped"] > 0
    assert tally["deleted"] + tally["skipped"] == 2_000
    assert len(terminal.practices["slow"].remaining) == tally["skipped"]


def test_a_plan_deletes_exactly_what_the_dry_run_froze(terminal: Terminal) -> None:
    frozen = terminal.ids(40)[30:]
    dry = terminal.run("run", "monitor", *frozen, "--dry-run", "--output", "-")
    plan = dry.err.split("--plan ")[1].split()[0]

    assert dry.code == 0
    assert {(row["verdict"], row["code"], row["attempts"]) for row in dry.rows} == {
        ("skipped", "dry_run", 0)
    }
    assert set(frozen) <= terminal.practice.remaining
    assert terminal.run("submit", "--plan", plan, "--dry-run").code == 2
    job = submitted(terminal, "--plan", plan, "--wait")
    assert {row["item"] for row in terminal.run("results", job).rows} == set(frozen)
    assert not set(frozen) & terminal.practice.remaining


def test_flower_refuses_whoever_has_no_password(up: Up) -> None:
    said = (up.terminal.folder / "up.log").read_text()
    password = re.search(r"password (\S+)", said)
    assert password is not None
    wait_until(lambda: answer_of(up.flower) == 401)

    assert answer_of(f"{up.flower}/workers", "deletions:wrong") == 401
    assert answer_of(f"{up.flower}/workers", f"deletions:{password[1]}") == 200


def answer_of(url: str, credentials: str | None = None) -> int | None:
    """The status of a page; None while nobody listens."""
    request = urllib.request.Request(url)
    if credentials is not None:
        coded = base64.b64encode(credentials.encode()).decode()
        request.add_header("Authorization", f"Basic {coded}")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except urllib.error.URLError:
        return None


@pytest.mark.parametrize("command", ["status", "watch", "results", "cancel", "approve", "events"])
def test_a_job_that_nobody_knows_is_not_found(terminal: Terminal, command: str) -> None:
    ended = terminal.run(command, NOWHERE)

    assert (ended.code, ended.out) == (4, "")
    assert ended.err == f"there is no job {NOWHERE}\n"


def test_the_service_ends_on_a_signal_and_leaves_nothing() -> None:
    with Terminal() as terminal, service(terminal, "--port=0") as process:
        process.send_signal(signal.SIGINT)
        process.wait(30)

        assert process.returncode == 0
        assert terminal.processes() == {}
        assert not (terminal.data_dir / "valkey.sock").exists()


def test_a_worker_that_dies_is_told_and_started_again(up: Up) -> None:
    (worker,) = [pid for pid, line in up.terminal.processes().items() if "worker1@" in line]

    os.kill(worker, signal.SIGKILL)

    log = up.terminal.folder / "up.log"
    wait_until(lambda: "worker1 runs again" in log.read_text())
    assert "worker1 ended with -9 and is started again; see /" in log.read_text()
