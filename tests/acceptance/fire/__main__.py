"""Break everything for a while: `python -m tests.acceptance.fire --minutes 10 --seed 7`."""

import argparse
import sys
from pathlib import Path

import pytest

from tests.acceptance.fire.damage import BY_NAME
from tests.acceptance.fire.deployment import StoreKind
from tests.acceptance.fire.soak import Wanted, soak
from tests.postgres import programs


def main() -> int:
    """Read the command line and run; 1 if a rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.fire", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the damage and of the items")
    parser.add_argument("--store", choices=list(StoreKind), help="one kind of store alone")
    parser.add_argument("--logs", type=Path, help="keep the logs of every round there")
    parser.add_argument("--only", choices=sorted(BY_NAME), nargs="+", default=[])
    given = parser.parse_args()
    stores = [StoreKind(given.store)] if given.store else list(StoreKind)
    only = [BY_NAME[name] for name in given.only]
    return soak(Wanted(given.minutes, given.seed, _available(stores), given.logs, only))


def _available(stores: list[StoreKind]) -> list[StoreKind]:
    """Those that can be run here."""
    try:
        programs()
    except (pytest.skip.Exception, pytest.fail.Exception) as missing:
        sys.stderr.write(f"{missing}\n")
        return [store for store in stores if store is not StoreKind.POSTGRESQL]
    return stores


sys.exit(main())
