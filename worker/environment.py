"""Where this deployment keeps its messages, results and files.

Read from a mapping that the edge passes in (`os.environ`), in this one place.
With no broker URL the embedded server is used, with no store URL a SQLite file.
"""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote, urlsplit

from worker.errors import BadConfiguration

CONFIGURATION = "DELETIONS_CONFIG"
DATA_DIR = "DELETIONS_DATA_DIR"
BROKER_URL = "DELETIONS_BROKER_URL"
RESULT_BACKEND_URL = "DELETIONS_RESULT_BACKEND_URL"
STORE_URL = "DELETIONS_STORE_URL"
LOG_FORMAT = "DELETIONS_LOG_FORMAT"
FLOWER_PASSWORD = "DELETIONS_FLOWER_PASSWORD"  # noqa: S105 (a variable's name)

#: The data directory, beside the configuration file.
DEFAULT_DATA_DIR = ".deletions"

#: What the kernel takes as the path of a Unix socket, in bytes.
LONGEST_SOCKET_PATH = 103 if sys.platform == "darwin" else 107

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_BROKERS = {"redis", "rediss", "redis+socket"}
_POSTGRESQL = {"postgres", "postgresql", "postgresql+psycopg"}


class LogFormat(StrEnum):
    """How a log record is written: one line each in either form."""

    TEXT = "text"  #: for people: the event, and its fields as name=value
    JSON = "json"  #: for programs: one object a line


@dataclass(frozen=True, slots=True)
class Environment:
    """The resolved places; URLs may hold passwords, so they are not in the repr."""

    configuration: Path
    data_dir: Path
    broker_url: str = field(repr=False)
    result_backend_url: str = field(repr=False)
    store_url: str = field(repr=False)
    flower_password: str | None = field(repr=False)
    #: Nobody named a broker: a server in the data directory has to be started.
    is_embedded: bool
    log_format: LogFormat = LogFormat.TEXT

    def variables(self) -> dict[str, str]:
        """The same places for a child process, which then resolves nothing anew."""
        return {
            CONFIGURATION: str(self.configuration),
            DATA_DIR: str(self.data_dir),
            BROKER_URL: self.broker_url,
            RESULT_BACKEND_URL: self.result_backend_url,
            STORE_URL: self.store_url,
        }


def read_environment(environ: Mapping[str, str], *, configuration: Path, cwd: Path) -> Environment:
    """Resolve every place; nothing is made or opened. An empty variable counts as unset.

    Raises:
        BadConfiguration: with every fault, and no URL's text.
    """
    faults: list[str] = []
    data_dir = _data_dir(environ, configuration=configuration, cwd=cwd)
    given_broker = environ.get(BROKER_URL) or None
    broker_url = given_broker or socket_url(data_dir)
    faults += _faults_of_broker(BROKER_URL, given_broker)
    if given_broker is None:
        faults += _faults_of_socket(data_dir)
    result_backend_url = environ.get(RESULT_BACKEND_URL) or broker_url
    faults += _faults_of_broker(RESULT_BACKEND_URL, environ.get(RESULT_BACKEND_URL) or None)
    store_url = _store_url(environ.get(STORE_URL), data_dir=data_dir, cwd=cwd, faults=faults)
    log_format = _log_format(environ.get(LOG_FORMAT), faults=faults)
    if faults:
        raise BadConfiguration(tuple(faults))
    return Environment(
        configuration=configuration,
        data_dir=data_dir,
        broker_url=broker_url,
        result_backend_url=result_backend_url,
        store_url=store_url,
        flower_password=environ.get(FLOWER_PASSWORD) or None,
        is_embedded=given_broker is None,
        log_format=log_format,
    )


def socket_path(data_dir: Path) -> Path:
    """Where the embedded server listens."""
    return data_dir / "valkey.sock"


