"""Child processes, with trivial commands."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.integration.service import wait_until
from worker.embedded.commands import child_environ, clock_command, worker_command
from worker.embedded.flower import choose_password, flower_command
from worker.embedded.processes import Change, Command, Processes
from worker.environment import read_environment
from worker.errors import BadConfiguration

SLEEP = "import time; print('started', flush=True); time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEP
GRACE = timedelta(seconds=10)


class HandClock:
    """A clock that a test moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def data_dir() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="processes-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def processes(data_dir: Path, clock: HandClock) -> Iterator[Processes]:
    processes = Processes(data_dir, environ=dict(os.environ), clock=clock)
    yield processes
    processes.stop(grace=timedelta(0))


def python(name: str, code: str, **variables: str) -> Command:
    return Command(name, (sys.executable, "-c", code), variables=variables)


def has_gone(pid: int) -> bool:
    """Dead, or a zombie whom nobody has buried."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return True
    return state == "Z"


def log_of(data_dir: Path, name: str) -> str:
    path = data_dir / "logs" / f"{name}.log"
    return path.read_text() if path.exists() else ""


def test_children_are_out_of_reach_of_ctrl_c_and_are_asked_to_finish(
    processes: Processes, data_dir: Path
) -> None:
    pid = processes.start(python("one", SLEEP))
    wait_until(lambda: "started" in log_of(data_dir, "one"))

    assert os.getsid(pid) == pid
    assert processes.stop(grace=GRACE) == []
    assert has_gone(pid)


def test_a_child_that_does_not_finish_is_killed(processes: Processes, data_dir: Path) -> None:
    pid = processes.start(python("deaf", DEAF))
    wait_until(lambda: "started" in log_of(data_dir, "deaf"))

    assert processes.stop(grace=timedelta(seconds=0.1)) == ["deaf"]
    assert has_gone(pid)


def test_the_log_of_a_child_is_for_us_alone(processes: Processes, data_dir: Path) -> None:
    processes.start(python("one", "import sys; print('out'); sys.exit('error')"))
    wait_until(lambda: "error" in log_of(data_dir, "one"))

    assert "out" in log_of(data_dir, "one")
    assert stat.S_IMODE((data_dir / "logs" / "one.log").stat().st_mode) == 0o600


def test_a_large_log_is_put_aside(processes: Processes, data_dir: Path) -> None:
    (data_dir / "logs").mkdir()
    (data_dir / "logs" / "one.log").write_bytes(b"x" * (10 * 1024 * 1024 + 1))

    processes.start(python("one", SLEEP))

    wait_until(lambda: log_of(data_dir, "one") == "started\n")
    assert (data_dir / "logs" / "one.log.1").exists()


def test_a_dead_child_is_started_again_after_pauses_that_grow(
    processes: Processes, clock: HandClock
) -> None:
    processes.start(python("one", "raise SystemExit(3)"))
    pauses = []
    for _ in range(3):
        wait_until(lambda: not processes.pids())
        (died,) = processes.poll()
        assert (died.name, died.change, died.exit_code) == ("one", Change.DIED, 3)
        pause = 0
        while not (seen := processes.poll()):
            clock.now += 1
            pause += 1
        assert [one.change for one in seen] == [Change.STARTED]
        pauses.append(pause)

    assert pauses == [1, 2, 4]


def test_a_child_that_ran_for_a_while_pauses_briefly_again(
    processes: Processes, clock: HandClock
) -> None:
    processes.start(python("one", "pass"))
    for _ in range(4):
        wait_until(lambda: not processes.pids())
        processes.poll()
        clock.now += 30
        processes.poll()
    clock.now += 60
    wait_until(lambda: not processes.pids())
    processes.poll()
    clock.now += 1

    assert [seen.change for seen in processes.poll()] == [Change.STARTED]


def test_a_living_child_is_left_alone(processes: Processes) -> None:
    pid = processes.start(python("one", SLEEP))

    assert processes.poll() == []
    assert processes.pids() == {"one": pid}


def test_a_name_is_given_once(processes: Processes) -> None:
    processes.start(python("one", SLEEP))

    with pytest.raises(ValueError, match="'one' is there already"):
        processes.start(python("one", SLEEP))


def test_no_child_outlives_us_even_after_kill_9(data_dir: Path) -> None:
    code = f"""
import os, sys, time
from pathlib import Path
from worker.embedded.processes import Command, Processes
processes = Processes(Path({str(data_dir)!r}), environ=dict(os.environ))
print(processes.start(Command("one", (sys.executable, "-c", {SLEEP!r}))), flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait_until(lambda: "started" in log_of(data_dir, "one"))
        os.kill(parent.pid, signal.SIGKILL)

    wait_until(lambda: has_gone(pid), seconds=2)


def test_an_interrupted_stop_kills_at_once(processes: Processes, data_dir: Path) -> None:
    pid = processes.start(python("deaf", DEAF))
    wait_until(lambda: "started" in log_of(data_dir, "deaf"))

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            processes.stop(grace=GRACE)
    finally:
        signal.signal(signal.SIGALRM, previous)

    assert has_gone(pid)


def test_a_child_has_the_places_and_none_of_flowers_variables() -> None:
    environ = {
        "FLOWER_UNAUTHENTICATED_API": "true",
        "DELETIONS_FLOWER_PASSWORD": "hunter2",
        "CRM_TOKEN": "kept",
    }
    places = read_environment(environ, configuration=Path("/srv/deletions.toml"), cwd=Path("/"))

    found = child_environ(environ, places)

    assert found == {
        "CRM_TOKEN": "kept",
        "DELETIONS_CONFIG": "/srv/deletions.toml",
        "DELETIONS_DATA_DIR": "/srv/.deletions",
        "DELETIONS_BROKER_URL": "redis+socket:///srv/.deletions/valkey.sock",
        "DELETIONS_RESULT_BACKEND_URL": "redis+socket:///srv/.deletions/valkey.sock",
        "DELETIONS_STORE_URL": "sqlite:////srv/.deletions/store.sqlite3",
    }


def test_workers_and_clock_have_stable_names() -> None:
    worker, clock = worker_command(2, "-E"), clock_command(Path("/data"))

    assert worker.name == "worker2"
    assert worker.arguments[-5:] == ("worker", "-n", "worker2@%h", "--loglevel=INFO", "-E")
    assert "--schedule=/data/clock-schedule" in clock.arguments


def test_flower_is_closed_and_its_password_is_not_in_the_command_line() -> None:
    command = flower_command("hunter2", port=5556)

    assert {"--address=127.0.0.1", "--port=5556", "--read-only=true"} <= set(command.arguments)
    assert "hunter2" not in repr(command)
    assert command.variables == {"FLOWER_BASIC_AUTH": "deletions:hunter2"}


@pytest.mark.parametrize("password", ["a,b", "ü", "a\nb"])
def test_a_password_that_flower_would_misread_is_refused(password: str) -> None:
    with pytest.raises(BadConfiguration, match="DELETIONS_FLOWER_PASSWORD"):
        choose_password(password)


def test_a_password_is_made_when_none_is_given() -> None:
    assert choose_password("given") == "given"
    assert len({choose_password(None) for _ in range(3)}) == 3
