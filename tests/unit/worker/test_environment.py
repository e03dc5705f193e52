"""Resolving the environment."""

import stat
from pathlib import Path

import pytest

from worker.environment import Environment, LogFormat, make_data_dir, read_environment
from worker.errors import BadConfiguration

HERE = Path("/srv/app")


def read(**variables: str) -> Environment:
    environ = {f"DELETIONS_{name}": value for name, value in variables.items()}
    return read_environment(environ, configuration=HERE / "etc" / "deletions.toml", cwd=HERE)


def faults(**variables: str) -> tuple[str, ...]:
    with pytest.raises(BadConfiguration) as caught:
        read(**variables)
    return caught.value.faults


def test_with_nothing_set_all_is_beside_the_configuration() -> None:
    found = read()

    assert found.data_dir == HERE / "etc" / ".deletions"
    assert found.broker_url == "redis+socket:///srv/app/etc/.deletions/valkey.sock"
    assert found.result_backend_url == found.broker_url
    assert found.store_url == "sqlite:////srv/app/etc/.deletions/store.sqlite3"
    assert found.is_embedded


def test_an_empty_variable_counts_as_unset() -> None:
    empty = read(BROKER_URL="", RESULT_BACKEND_URL="", STORE_URL="", DATA_DIR="")

    assert empty == read()


def test_logs_are_text_unless_json_is_asked_for() -> None:
    assert read(LOG_FORMAT="").log_format is LogFormat.TEXT
    assert read(LOG_FORMAT="json").log_format is LogFormat.JSON
    assert faults(LOG_FORMAT="xml") == ("DELETIONS_LOG_FORMAT: expected text or json",)


def test_a_broker_of_our_own_is_not_embedded() -> None:
    found = read(BROKER_URL="redis://redis:6379/3")

    assert not found.is_embedded
    assert found.result_backend_url == "redis://redis:6379/3"


def test_a_child_process_resolves_the_same() -> None:
    found = read(DATA_DIR="data", STORE_URL="sqlite:///my.db")

    child = read_environment(found.variables(), configuration=found.configuration, cwd=Path("/"))

    assert child.variables() == found.variables()
    assert child.data_dir == HERE / "data"
    assert not child.is_embedded


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_is_reached_through_psycopg_3(scheme: str) -> None:
    found = read(STORE_URL=f"{scheme}://me:p%40ss@db/deletions?host=/run")

    assert found.store_url == "postgresql+psycopg://me:p%40ss@db/deletions?host=/run"


def test_all_faults_are_told_without_the_text_of_a_url() -> None:
    found = faults(
        BROKER_URL="amqp://me:hunter2@rabbit",
        RESULT_BACKEND_URL="hunter2",
        STORE_URL="mysql://me:hunter2@db/x",
    )

    assert [fault.split(":")[0] for fault in found] == [
        "DELETIONS_BROKER_URL",
        "DELETIONS_RESULT_BACKEND_URL",
        "DELETIONS_STORE_URL",
    ]
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///a?b", "postgresql+psycopg2://db/x"]
)
def test_a_store_that_several_processes_cannot_share_is_refused(url: str) -> None:
    assert len(faults(STORE_URL=url)) == 1


def test_passwords_do_not_show() -> None:
    found = read(BROKER_URL="redis://:hunter2@redis", FLOWER_PASSWORD="hunter2")

    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(("length", "is_short_enough"), [(107, True), (108, False)])
def test_a_socket_path_has_to_fit_the_system(length: int, is_short_enough: bool) -> None:  # noqa: FBT001
    directory = "/" + "d" * (length - len("/" + "/valkey.sock"))

    if is_short_enough:
        assert read(DATA_DIR=directory).is_embedded
    else:
        assert "108 bytes" in faults(DATA_DIR=directory)[0]


def test_a_long_path_is_fine_for_a_broker_of_our_own() -> None:
    assert not read(DATA_DIR="/" + "d" * 200, BROKER_URL="redis://redis").is_embedded


def test_a_path_is_quoted_in_the_url() -> None:
    found = read(DATA_DIR="/srv/a b%20c")

    assert found.broker_url == "redis+socket:///srv/a%20b%2520c/valkey.sock"


def test_the_data_directory_is_closed_and_out_of_git(tmp_path: Path) -> None:
    made = make_data_dir(tmp_path / "deep" / ".deletions")
    make_data_dir(made)

    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert (made / ".gitignore").read_text() == "*\n"


def test_a_data_directory_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").touch()

    with pytest.raises(BadConfiguration, match="DELETIONS_DATA_DIR"):
        make_data_dir(tmp_path / "data")


def test_a_directory_that_others_use_is_not_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "theirs").touch()

    with pytest.raises(BadConfiguration, match="open to others"):
        make_data_dir(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_an_empty_directory_is_taken_over(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    make_data_dir(tmp_path)

    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
