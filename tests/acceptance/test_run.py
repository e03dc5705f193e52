"""`deletions run`: all in one go, on the embedded default."""

import json
import os
import signal
import subprocess

import pytest

from tests.acceptance.terminal import Monitor, Terminal, finish, service
from tests.integration.service import wait_until

ABSENT = "00000000-0000-4000-8000-00000000dead"


def test_items_of_the_command_line_are_deleted_and_nothing_is_left_running() -> None:
    with Terminal({"monitor": Monitor(items=3)}) as terminal:
        first, second, kept = terminal.ids(3)

        ended = terminal.run("run", "monitor", first, second.upper(), first, ABSENT)

        assert (ended.code, ended.err) == (0, "")
        assert terminal.practice.remaining == {kept}
        assert terminal.processes() == {}
        assert not (terminal.data_dir / "valkey.sock").exists()
        lines = [line.split() for line in ended.out.splitlines()[1:]]
        assert lines == [
            ["deleted", "2"],
            ["absent", "1"],
            ["items", "3", "and", "1", "duplicates"],
        ]


def test_a_bad_line_is_told_with_its_number_and_loses_nothing_else() -> None:
    with Terminal({"monitor": Monitor(items=4)}) as terminal:
        ids = terminal.ids(4)
        lines = [json.dumps(ids[0]), "{", json.dumps(ids[1]), "1.5", f"{2**70}", '"\\ud800"', "{}"]
        name = terminal.file("items.jsonl", "\n".join([*lines, json.dumps(ids[2]), "", ""]))
        kept = terminal.folder / "kept.jsonl"

        ended = terminal.run("run", "monitor", "--from", name, "--output", str(kept))

        assert ended.code == 1
        told = [line.split(":")[0] for line in ended.err.splitlines()]
        assert [line for line in told if line.startswith("line")] == ["line 2", "line 4"]
        rows = [json.loads(line) for line in kept.read_text().splitlines()]
        verdicts = {row["position"]: (row["verdict"], row["attempts"]) for row in rows}
        assert verdicts == {
            **dict.fromkeys((0, 2, 7), ("deleted", 1)),
            **dict.fromkeys((1, 3, 4, 5, 6), ("rejected", 0)),
        }
        assert [rows[place]["item"] for place in (1, 4, 5, 6)] == [None, 2**70, "\ud800", {}]
        assert terminal.practice.remaining == {ids[3]}
        assert kept.stat().st_mode & 0o777 == 0o600


def test_a_csv_column_from_standard_input_and_results_on_standard_output() -> None:
    with Terminal({"monitor": Monitor(items=2)}) as terminal:
        first, second = terminal.ids(2)
        rows = f'name,id\n"a, b",{first}\nshort\n"c\nd",{second}\n'

        ended = terminal.run(
            *("run", "monitor", "--from", "-", "--column", "id", "--output", "-"),
            stdin=rows.encode(),
        )

        assert ended.code == 1
        assert "line 2: expected 2 cells as in the header, found 1" in ended.err
        assert [(row["position"], row["verdict"]) for row in ended.rows] == [
            (0, "deleted"),
            (1, "rejected"),
            (2, "deleted"),
        ]
        assert "completed" in ended.err


def test_a_login_that_is_refused_stops_the_job_at_once_with_the_reason() -> None:
    with Terminal({"monitor": Monitor(items=200)}) as terminal:
        name = terminal.file("items.txt", "\n".join(terminal.ids(200)))

        ended = terminal.run(
            *("run", "monitor", "--from", name, "--output", "-"),
            environ={"MONITOR_PASSWORD": "wrong"},
            timeout=30,
        )

        assert ended.code == 3
        assert "the login is refused; change username or password" in ended.err
        assert {(row["verdict"], row["attempts"]) for row in ended.rows} == {("skipped", 0)}
        assert len(ended.rows) == 200


def test_the_first_interruption_cancels_and_what_was_never_sent_is_skipped() -> None:
    with Terminal({"monitor": Monitor(items=2000, latency=0.2)}) as terminal:
        name = terminal.file("items.txt", "\n".join(terminal.ids(2000)))
        process = terminal.start("run", "monitor", "--from", name, "--output", "-")
        wait_until(lambda: terminal.practice.calls > 1)

        process.send_signal(signal.SIGINT)
        ended = finish(process)

        assert ended.code == 3
        assert "cancelled after" in ended.err
        assert len(ended.rows) == 2000
        sent = {row["item"] for row in ended.rows if row["verdict"] == "deleted"}
        assert sent == terminal.practice.deleted.keys()
        assert 0 < len(sent) < 2000
        rest = {(row["verdict"], row["attempts"]) for row in ended.rows if row["item"] not in sent}
        assert rest == {("skipped", 0)}
        assert terminal.processes() == {}


def test_an_interruption_while_the_workers_start_deletes_nothing() -> None:
    with Terminal({"monitor": Monitor(items=3)}) as terminal:
        process = terminal.start("run", "monitor", *terminal.ids(3))
        wait_until(lambda: any("-run-" in line for line in terminal.processes().values()))

        process.send_signal(signal.SIGINT)
        ended = finish(process)

        assert ended.code == 3
        assert "Traceback" not in ended.err
        # What was on its way must not be done by whoever starts next.
        assert terminal.run("run", "monitor", ABSENT).code == 0
        assert len(terminal.practice.remaining) == 3


