"""`targets [check]`: what is configured, and whether it answers."""

from typing import TYPE_CHECKING, Annotated

import typer

from api_adapters.base import Deadline
from api_adapters.errors import BadSettings, CallFailed
from worker.cli.ends import Exit, fail, say
from worker.cli.jobs import print_table
from worker.cli.places import ConfigOption, opened, who
from worker.embedded.valkey import answers
from worker.environment import socket_path
from worker.target import Target

if TYPE_CHECKING:
    from worker.assembly import Adapters, Deployment


def targets(
    action: Annotated[
        str | None, typer.Argument(metavar="[check]", help="Ask each of them.")
    ] = None,
    *,
    config: ConfigOption = None,
) -> None:
    """What is configured; with `check`, whether it answers and lets us in."""
    if action not in {None, "check"}:
        fail(f"expected `targets` or `targets check`, not '{action}'", Exit.WRONG_USE)
    with opened(config) as deployment:
        if action is None:
            print_table(
                ("target", "adapter", "address", "items a call", "in flight", "a second"),
                [_row(target) for target in deployment.targets.values()],
            )
            return
        adapters = _adapters(deployment)
        try:
            found = [_check(deployment, adapters, one) for one in deployment.targets.values()]
        finally:
            adapters.close()
    raise typer.Exit(int(Exit.DONE if all(found) else Exit.NOT_REACHABLE))


def _adapters(deployment: "Deployment") -> "Adapters":
    """Adapters at the shared pace; where no broker runs, no worker sends beside us."""
    from worker.assembly import Adapters

    places = deployment.environment
    is_alone = places.is_embedded and not answers(socket_path(places.data_dir))
    return Adapters(deployment.targets, redis_url=None if is_alone else places.broker_url)


def _row(target: Target) -> list[str]:
    limits = target.limits
    pace = "" if limits.requests_per_second is None else f"{limits.requests_per_second:g}"
    return [
        target.name,
        target.settings.adapter,
        target.address,
        str(limits.max_items_per_call),
        str(limits.max_in_flight),
        pace,
    ]


def _check(deployment: "Deployment", adapters: "Adapters", target: Target) -> bool:
    """Ask one target, without harm."""
    try:
        adapter = adapters(target.name)
        checked = adapter.check(until=Deadline(target.limits.timeout))
    except (BadSettings, CallFailed) as error:
        typer.echo(f"{target.name}: failed: {error}")
        return False
    typer.echo(f"{target.name}: ok: {checked.shown}")
    if deployment.store.open_target(target.name, who(None, None)):
        say("  it was closed after a wrong login or address, and is tried again now")
    say(f"  it cannot show: {checked.not_shown}")
    return True


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(targets)
