"""What goes wrong before anything is deleted: each has one clear message and its code."""

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine

from tests.acceptance.terminal import Ended, Monitor, Terminal
from tests.integration.service import wait_until
from worker.store.migrations import steps


def told(ended: Ended, code: int) -> str:
    """What a refused command says; one message, and nothing where data belongs."""
    assert (ended.code, ended.out) == (code, ""), ended
    assert "Traceback" not in ended.err
    return ended.err


def test_init_writes_a_file_that_loads_and_never_overwrites_one(terminal: Terminal) -> None:
    terminal.configuration.unlink()

    first, second = terminal.run("init"), terminal.run("init")

    assert first.code == 0
    assert "deletions.toml is there already: move it away first" in told(second, 2)
    listed = terminal.run("targets")
    assert listed.code == 0
    assert "http://127.0.0.1:8411/api/v1" in listed.out


def test_the_template_describes_a_practice_server_that_answers(terminal: Terminal) -> None:
    terminal.configuration.unlink()
    terminal.run("init")
    with terminal.start("practice", "bas_ip", "--port=0", "--items=5") as server:
        assert server.stdout is not None
        port = json.loads(server.stdout.readline())["port"]
        text = terminal.configuration.read_text()
        terminal.configuration.write_text(text.replace("8411", str(port)))
        password = {"DELETIONS_PRACTICE_PASSWORD": "practice"}

        checked = terminal.run("targets", "check", environ=password)

        server.terminate()
    assert checked.code == 0
    assert checked.out == "practice: ok: the monitor answers and takes the login\n"
    assert "it cannot show: the right to delete" in checked.err
    assert server.returncode == 0


def test_targets_are_checked_one_by_one() -> None:
    nobody = '[targets.nobody]\nadapter = "bas_ip"\nbase_url = "http://127.0.0.1:9/api/v1"\n'
    with Terminal(
        {"monitor": Monitor()}, more=nobody + 'username = "a"\npassword = { env = "HOME" }'
    ) as terminal:
        good = terminal.run("targets", "check")
        wrong = terminal.run("targets", "check", environ={"MONITOR_PASSWORD": "wrong"})

    assert (good.code, wrong.code) == (4, 4)
    assert good.out.splitlines()[0] == "monitor: ok: the monitor answers and takes the login"
    assert good.out.splitlines()[1].startswith("nobody: failed: ")
    assert "the login is refused; change username or password" in wrong.out
    assert wrong.out.splitlines()[1].endswith("no connection: Connection refused")


def test_all_faults_of_a_configuration_are_told_at_once(terminal: Terminal) -> None:
    terminal.configuration.write_text(
        '[store]\nretain_for = "x"\n[targets.a]\nadapter = "bas_ip"\npassword = "open"\n'
        '[targets.b]\nadapter = "nimbel"\n[what]\n'
    )

    said = told(terminal.run("jobs"), 2)

    assert [line.split(":")[0] for line in said.splitlines()] == [
        *("what", "store.retain_for", "targets.a.base_url", "targets.a.password"),
        "targets.b.adapter",
    ]
    assert "open" not in said


def test_a_configuration_that_is_no_toml_is_told_with_its_line(terminal: Terminal) -> None:
    terminal.configuration.write_text("[targets.a]\nadapter = \n")

    assert f"{terminal.configuration}: not TOML: " in (said := told(terminal.run("jobs"), 2))
    assert "line 2" in said


def test_a_missing_configuration_is_told_with_what_to_do(terminal: Terminal) -> None:
    terminal.configuration.unlink()

    named = told(terminal.run("jobs"), 2)
    unnamed = told(terminal.run("jobs", environ={"DELETIONS_CONFIG": ""}), 2)

    assert named == f"{terminal.configuration}: cannot be read: No such file or directory\n"
    assert "make one with `deletions init`" in unnamed


@pytest.mark.parametrize(
    ("url", "code", "expected"),
    [
        ("nonsense", 2, "expected postgresql://user@host/database, or sqlite:///path of a file"),
        ("postgresql://a:b@c:d/e", 2, "expected postgresql://user@host/database"),
        ("sqlite:////proc/nothing/store", 4, "/proc/nothing/store cannot be opened"),
        ("postgresql://nobody@127.0.0.1:1/x", 4, "the store does not answer"),
    ],
)
def test_a_store_that_cannot_be_used_is_told(
    terminal: Terminal, url: str, code: int, expected: str
) -> None:
    assert expected in told(terminal.run("jobs", environ={"DELETIONS_STORE_URL": url}), code)


