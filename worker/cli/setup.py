"""`init`, `practice` and `migrate`: before there is anything to delete."""

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.ends import Exit, fail, say
from worker.cli.places import ConfigOption, find_places
from worker.settings import FILE_NAME
from worker.template import TEMPLATE

#: Where the template's first target expects its practice server.
PRACTICE_PORT = 8411


def init(config: ConfigOption = None) -> None:
    """Write a commented deletions.toml; one that is there is left alone."""
    path = config or Path(FILE_NAME)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except FileExistsError:
        fail(f"{path} is there already: move it away first", Exit.WRONG_USE)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}", Exit.WRONG_USE)
    say(f"wrote {path}; try it: deletions practice bas_ip, and in another terminal deletions run")


def practice(
    vendor: Annotated[str, typer.Argument(metavar="VENDOR", help="bas_ip, ...")],
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = PRACTICE_PORT,
    items: Annotated[int, typer.Option(help="How many things there are to delete.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the ids and of chance.")] = 1,
    misbehave: Annotated[str, typer.Option(help="A plan such as lost/50,busy:2=0.01.")] = "",
) -> None:
    """Run one practice server in the foreground, until Ctrl-C."""
    from api_adapters.fakes.server import open_practice, serve, vendors

    if vendor not in vendors():
        fail(
            f"there is no practice server '{vendor}'; there are: {', '.join(vendors())}",
            Exit.WRONG_USE,
        )
    try:
        server = open_practice(vendor, items=items, seed=seed, misbehave=misbehave)
        serve(server, port=port)
    except ValueError as error:
        fail(f"--misbehave: {error}", Exit.WRONG_USE)
    except OSError as error:
        fail(f"port {port} cannot be used: {error.strerror}", Exit.WRONG_USE)


def migrate(config: ConfigOption = None) -> None:
    """Move the store on to this program's migration; stop the workers before."""
    from worker.store.migrations import migrate as migrate_store

    before = migrate_store(find_places(config).store_url)
    say(f"the store was at {before or 'nothing'} and is up to date")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (init, practice, migrate):
        app.command()(command)
