"""Flower, closed: on this machine only, with a password, for looking and not for doing.

By itself Flower 2.2 listens on all interfaces and shows its pages to everyone.
`/metrics` and `/healthcheck` stay open even with a password.
What `deploy/flower/flowerconfig.py` says of a Flower of its own is the same.
"""

import os
import secrets

from worker.embedded.commands import CELERY
from worker.embedded.processes import Command
from worker.environment import FLOWER_PASSWORD
from worker.errors import BadConfiguration

USER = "deletions"
PORT = 5555

#: Arguments and results are hidden by default; ours are ids and counts, and
#: `args` are left out, as no message of ours has any.
_COLUMNS = "name,kwargs,result,state,received,started,runtime,worker,uuid"


def choose_password(given: str | None) -> str:
    """The given password, or a fresh one for people to be told once.

    Raises:
        BadConfiguration: Flower could not take it. It splits at commas, which
            would leave each part a password, and compares ASCII only.
    """
    if given is None:
        return secrets.token_urlsafe(16)
    if not (given.isascii() and given.isprintable()) or "," in given:
        raise BadConfiguration((f"{FLOWER_PASSWORD}: expected printable ASCII without a comma",))
    return given


def flower_command(password: str, *, port: int = PORT) -> Command:
    """Flower on the loopback interface; the password stays out of `ps`."""
    options = (
        "--address=127.0.0.1",
        f"--port={port}",
        "--read-only=true",
        "--max-tasks=10000",
        "--max-workers=100",
        "--purge-offline-workers=60",
        f"--tasks-columns={_COLUMNS}",
        # Else a flowerconfig.py of the working directory would be executed.
        f"--conf={os.devnull}",
    )
    credentials = {"FLOWER_BASIC_AUTH": f"{USER}:{password}"}
    return Command("flower", (*CELERY, "flower", *options), variables=credentials)