def test_the_second_interruption_leaves_and_the_job_ends_later() -> None:
    with Terminal({"monitor": Monitor(items=500, latency=1)}) as terminal:
        name = terminal.file("items.txt", "\n".join(terminal.ids(500)))
        process = terminal.start("run", "monitor", "--from", name)
        wait_until(lambda: terminal.practice.calls)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert b"cancelling" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        ended = finish(process, timeout=20)

        assert ended.code == 3
        assert "Traceback" not in ended.err
        wait_until(lambda: not terminal.processes())


def test_a_target_that_takes_items_only_refuses_a_query(terminal: Terminal) -> None:
    ended = terminal.run("run", "monitor", "--query", '{"a": 1}')

    assert ended.code == 2
    assert "takes items only: its configuration does not say allow_query = true" in ended.err


def test_an_output_that_cannot_be_written_is_told_before_anything_is_deleted() -> None:
    with Terminal({"monitor": Monitor(items=1)}) as terminal:
        ids = terminal.ids(1)

        nowhere = terminal.run("run", "monitor", *ids, "--output", "/nowhere/kept.jsonl")
        folder = terminal.run("run", "monitor", *ids, "--output", str(terminal.folder))

        assert (nowhere.code, folder.code) == (2, 2)
        assert nowhere.err == "/nowhere/kept.jsonl cannot be written: No such file or directory\n"
        assert folder.err == f"{terminal.folder} cannot be written: Is a directory\n"
        assert terminal.practice.requests == 0


@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_person_at_a_terminal_is_asked_and_sees_a_bar(answer: str) -> None:
    with Terminal({"monitor": Monitor(items=30)}) as terminal:
        name = terminal.file("items.txt", "\n".join(terminal.ids(30)))

        ended = terminal.type("run", "monitor", "--from", name, keys=f"{answer}\n")

        assert "delete 30 items from monitor (http://127.0.0.1:" in ended.err
        if answer == "n":
            assert ended.code == 3
            assert terminal.practice.requests == 0
            assert terminal.run("jobs", "--json").out == ""
            return
        assert ended.code == 0
        assert "30/30" in ended.err
        assert not terminal.practice.remaining


@pytest.mark.soak
def test_two_at_once_share_one_data_directory() -> None:
    with Terminal({"one": Monitor(items=300), "two": Monitor(items=300, seed=1)}) as terminal:
        names = [
            terminal.file(f"{seed}.txt", "\n".join(terminal.ids(300, seed=seed))) for seed in (0, 1)
        ]
        first = terminal.start("run", "one", "--from", names[0])
        second = terminal.start("run", "two", "--from", names[1])

        ended = finish(first), finish(second)

        assert [one.code for one in ended] == [0, 0], ended
        assert not any(practice.remaining for practice in terminal.practices.values())
        assert terminal.processes() == {}


@pytest.mark.soak
def test_after_kill_9_everything_ends_by_itself_and_a_later_service_finishes_the_job() -> None:
    with Terminal({"monitor": Monitor(items=3000, latency=0.3)}) as terminal:
        name = terminal.file("items.txt", "\n".join(terminal.ids(3000)))
        process = terminal.start("run", "monitor", "--from", name, stdout=subprocess.DEVNULL)
        wait_until(lambda: terminal.practice.calls > 1)

        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        wait_until(lambda: not terminal.processes(), seconds=10)

        assert not (terminal.data_dir / "valkey.sock").exists()
        (job,) = terminal.run("jobs", "--json").rows
        assert job["state"] == "running"
        terminal.practice.latency *= 0
        with service(terminal, "--port=0"):
            assert terminal.run("watch", job["id"]).code == 0
        assert not terminal.practice.remaining
        assert set(terminal.practice.deleted.values()) == {1}


@pytest.mark.soak
def test_twenty_thousand_items_agree_with_a_misbehaving_monitor_one_by_one() -> None:
    plan = "lost/37,busy:1/61,omitted/43,shuffled/3,cut/53,truncated/59"
    monitor = Monitor(items=21_000, misbehave=plan, options="max_in_flight = 4")
    with Terminal({"monitor": monitor}) as terminal:
        practice, asked, absent = terminal.practice, terminal.ids(20_000), terminal.ids(200, seed=1)
        practice.poison.add(asked[10_000])
        wanted = set(asked) - practice.poison
        name = terminal.file("items.txt", "\n".join([*asked, *absent, asked[0].upper()]))

        ended = terminal.run("run", "monitor", "--from", name, "--output", "-")

        assert ended.code == 1
        row_of = {row["item"]: row for row in ended.rows}
        assert row_of.keys() == {*asked, *absent}
        assert len(ended.rows) == 20_200
        # Nothing else was deleted, and nothing that is called gone is there.
        assert practice.deleted.keys() == wanted
        assert {key for key in row_of if row_of[key]["verdict"] == "rejected"} == practice.poison
        deleted = {key for key in wanted if row_of[key]["verdict"] == "deleted"}
        repeated = {key for key in row_of if row_of[key]["evidence"] == "repeat"}
        # What we may have deleted ourselves is not claimed, and nothing else is in doubt.
        assert {row_of[key]["verdict"] for key in row_of.keys() - deleted - practice.poison} == {
            "absent"
        }
        assert wanted - deleted <= repeated
        assert not deleted & repeated
        assert all(practice.asked[key] > 1 and row_of[key]["attempts"] > 1 for key in repeated)
