"""Opens what a command needs: the configuration, the store, the broker."""

import getpass
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api_adapters.base import Item
from api_adapters.errors import BadItem
from worker.environment import Environment, make_data_dir, read_environment
from worker.errors import RefusedRequest
from worker.job import JobId
from worker.requests import parse_job_id
from worker.settings import find_configuration
from worker.store.base import Who
from worker.target import Target

if TYPE_CHECKING:
    from worker.assembly import Deployment

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="deletions.toml; else $DELETIONS_CONFIG, else the one here."),
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
ByOption = Annotated[str | None, typer.Option("--by", help="Who wishes it, for the record.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Why, for the record.")]


@contextmanager
def opened(config: Path | None) -> Iterator["Deployment"]:
    """The deployment of this terminal, and its store."""
    with opened_at(find_places(config)) as deployment:
        yield deployment


@contextmanager
def opened_at(places: Environment) -> Iterator["Deployment"]:
    """The deployment of these places, and its store."""
    # It brings SQLAlchemy along, which `--help` and `init` need not wait for.
    from worker.assembly import open_deployment

    deployment = open_deployment(places)
    try:
        yield deployment
    finally:
        deployment.close()


def find_places(config: Path | None) -> Environment:
    """Where everything is; the data directory is made where it is needed."""
    cwd = Path.cwd()
    configuration = find_configuration(config, os.environ, cwd)
    places = read_environment(os.environ, configuration=configuration, cwd=cwd)
    if places.is_embedded or str(places.data_dir) in places.store_url:
        make_data_dir(places.data_dir)
    return places


def job_id(text: str) -> JobId:
    """The job that an argument names. Raises RefusedRequest."""
    try:
        return parse_job_id(text)
    except ValueError as error:
        message = f"'{text}' is no job id: {error}"
        raise RefusedRequest("invalid_message", message) from None


def known_target(targets: Mapping[str, Target], name: str) -> Target:
    """The target that an argument names. Raises RefusedRequest."""
    if name not in targets:
        names = ", ".join(targets) or "none"
        raise RefusedRequest("unknown_target", f"there is no target '{name}'; configured: {names}")
    return targets[name]


def item_named(deployment: "Deployment", target: Target, text: str) -> Item:
    """The item that an argument names: what is none as a string may be one as JSON."""
    key_of = deployment.adapters(target.name).key
    with suppress(BadItem):
        key_of(text)
        return text
    with suppress(ValueError, RecursionError, BadItem):
        value = json.loads(text)
        if isinstance(value, dict | int) and not isinstance(value, bool):
            key_of(value)
            return value
    return text


def who(by: str | None, reason: str | None) -> Who:
    """The person at this terminal."""
    return Who(os_user=getpass.getuser(), by=by, reason=reason)
