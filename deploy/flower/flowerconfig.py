"""Flower for people who look: with a password, read-only, bounded, closed unless opened.

    FLOWER_BASIC_AUTH=deletions:SECRET \
        celery -A worker.app flower --conf=deploy/flower/flowerconfig.py

variable             default     means
FLOWER_BASIC_AUTH    none        USER:PASSWORD, several with commas between; without it Flower
                                 does not start
FLOWER_ADDRESS       127.0.0.1   in a container 0.0.0.0, behind something that speaks TLS
FLOWER_PORT          5555
FLOWER_MAX_TASKS     10000       messages kept in memory, 4 KB each; the oldest are forgotten, the
                                 store forgets none: `deletions status JOB`
FLOWER_DB            none        a file in which they outlast a restart; it holds what is shown

Start workers with names that stay (`-n worker1@%h`): each name is a row and a set of metrics of
its own, for as long as Flower runs. `/metrics` and `/healthcheck` answer without the password, by
Flower's own choice: `/metrics` tells names of workers and tasks, and counts.
"""

import os
import sys

_environ = os.environ
_users = (_environ.get("FLOWER_BASIC_AUTH") or "").split(",")
for _user in _users:
    _name, _, _password = _user.partition(":")
    # Flower would let in whoever sends an empty password, and fail at each look
    # over a letter that is not ASCII.
    if not (_name and _password and _user.isascii()):
        sys.stderr.write("FLOWER_BASIC_AUTH: expected USER:PASSWORD in ASCII, commas between\n")
        raise SystemExit(2)

# By itself Flower shows its pages to everyone, and with this variable its API too.
basic_auth = _users
_environ.pop("FLOWER_UNAUTHENTICATED_API", None)

# Jobs are paused, cancelled and retried by `deletions`, which notes who did it.
read_only = True

# By itself Flower listens on every interface.
address = _environ.get("FLOWER_ADDRESS") or "127.0.0.1"
port = int(_environ.get("FLOWER_PORT") or 5555)

# Flower's own limits are ten times as much, about 400 MB.
max_tasks = int(_environ.get("FLOWER_MAX_TASKS") or 10_000)
max_workers = 100
purge_offline_workers = 60

# Its own choice hides arguments and results. Ours are ids and counts, never an item;
# `args` are left out, as no message of ours has any.
tasks_columns = "name,kwargs,result,state,received,started,runtime,worker,uuid"

db = _environ.get("FLOWER_DB") or "flower"
persistent = bool(_environ.get("FLOWER_DB"))
# Saving stops everything else for a moment, and a kill loses what came since.
state_save_interval = 60_000 if persistent else 0