def test_a_store_at_an_older_migration_is_moved_on_by_migrate_alone(terminal: Terminal) -> None:
    path = terminal.folder / "store.sqlite3"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        command.upgrade(steps._config(connection), "0001")
    engine.dispose()
    store = {"DELETIONS_STORE_URL": f"sqlite:///{path}"}

    for arguments in (["jobs"], ["run", "monitor", "x"], ["up", "--port=0"]):
        said = told(terminal.run(*arguments, environ=store), 2)
        assert "the store is at migration 0001, this program needs" in said
        assert "stop the workers, make a backup and run `deletions migrate`" in said
    moved = terminal.run("migrate", environ=store)

    assert "the store was at 0001 and is up to date" in told(moved, 0)
    assert terminal.run("jobs", "--json", environ=store).code == 0
    assert terminal.processes() == {}


def test_a_store_at_an_unknown_migration_needs_a_newer_program(terminal: Terminal) -> None:
    assert terminal.run("jobs").code == 0
    with closing(sqlite3.connect(terminal.data_dir / "store.sqlite3")) as store, store:
        store.execute("UPDATE alembic_version SET version_num = '9999'")

    for name in ("jobs", "migrate"):
        said = told(terminal.run(name), 2)
        assert "migration 9999, which this program does not know" in said
        assert "run the newer program that made it" in said


def test_a_data_directory_that_is_open_to_others_is_refused(terminal: Terminal) -> None:
    terminal.data_dir.mkdir(mode=0o755)
    (terminal.data_dir / "somebody").write_text("else's")

    said = told(terminal.run("jobs"), 2)

    assert f"{terminal.data_dir} is open to others: name an empty one, or chmod 700 it" in said
    assert sorted(path.name for path in terminal.data_dir.iterdir()) == ["somebody"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "nowhere", "x"], "there is no target 'nowhere'; configured: monitor"),
        (["submit", "nowhere", "x"], "there is no target 'nowhere'; configured: monitor"),
        (["run", "monitor"], "expected exactly one of: items, --from FILE, --query JSON"),
        (["run", "monitor", "--from", "/nowhere"], "/nowhere: cannot be read: No such file"),
        (["run", "monitor", "--from", "/tmp"], "/tmp: cannot be read: Is a directory"),
        (["run", "monitor", "--query", "{"], "--query: expected a JSON object"),
        (["submit", "monitor", "x", "--id", "7"], "'7' is no job id: expected a UUID"),
        (["submit", "--plan", "7", "--dry-run"], "leave them out, and --dry-run"),
        (["practice", "nimbus"], "there is no practice server 'nimbus'; there are: "),
        (["practice", "bas_ip", "--misbehave", "x"], "--misbehave: 'x': expected KIND"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
)
def test_wrong_use_is_told_and_starts_nothing(
    terminal: Terminal, arguments: list[str], expected: str
) -> None:
    assert expected in told(terminal.run(*arguments, timeout=10), 2)
    assert not (terminal.data_dir / "logs").exists()


def test_submit_without_workers_says_so_quickly(terminal: Terminal) -> None:
    said = told(terminal.run("submit", "monitor", "x", timeout=10), 4)

    assert "no worker runs here: start them with `deletions up`" in said


def test_a_reader_of_a_terminal_sees_no_escape_sequence_in_a_pipe(terminal: Terminal) -> None:
    process = terminal.start("--help", stderr=subprocess.STDOUT)
    out, _ = process.communicate()

    assert process.returncode == 0
    assert b"\x1b" not in out


def test_a_configuration_may_be_named_from_elsewhere(terminal: Terminal) -> None:
    elsewhere = Path(terminal.folder / "elsewhere.toml")
    terminal.configuration.rename(elsewhere)

    assert terminal.run("targets", "--config", str(elsewhere)).code == 0
    wait_until(lambda: not terminal.processes())
