"""Rounds under fire for as long as one is told, and what was survived.

python -m tests.acceptance.fire --minutes 10 --seed 7
"""

import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from random import Random

from tests.acceptance.fire.application import Due
from tests.acceptance.fire.campaign import Campaign, Course
from tests.acceptance.fire.damage import EVERYWHERE, ON_POSTGRESQL, ON_SQLITE, Damage, shown
from tests.acceptance.fire.deployment import Deployment, StoreKind
from tests.acceptance.fire.orders import Stock
from tests.acceptance.fire.survey import Blow, Survey, alone
from tests.acceptance.fire.vendor import Backend

#: Of one round.
ITEMS = 20_000
SECONDS = 240.0
#: Jobs beside the large ones, and seconds between two of them.
SMALL_JOBS = 36
SMALL_EVERY = 5.0
#: After the last damage everything ends by itself within so many seconds: all of
#: a round's work at half the pace of a slow machine.
PATIENCE = 400.0
#: The share of the large jobs that is decided after the last damage.
IN_PEACE = 0.1

MONITOR = Backend(
    "monitor",
    "bas_ip",
    items=ITEMS + 2_000,
    misbehave="lost/37,busy:1/61,expired@50,omitted/43,error/41,cut/47,truncated/59,slow:3/151",
    latency=0.25,
    max_attempts=30,
    options={"timeout": "2s", "max_in_flight": 4, "max_items_per_call": 25},
)
ACCOUNT = Backend(
    "account",
    "nimble",
    items=ITEMS // 2,
    # Not `empty`: what such an answer hides is told as absent by a look.
    misbehave="lost/31,busy_date:1/67,expired@20,html/71,dropped/53",
    latency=0.1,
    max_attempts=30,
    options={"timeout": "2s", "max_in_flight": 3, "requests_per_second": 4},
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asked for."""

    minutes: float
    seed: int
    stores: Sequence[StoreKind]
    #: Where the logs of every round are kept.
    logs: Path | None = None
    #: The damages that are done; none named is all of them.
    only: Sequence[Damage] = ()


def soak(wanted: Wanted) -> int:
    """Rounds until the time is used; 1 if any rule was broken."""
    until = time.monotonic() + wanted.minutes * 60
    surveys: list[Survey] = []
    for number, store in enumerate(cycle(wanted.stores)):
        if surveys and time.monotonic() >= until:
            break
        seconds = min(SECONDS, max(30.0, until - time.monotonic() - 30))
        seed = wanted.seed + number
        survey = play(store, wanted, seed=seed, seconds=seconds)
        surveys.append(survey)
        _say(_round(number + 1, store, seed, survey))
    _say(_table([blow for one in surveys for blow in one.blows]))
    _say(_sum(surveys))
    return int(any(one.faults for one in surveys))


def play(store: StoreKind, wanted: Wanted, *, seed: int, seconds: float) -> Survey:
    """One round: a deployment of its own, orders, damage, the end, the reckoning."""
    dice = Random(seed)
    own = ON_POSTGRESQL if store is StoreKind.POSTGRESQL else ON_SQLITE
    damages = wanted.only or (*EVERYWHERE, *own, *own)
    with Deployment([MONITOR, ACCOUNT], store=store, seed=seed) as deployment:
        orders = [
            *_orders(deployment.stocks["monitor"], "monitor", ITEMS, dice),
            *_orders(deployment.stocks["account"], "account", ITEMS // 4, dice),
        ]
        poison = [key for key in orders[0].order.keys[:40] if key is not None][:2]
        campaign = Campaign(deployment, orders, poison=poison, dice=dice)
        course = Course(seconds, pause=(0.2, 3.0), patience=PATIENCE, in_peace=IN_PEACE)
        survey = campaign.run(shuffled(damages, dice), course)
        if wanted.logs is not None:
            _keep(deployment, survey, wanted.logs / f"{store}-{seed}")
    survey.faults += deployment.faults
    return survey


def _keep(deployment: Deployment, survey: Survey, folder: Path) -> None:
    """Keep what every process has logged, and the moment of every damage."""
    shutil.copytree(deployment.data_dir / "logs", folder, dirs_exist_ok=True)
    (folder / "story.txt").write_text(survey.story)


def shuffled(damages: Sequence[Damage], dice: Random) -> Iterator[Damage]:
    """Every one of them, in an order of chance, again and again."""
    while True:
        yield from dice.sample(damages, len(damages))


def _orders(stock: Stock, target: str, large: int, dice: Random) -> list[Due]:
    """One large job, and small ones beside it, some of which are cancelled."""
    orders = [Due(stock.order(target, large), 0.0)]
    for number in range(1, SMALL_JOBS + 1):
        count = dice.choice((1, 2, 30, 100))
        order = stock.order(target, count, is_cancelled=number % 6 == 0)
        orders.append(Due(order, number * SMALL_EVERY))
    return orders


# -- what is printed ------------------------------------------------------------


def _round(number: int, store: StoreKind, seed: int, survey: Survey) -> str:
    tally = ", ".join(f"{name} {count:,}" for name, count in sorted(survey.tally.items()))
    did = f"{len(survey.blows)} damages, {survey.jobs} jobs"
    ended = f"all ended {survey.ended_in:.1f} s after the last damage"
    broken = [f"  BROKEN: {fault}" for fault in survey.faults[:20]]
    head = f"round {number} on {store} (seed {seed}): {did}, {ended}"
    return "\n".join([head, f"  {tally}", *broken])


def _table(blows: Sequence[Blow]) -> str:
    times = alone(blows)
    done = Counter(shown(blow.damage) for blow in blows)
    lines = [f"{'damage':<32}{'survived':>9}   until the next item of every large job"]
    for name, count in sorted(done.items()):
        own = times.get(name, [])
        seconds = (
            f"median {statistics.median(own):5.1f} s, longest {max(own):5.1f} s" if own else "-"
        )
        lines.append(f"{name:<32}{count:>9}   {seconds}")
    return "\n".join(lines)


def _sum(surveys: Sequence[Survey]) -> str:
    lost, doubled = sum(one.lost for one in surveys), sum(one.doubled for one in surveys)
    faults = sum(len(one.faults) for one in surveys)
    repeated = sum(one.repeated for one in surveys)
    deserted = sum(len(one.deserted) for one in surveys)
    return (
        f"messages lost on purpose: {lost:,}, doubled on purpose: {doubled:,}\n"
        f"requests without an answer in time, repeated by their sender: {repeated:,}\n"
        f"processes that ended by themselves, and were started again: {deserted:,}\n"
        + (f"{faults} rules broken" if faults else "nothing lost, nothing claimed")
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
