"""The brakes by hand: protected keys, approval with a digest, dry runs that tell what they take."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.acceptance.terminal import Monitor, Terminal, service

BOSS = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A monitor with ten contacts, of which a job of more than three is held."""
    options = f'max_items = 3\nmax_items_per_call = 2\nprotect = ["{BOSS[:8]}-*"]'
    with Terminal({"monitor": Monitor(items=10, options=options)}) as terminal:
        yield terminal


def test_a_protected_key_is_kept_told_and_tried_again(terminal: Terminal) -> None:
    kept, gone = terminal.ids(2)
    said = ("--reason", "the boss", "--by", "ann", "--until", "90d")
    added = terminal.run("protect", "add", "monitor", kept.upper())
    again = terminal.run("protect", "add", "monitor", kept, *said)
    assert (added.code, again.code) == (0, 0)
    assert "1 keys of monitor are protected, 1 of them were not before" in added.err
    assert "0 of them were not before" in again.err
    [row] = terminal.run("protect", "list", "monitor", "--json").rows
    assert (row["item"], row["reason"], row["by"]) == (kept, "the boss", "ann")
    days = datetime.fromisoformat(row["until"]) - datetime.now(UTC)
    assert timedelta(days=89) < days <= timedelta(days=90)
    listed = terminal.run("protect", "list", "monitor")
    assert kept in listed.out
    assert f"the configuration protects: {BOSS[:8]}-*" in listed.err

    ended = terminal.run("run", "monitor", kept, gone, BOSS, "--output", "-")

    verdicts = [(row["verdict"], row["code"], row["attempts"]) for row in ended.rows]
    assert ended.code == 1
    assert verdicts[0] == verdicts[2] == ("denied", "protected", 0)
    assert verdicts[1][0] == "deleted"
    found = terminal.run("item", "monitor", kept)
    assert "protected until" in found.out
    assert "says ann: the boss" in found.out
    told = json.loads(terminal.run("item", "monitor", BOSS, "--json").out)
    assert told["protected"] is True
    assert told["protection"]["reason"].endswith(f"{BOSS[:8]}-*")

    removed = terminal.run("protect", "remove", "monitor", kept, "--by", "bob")

    [job] = removed.out.split()
    assert "1 items of 1 ended jobs were kept back as protected" in removed.err
    with service(terminal):
        child = terminal.run("retry", job).out.strip()
        terminal.run("watch", child)
        rows = {row["item"]: row["verdict"] for row in terminal.run("results", child).rows}
    assert rows == {kept: "deleted", BOSS: "denied"}
    kinds = [(one["kind"], one["by"]) for one in terminal.run("events", "--json").rows]
    assert kinds.count(("keys.protected", "ann")) == 1
    assert kinds.count(("keys.unprotected", "bob")) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("add", "nowhere", "x"), 2, "there is no target 'nowhere'"),
        (("add", "monitor", "no id"), 2, "'no id' is no item of target 'monitor'"),
        (("add", "monitor", BOSS, "--until", "soon"), 2, "--until: 'soon': expected a duration"),
        (("add", "monitor", BOSS, "--until", "2020-01-31"), 2, "has passed"),
        (("remove", "monitor", BOSS), 4, "1 keys were not protected"),
    ],
)
def test_what_cannot_be_protected_is_told(
    terminal: Terminal, arguments: tuple[str, ...], code: int, expected: str
) -> None:
    ended = terminal.run("protect", *arguments)

    assert (ended.code, ended.out) == (code, "")
    assert expected in ended.err
    assert "Traceback" not in ended.err
    assert terminal.run("protect", "list", "monitor", "--json").out == ""


@pytest.mark.soak
def test_approval_is_for_the_items_that_were_looked_at(terminal: Terminal) -> None:
    ids = terminal.ids(4)
    with service(terminal):
        waiting = terminal.run("submit", "monitor", *ids, "--wait")
        job = waiting.out.strip()
        assert waiting.code == 5
        why = terminal.run("explain", job)
        digest = why.out.split("--digest ")[1].split(",")[0]

        wrong = terminal.run("approve", job, "--digest", "0" * 64)
        right = terminal.run(
            *("approve", job, "--digest", digest, "--by", "ann", "--reason", "checked")
        )
        ended = terminal.run("watch", job)

    assert (wrong.code, right.code, ended.code) == (2, 0, 0)
    assert "look at them again" in wrong.err
    assert f"4 items, digest {digest}" in right.err
    events = terminal.run("events", job, "--json").rows
    [approved] = [one for one in events if one["kind"] == "job.approved"]
    assert (approved["by"], bool(approved["os_user"])) == ("ann", True)
    assert approved["detail"] == {"reason": "checked", "digest": digest, "items": 4}


@pytest.mark.soak
def test_a_declined_job_is_skipped_as_a_whole(terminal: Terminal) -> None:
    with service(terminal):
        job = terminal.run("submit", "monitor", *terminal.ids(4), "--wait").out.strip()
        declined = terminal.run("decline", job, "--by", "ann", "--reason", "wrong list")
        ended = terminal.run("watch", job)

    assert (declined.code, ended.code) == (0, 3)
    assert {row["verdict"] for row in terminal.run("results", job).rows} == {"skipped"}
    assert json.loads(terminal.run("status", job, "--json").out)["reason"] == "wrong list"


@pytest.mark.soak
def test_a_dry_run_tells_what_it_found_and_what_it_would_take(terminal: Terminal) -> None:
    ids = terminal.ids(3)
    with service(terminal):
        dry = terminal.run("submit", "monitor", *ids, BOSS, "--dry-run", "--wait")
        job = dry.out.strip()
        shown = terminal.run("status", job)
        ended = terminal.run("submit", "--plan", job, "--wait")

    expected = ["would take 2 calls of up to 2 items", *(f'  "{one}"' for one in ids)]
    for said in (dry.err, shown.out):
        assert [line for line in expected if line not in said.splitlines()] == []
        assert f"to delete exactly these: deletions submit --plan {job}" in said
    assert dry.code == 0
    # One is kept back, and the plan is larger than its target's max_items.
    assert ended.code == 5


def test_a_plan_of_a_target_that_was_configured_anew_is_refused(terminal: Terminal) -> None:
    plan = terminal.run("run", "monitor", terminal.ids(1)[0], "--dry-run")
    job = plan.err.split("--plan ")[1].split()[0]
    text = terminal.configuration.read_text()
    terminal.configuration.write_text(text.replace("127.0.0.1", "localhost"))

    ended = terminal.run("submit", "--plan", job)

    assert (ended.code, ended.out) == (2, "")
    assert "make a new dry run" in ended.err
