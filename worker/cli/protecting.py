"""`protect`: keys that must stay, whatever is asked.

They are written to the store, where no message reaches them; a worker sees them
at its next claim, and before a call once its last look is a quarter of a second ago.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from api_adapters.errors import BadItem
from api_adapters.settings import parse_duration
from worker.cli.ends import Exit, fail, say
from worker.cli.jobs import print_table
from worker.cli.places import (
    ByOption,
    ConfigOption,
    ReasonOption,
    item_named,
    known_target,
    opened,
    who,
)
from worker.item import digest_of_key, to_json
from worker.job import moment_text
from worker.store.base import Protection, Store

if TYPE_CHECKING:
    from worker.assembly import Deployment

#: Keys that are read at once.
PAGE = 1_000

TargetArgument = Annotated[str, typer.Argument(metavar="TARGET")]
KeysArgument = Annotated[
    list[str], typer.Argument(metavar="KEY...", help="The items; an object as JSON.")
]


def add(
    target: TargetArgument,
    keys: KeysArgument,
    *,
    until: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="A duration such as 90d, or a moment; else for ever."),
    ] = None,
    by: ByOption = None,
    reason: ReasonOption = None,
    config: ConfigOption = None,
) -> None:
    """Never send these keys: they end as denied, with code protected."""
    end = None if until is None else _end(until)
    with opened(config) as deployment:
        texts = dict(_named(deployment, target, keys))
        done = deployment.store.protect(target, texts, who(by, reason), until=end)
    say(f"{len(texts):,} keys of {target} are protected, {done.added:,} of them were not before")
    if done.out:
        say(
            f"{done.out:,} of them are in calls that may be out already: "
            "`deletions item` tells what became of them"
        )


def remove(
    target: TargetArgument,
    keys: KeysArgument,
    *,
    by: ByOption = None,
    reason: ReasonOption = None,
    config: ConfigOption = None,
) -> None:
    """Protect keys no longer; prints the jobs that they were kept back in."""
    with opened(config) as deployment:
        texts = dict(_named(deployment, target, keys))
        done = deployment.store.unprotect(target, texts.keys(), who(by, reason))
    say(f"{done.removed:,} keys of {target} are no longer protected")
    if kept := sum(done.kept.values()):
        say(
            f"{kept:,} items of {len(done.kept):,} ended jobs were kept back as protected; "
            "to try such a job again: deletions retry JOB"
        )
        for job in done.kept:
            typer.echo(job)
    if done.removed < len(texts):
        fail(f"{len(texts) - done.removed:,} keys were not protected", Exit.NOT_REACHABLE)


def list_(
    target: TargetArgument,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    config: ConfigOption = None,
) -> None:
    """The protected keys of a target; its globs stand in the configuration."""
    with opened(config) as deployment:
        globs = known_target(deployment.targets, target).settings.protect
        found = _all(deployment.store, target)
        if as_json:
            for one in found:
                typer.echo(json.dumps(one.as_json()))
            return
        rows = [
            [
                one.text,
                one.reason or "",
                moment_text(one.until) or "",
                one.by or one.os_user or "",
                moment_text(one.created_at) or "",
            ]
            for one in found
        ]
    print_table(("item", "reason", "until", "by", "since"), rows)
    if globs:
        say(f"the configuration protects: {', '.join(globs)}")


def _all(store: Store, target: str) -> Iterator[Protection]:
    """Every protected key, page by page."""
    after = b""
    while page := store.protections(target, after=after, limit=PAGE):
        yield from page
        after = page[-1].key


def _named(deployment: "Deployment", name: str, keys: list[str]) -> Iterator[tuple[bytes, str]]:
    """The keys that arguments name, with the items as given; a wrong one ends the command."""
    target = known_target(deployment.targets, name)
    adapter = deployment.adapters(name)
    for text in keys:
        item = item_named(deployment, target, text)
        try:
            key = adapter.key(item)
        except BadItem as error:
            fail(f"'{text}' is no item of target '{name}': {error}", Exit.WRONG_USE)
        if not adapter.is_key_known(item):
            fail(
                f"'{text}' does not say which item it means before somebody looks: "
                "name the item itself",
                Exit.WRONG_USE,
            )
        yield digest_of_key(name, key), to_json(item)


def _end(text: str) -> datetime | timedelta:
    """What `--until` says; a moment without a zone is UTC."""
    try:
        return parse_duration(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(
            f"--until: '{text}': expected a duration such as 90d, or a moment such as "
            "2030-01-31 or 2030-01-31T12:00:00+01:00",
            Exit.WRONG_USE,
        )
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    protect = typer.Typer(
        help="Keys that must stay, whatever is asked.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    protect.command()(add)
    protect.command()(remove)
    protect.command("list")(list_)
    app.add_typer(protect, name="protect")
