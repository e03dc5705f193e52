"""Reads deletions.toml: the targets, how they are paced, and the standing orders.

All faults of a file are told at once, each with its key and what was expected.
Relative paths, as in `{ file = "token" }`, are beside the configuration file,
wherever the worker was started.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError

from api_adapters import registry
from api_adapters.base import Adapter
from api_adapters.errors import BadSettings
from api_adapters.settings import Settings
from worker.environment import CONFIGURATION
from worker.errors import BadConfiguration
from worker.faults import faults_of, key_path, unknown
from worker.sections import NotifySettings, PurgeSettings, StoreSettings
from worker.target import Target

FILE_NAME = "deletions.toml"

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SQLITE = "sqlite:///"

Thing = TypeVar("Thing")
Table = TypeVar("Table", bound=Settings)


class Adapters(Protocol):
    """Where adapters are found by name; `api_adapters.registry` is one."""

    def load(self, name: str, /) -> type[Adapter]: ...
    def installed(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Configuration:
    """One deletions.toml, valid as a whole; names are in the order of the file."""

    path: Path
    store: StoreSettings
    targets: Mapping[str, Target]
    purges: Mapping[str, PurgeSettings]
    notify: Mapping[str, NotifySettings]

    def retention_of(self, target: str) -> timedelta | None:
        """How long a settled job of this target keeps its items; `None` is for ever."""
        known = self.targets.get(target)
        own = known.settings.retain_for if known is not None else None
        return own if own is not None else self.store.retain_for


def find_configuration(option: str | Path | None, environ: Mapping[str, str], cwd: Path) -> Path:
    """Say which file counts: the option, the variable, or the one in the working directory.

    Raises:
        BadConfiguration: none was named and there is none here.
    """
    named = option or environ.get(CONFIGURATION) or None
    if named is not None:
        return cwd / named
    here = cwd / FILE_NAME
    if here.is_file():
        return here
    fault = f"there is no {FILE_NAME} in {cwd}: make one with `deletions init`"
    raise BadConfiguration((f"{fault}, or name one with --config or {CONFIGURATION}",))


def load_configuration(path: Path, *, adapters: Adapters = registry) -> Configuration:
    """Read a configuration file; no secret is read and nothing is connected.

    Raises:
        BadConfiguration: with every fault of the file.
    """
    path = path.absolute()
    reader = _Reader(_parse(path), folder=path.parent, adapters=adapters)
    configuration = reader.read(path)
    if reader.faults:
        raise BadConfiguration(tuple(reader.faults))
    return configuration


def _parse(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return tomllib.loads(text)
    except OSError as error:
        fault = f"{path}: cannot be read: {error.strerror}"
        raise BadConfiguration((fault,)) from error
    except UnicodeDecodeError as error:
        raise BadConfiguration((f"{path}: expected UTF-8, byte {error.start} is not",)) from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        # The parser's own words: what it expected, and the line.
        raise BadConfiguration((f"{path}: not TOML: {error}",)) from error


class _Reader:
    """Walks through the tables of one file and collects its faults."""

    def __init__(self, tables: dict[str, Any], *, folder: Path, adapters: Adapters) -> None:
        self._tables = tables
        self._folder = folder
        self._adapters = adapters
        self.faults: list[str] = []

    def read(self, path: Path) -> Configuration:
        """Read all sections; the result counts only if there are no faults."""
        self._refuse_unknown_sections()
        store = self._settings(StoreSettings, self._section("store"), path=("store",))
        return Configuration(
            path=path,
            store=store or StoreSettings(),
            targets=self._each("targets", self._target),
            purges=self._each("purges", self._purge),
            notify=self._each("notify", self._notify),
        )

    def _refuse_unknown_sections(self) -> None:
        known = ("store", "targets", "purges", "notify")
        self.faults += [
            unknown(key_path(name), kind="section", name=name, known=known)
            for name in self._tables
            if name not in known
        ]

    def _section(self, name: str) -> dict[str, Any]:
        section = self._tables.get(name, {})
        if isinstance(section, dict):
            return section
        self.faults.append(f"{name}: expected a table")
        return {}

    def _each(
        self, section: str, read: Callable[[str, dict[str, Any]], Thing | None]
    ) -> dict[str, Thing]:
        things: dict[str, Thing] = {}
        for name, table in self._section(section).items():
            path = key_path(section, name)
            if not _NAME.fullmatch(name):
                self.faults.append(f"{path}: expected a name of 1 to 64 letters, digits and _ . -")
            if not isinstance(table, dict):
                self.faults.append(f"{path}: expected a table [{section}.NAME]")
                continue
            thing = read(name, table)
            if thing is not None:
                things[name] = thing
        return things

    def _target(self, name: str, table: dict[str, Any]) -> Target | None:
        adapter = self._adapter(name, table.get("adapter"))
        if adapter is None:
            return None
        anchored = _anchored(table, self._folder)
        settings = self._settings(adapter.Settings, anchored, path=("targets", name))
        return None if settings is None else Target(name=name, adapter=adapter, settings=settings)

    def _adapter(self, name: str, wanted: Any) -> type[Adapter] | None:
        path = key_path("targets", name, "adapter")
        if not isinstance(wanted, str):
            installed = ", ".join(self._adapters.installed()) or "none"
            self.faults.append(f"{path}: expected the name of an adapter; installed: {installed}")
            return None
        try:
            return self._adapters.load(wanted)
        except BadSettings as error:
            self.faults.append(f"{path}: target '{name}' {error}")
            return None

    def _purge(self, name: str, table: dict[str, Any]) -> PurgeSettings | None:
        path = key_path("purges", name)
        # Not the model's own check: it would be left out once a field has a fault.
        if ("cron" in table) == ("every" in table):
            self.faults.append(
                f'{path}: expected exactly one of cron = "15 3 * * *" and every = "6h"'
            )
        target = table.get("target")
        if isinstance(target, str) and target not in self._section("targets"):
            names = ", ".join(self._section("targets")) or "none"
            self.faults.append(f"{path}.target: expected a target of this file: {names}")
        return self._settings(PurgeSettings, table, path=("purges", name))

    def _notify(self, name: str, table: dict[str, Any]) -> NotifySettings | None:
        return self._settings(NotifySettings, table, path=("notify", name))

    def _settings(
        self, model: type[Table], table: dict[str, Any], *, path: tuple[str, ...]
    ) -> Table | None:
        try:
            return model.model_validate(table)
        except ValidationError as error:
            self.faults += faults_of(error, path=path, table=table, model=model)
            return None


def _anchored(value: Any, folder: Path, key: str = "") -> Any:
    """Turn relative paths into absolute ones, by the name of their key.

    `file` and `*_file` are paths, and so is a `url` of a SQLite file.
    """
    if isinstance(value, dict):
        return {name: _anchored(inner, folder, name) for name, inner in value.items()}
    if not isinstance(value, str) or not value:
        return value
    if key == "file" or key.endswith("_file"):
        return str(folder / value)
    file = value.removeprefix(_SQLITE)
    if key == "url" and file not in {value, "", ":memory:"} and not file.startswith("file:"):
        return _SQLITE + str(folder / file)
    return value
