"""`metrics` and `health`: what the store knows, for Prometheus, for probes and for people."""

import json
from typing import Annotated

import typer

from worker.cli.ends import Exit, fail, say
from worker.cli.places import ConfigOption, find_places

#: Where Prometheus is told to look.
PORT = 9808


def metrics(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = PORT,
    config: ConfigOption = None,
) -> None:
    """Serve /metrics for Prometheus, /health and /live for probes, until Ctrl-C."""
    import asyncio

    from worker.assembly import open_watch
    from worker.exporter import Exporter
    from worker.logs import begin
    from worker.web import Web, serve

    places = find_places(config)
    begin(places.log_format)
    deployment = open_watch(places)
    exporter = Exporter(
        deployment.store,
        targets=deployment.targets,
        purges=deployment.purges,
        check_migration=deployment.check_migration,
        ping_broker=deployment.ping,
    )
    try:
        web = Web(exporter, deployment.examiner().examine, host=host, port=port)
    except OSError as error:
        fail(f"{host}:{port} cannot be used: {error.strerror}", Exit.WRONG_USE)
    say(f"metrics on http://{host}:{web.port}/metrics, probes on /health and /live")
    try:
        asyncio.run(serve(web))
    finally:
        deployment.close()


def health(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    config: ConfigOption = None,
) -> None:
    """Whether store, migrations, broker and clock are well, and workers make progress."""
    from worker.assembly import open_watch
    from worker.patient import Patient
    from worker.web import PATIENCE, late

    deployment = open_watch(find_places(config))
    try:
        found = Patient(deployment.examiner().examine, patience=PATIENCE)()
    except TimeoutError:
        found = late()
    if as_json:
        typer.echo(json.dumps(found.as_json()))
    else:
        for check in found.checks:
            typer.echo(f"{check.name}: {'ok' if check.is_ok else 'failed'}: {check.message}")
    if found.is_healthy:
        raise typer.Exit(int(Exit.DONE))
    raise typer.Exit(int(Exit.NOT_REACHABLE if found.is_away else Exit.SOME_NOT))


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (metrics, health):
        app.command()(command)
