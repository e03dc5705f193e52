"""The embedded broker, with a real server and real users."""

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tests.integration.service import wait_until
from worker.embedded.valkey import BrokerNotStarted, Valkey, answers, find_server
from worker.environment import socket_path
from worker.errors import BadConfiguration

USER = """
import sys, time
from pathlib import Path
from worker.embedded.valkey import Valkey
Valkey(Path(sys.argv[1])).start()
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    # A short path: a Unix socket's is at most 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="valkey-", dir="/tmp"))
    yield directory
    wait_until(lambda: not processes_of(directory))
    shutil.rmtree(directory)


def processes_of(data_dir: Path) -> dict[int, str]:
    """Servers and keepers of a directory, by process id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # Another test's process may have been given any bytes.
                line = os.fsdecode((entry / "cmdline").read_bytes().replace(b"\0", b" "))
                if str(data_dir) in line and ("valkey-server" in line or "keeper" in line):
                    found[int(entry.name)] = line
    return found


def servers_of(data_dir: Path) -> list[int]:
    lines = processes_of(data_dir)
    return [pid for pid, line in lines.items() if "worker.embedded.keeper" not in line]


def keepers_of(data_dir: Path) -> list[int]:
    lines = processes_of(data_dir)
    return [pid for pid, line in lines.items() if "worker.embedded.keeper" in line]


def ask(data_dir: Path, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(socket_path(data_dir)))
        client.sendall(f"{command}\r\n".encode())
        return client.recv(65_536).decode()


@contextmanager
def user_process(data_dir: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that uses the server, until it is killed."""
    command = [sys.executable, "-c", USER, str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_the_server_answers_when_it_is_started_and_is_gone_when_it_is_stopped(
    data_dir: Path,
) -> None:
    with Valkey(data_dir) as url:
        assert url == f"redis+socket://{data_dir}/valkey.sock"
        assert "+PONG" in ask(data_dir, "PING")

    assert not servers_of(data_dir)
    assert not answers(socket_path(data_dir))


def test_what_was_written_is_there_after_a_restart(data_dir: Path) -> None:
    with Valkey(data_dir):
        ask(data_dir, "SET key kept")

    with Valkey(data_dir):
        assert "kept" in ask(data_dir, "GET key")


def test_nobody_else_can_reach_the_server(data_dir: Path) -> None:
    with Valkey(data_dir):
        modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in data_dir.rglob("*")}
        listening = ask(data_dir, "CONFIG GET port")

    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert not {path: mode for path, mode in modes.items() if mode & 0o077}
    assert listening.split() == ["*2", "$4", "port", "$1", "0"]


def test_the_server_never_throws_messages_away(data_dir: Path) -> None:
    with Valkey(data_dir):
        assert "noeviction" in ask(data_dir, "CONFIG GET maxmemory-policy")
        assert "everysec" in ask(data_dir, "CONFIG GET appendfsync")


def test_two_users_share_one_server_until_the_last_one_has_gone(data_dir: Path) -> None:
    first, second = Valkey(data_dir), Valkey(data_dir)
    first.start()
    second.start()

    first.stop()

    assert len(servers_of(data_dir)) == 1
    assert answers(socket_path(data_dir))
    second.stop()
    assert not servers_of(data_dir)


def test_users_that_start_at_once_end_with_one_server(data_dir: Path) -> None:
    command = [sys.executable, "-c", USER, str(data_dir)]
    users = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    try:
        assert [user.stdout.readline() for user in users if user.stdout] == ["ready\n"] * 4
        assert len(servers_of(data_dir)) == 1
        assert len(keepers_of(data_dir)) == 1
    finally:
        for user in users:
            user.kill()
            user.communicate()


def test_the_server_goes_with_its_only_user_even_after_kill_9(data_dir: Path) -> None:
    with user_process(data_dir) as user:
        ask(data_dir, "SET key kept")
        user.kill()
        wait_until(lambda: not processes_of(data_dir), seconds=2)

    with Valkey(data_dir):
        assert "kept" in ask(data_dir, "GET key")


def test_the_server_stays_when_one_of_two_users_is_killed(data_dir: Path) -> None:
    with Valkey(data_dir), user_process(data_dir) as user:
        (server,) = servers_of(data_dir)
        user.kill()
        user.wait()

        assert servers_of(data_dir) == [server]
        assert answers(socket_path(data_dir))


def test_users_that_come_while_the_last_one_goes_always_have_a_server(data_dir: Path) -> None:
    for _ in range(5):
        with user_process(data_dir) as user:
            user.kill()
            # Now the keeper is about to stop the server that still answers.
            with Valkey(data_dir):
                assert "+PONG" in ask(data_dir, "PING")
                assert len(servers_of(data_dir)) == 1


def test_a_server_that_dies_is_brought_back_with_its_data(data_dir: Path) -> None:
    with Valkey(data_dir):
        ask(data_dir, "SET key kept")
        (server,) = servers_of(data_dir)
        os.kill(server, signal.SIGTERM)
        wait_until(lambda: server not in servers_of(data_dir))
        wait_until(lambda: answers(socket_path(data_dir)))

        assert "kept" in ask(data_dir, "GET key")


def test_the_keeper_stays_while_a_service_manager_asks_everybody_to_stop(data_dir: Path) -> None:
    with Valkey(data_dir):
        (keeper,) = keepers_of(data_dir)
        os.kill(keeper, signal.SIGTERM)
        os.kill(keeper, signal.SIGINT)

        assert keepers_of(data_dir) == [keeper]
        assert answers(socket_path(data_dir))


def test_a_server_does_not_outlive_its_keeper_and_a_user_can_bring_both_back(
    data_dir: Path,
) -> None:
    with Valkey(data_dir) as _:
        valkey = Valkey(data_dir)
        valkey.start()
        (server,) = servers_of(data_dir)
        os.kill(keepers_of(data_dir)[0], signal.SIGKILL)
        wait_until(lambda: server not in servers_of(data_dir), seconds=3)

        valkey.ensure()

        assert len(servers_of(data_dir)) == 1
        valkey.stop()


def test_starting_twice_is_starting_once(data_dir: Path) -> None:
    valkey = Valkey(data_dir)
    valkey.start()
    valkey.start()

    valkey.stop()
    valkey.stop()

    assert not servers_of(data_dir)


def test_a_server_that_cannot_start_is_told_with_its_log(data_dir: Path) -> None:
    (data_dir / "valkey" / "appendonlydir").mkdir(parents=True)
    manifest = data_dir / "valkey" / "appendonlydir" / "appendonly.aof.manifest"
    manifest.write_text("not a manifest\n")
    data_dir.chmod(0o700)

    with pytest.raises(BrokerNotStarted, match=r"logs/valkey\.log"):
        Valkey(data_dir, timeout=timedelta(seconds=1)).start()


def test_a_path_with_strange_letters_works(data_dir: Path) -> None:
    strange = data_dir / 'it\'s "a" b%20c'

    with Valkey(strange):
        assert "+PONG" in ask(strange, "PING")


def test_a_platform_without_server_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "sparc")

    with pytest.raises(BadConfiguration, match="DELETIONS_BROKER_URL: no embedded broker"):
        find_server()