def socket_url(data_dir: Path) -> str:
    """The embedded server as a broker URL.

    It names no database: Flower can only read number 0 of a Unix socket.
    """
    return "redis+socket://" + quote(str(socket_path(data_dir)))


def make_data_dir(data_dir: Path) -> Path:
    """Make the data directory, closed to others and kept out of Git; safe to repeat.

    Raises:
        BadConfiguration: it cannot be made, or holds what is not ours and is open to others.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        ignored = data_dir / ".gitignore"
        is_ours = ignored.exists() or not any(data_dir.iterdir())
        if is_ours:
            ignored.write_text("*\n", encoding="ascii")
            ignored.chmod(0o600)
            data_dir.chmod(0o700)
        is_open = bool(data_dir.stat().st_mode & 0o077)
    except OSError as error:
        fault = f"{DATA_DIR}: expected a directory of our own, {data_dir} cannot be used"
        raise BadConfiguration((f"{fault}: {error.strerror}",)) from error
    # Closing a directory that others use, /tmp say, is not for us to do.
    if is_open:
        fault = f"{DATA_DIR}: expected a directory of our own, {data_dir} is open to others"
        raise BadConfiguration((f"{fault}: name an empty one, or chmod 700 it",))
    return data_dir


def _data_dir(environ: Mapping[str, str], *, configuration: Path, cwd: Path) -> Path:
    given = environ.get(DATA_DIR)
    return _absolute(given or configuration.parent / DEFAULT_DATA_DIR, cwd)


def _absolute(path: str | Path, cwd: Path) -> Path:
    """Without `..`, so that two spellings share one server; links are left alone."""
    return Path(os.path.normpath(cwd / path))


def _faults_of_socket(data_dir: Path) -> list[str]:
    path = socket_path(data_dir)
    length = len(os.fsencode(path))
    if length <= LONGEST_SOCKET_PATH:
        return []
    found = f"the embedded broker's socket {path} is a path of {length} bytes"
    wanted = f"expected at most {LONGEST_SOCKET_PATH}: set a shorter one, or {BROKER_URL}"
    return [f"{DATA_DIR}: {found}, {wanted}"]


def _faults_of_broker(variable: str, url: str | None) -> list[str]:
    if url is None or _scheme(url) in _BROKERS:
        return []
    return [f"{variable}: expected redis://, rediss:// or redis+socket://"]


def _store_url(given: str | None, *, data_dir: Path, cwd: Path, faults: list[str]) -> str:
    url = given or f"sqlite:///{data_dir / 'store.sqlite3'}"
    if _scheme(url) in _POSTGRESQL:
        if not _has_a_sound_port(url):
            faults.append(f"{STORE_URL}: expected postgresql://user@host/database, host:5432 too")
        # SQLAlchemy would take psycopg2 for the plain name.
        return "postgresql+psycopg://" + url.split("://", 1)[1]
    file = url.removeprefix("sqlite:///")
    if file != url and file and not file.startswith((":memory:", "file:")):
        if "?" in file or "#" in file:
            faults.append(f"{STORE_URL}: expected a SQLite file with no '?' or '#' in its path")
        return f"sqlite:///{_absolute(file, cwd)}"
    faults.append(
        f"{STORE_URL}: expected postgresql://user@host/database, or sqlite:///path of a file"
    )
    return url


def _log_format(given: str | None, *, faults: list[str]) -> LogFormat:
    try:
        return LogFormat(given or LogFormat.TEXT)
    except ValueError:
        faults.append(f"{LOG_FORMAT}: expected {' or '.join(LogFormat)}")
        return LogFormat.TEXT


def _has_a_sound_port(url: str) -> bool:
    """Whether the host is one and the port, if any, a number."""
    try:
        urlsplit(url).port  # noqa: B018 (it is read when it is asked for)
    except ValueError:
        return False
    return True


def _scheme(url: str) -> str:
    match = _SCHEME.match(url)
    return match[1].lower() if match else ""
