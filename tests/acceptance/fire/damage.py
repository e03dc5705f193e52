"""What is done to a deployment. Each damage yields the seconds until its next step.

It leaves things as they were before, except for what it says.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from random import Random

import redis

from tests.acceptance.fire.crew import CLOCK
from tests.acceptance.fire.deployment import Deployment
from worker.app import BELL_QUEUE, CONTROL_QUEUE

Steps = Iterator[float]
Damage = Callable[[Deployment, Random], Steps]

QUEUES = (CONTROL_QUEUE, BELL_QUEUE)
#: A worker that was asked to end has ended within so many seconds, whatever is broken.
ENDING_TAKES = 45.0
#: Messages kept to be sent once more.
MOST_STALE = 50

LOSSY = "lost=0.4,cut=0.1,html=0.1,slow:3=0.05"


def kill_a_worker(one: Deployment, dice: Random) -> Steps:
    """kill -9 of a worker, and start of another."""
    if one.crew.workers:
        name = dice.choice(one.crew.workers)
        one.crew.kill(name)
        yield dice.uniform(0, 1)
        one.crew.start(name)


def kill_the_clock(one: Deployment, dice: Random) -> Steps:
    """kill -9 of the clock, and start of another."""
    one.crew.kill(CLOCK)
    yield dice.uniform(0, 1)
    one.crew.start(CLOCK)


def freeze_a_worker(one: Deployment, dice: Random) -> Steps:
    """SIGSTOP of a worker for longer than its lease, then SIGCONT."""
    if one.crew.workers:
        name = dice.choice(one.crew.workers)
        one.crew.freeze(name)
        try:
            yield one.lease.total_seconds() + dice.uniform(1, 3)
        finally:
            one.crew.thaw(name)


def restart_the_workers_in_turn(one: Deployment, dice: Random) -> Steps:
    """SIGTERM, the end awaited, and a new start: one worker after the other."""
    for name in one.crew.workers:
        one.crew.terminate(name)
        until = time.monotonic() + ENDING_TAKES
        while one.crew.lives(name):
            if time.monotonic() > until:
                one.faults.append(f"{name} did not end on SIGTERM")
                one.crew.kill(name)
            yield 0.05
        one.crew.start(name)
        yield dice.uniform(1, 3)


def lose_all_power(one: Deployment, dice: Random) -> Steps:
    """kill -9 of all workers, the clock and the broker at once, then all start again."""
    one.crew.kill_all()
    one.broker.kill()
    yield dice.uniform(0, 1)
    one.broker.start()
    one.crew.start_all()


def flush_the_broker(one: Deployment, dice: Random) -> Steps:
    """The broker forgets everything."""
    if one.broker.is_up:
        with one.broker.connect() as broker:
            broker.flushall()
    yield 0


def restart_the_broker(one: Deployment, dice: Random) -> Steps:
    """kill -9 of the broker, and start with what it kept."""
    one.broker.kill()
    yield dice.uniform(0, 0.5)
    one.broker.start()


def restart_the_broker_empty(one: Deployment, dice: Random) -> Steps:
    """kill -9 of the broker, and start with nothing."""
    one.broker.kill()
    one.broker.lose_everything()
    yield dice.uniform(0, 0.5)
    one.broker.start()


def take_the_broker_away(one: Deployment, dice: Random) -> Steps:
    """The broker is away for some seconds."""
    one.broker.kill()
    try:
        yield dice.uniform(2, 8)
    finally:
        one.broker.start()


def cut_the_broker_off(one: Deployment, dice: Random) -> Steps:
    """The network to the broker is cut for some seconds."""
    one.broker_line.refuse()
    try:
        yield dice.uniform(1, 5)
    finally:
        one.broker_line.restore()


def leave_the_broker_half_open(one: Deployment, dice: Random) -> Steps:
    """Every connection to the broker is silent for ever, and nobody is told."""
    one.broker_line.strand()
    # What was begun goes on for a moment, and would look like recovery.
    yield 3


def hold_up_the_broker(one: Deployment, dice: Random) -> Steps:
    """What goes to and from the broker comes seconds late."""
    one.broker_line.hold()
    try:
        yield dice.uniform(2, 12)
    finally:
        one.broker_line.restore()


def cut_a_vendor_off(one: Deployment, dice: Random) -> Steps:
    """The network to a vendor is cut for some seconds."""
    line = one.any_vendor(dice).line
    line.refuse()
    try:
        yield dice.uniform(1, 4)
    finally:
        line.restore()


def leave_a_vendor_half_open(one: Deployment, dice: Random) -> Steps:
    """Every connection to a vendor is silent for ever, and nobody is told."""
    one.any_vendor(dice).line.strand()
    yield 0


def hold_up_a_vendor(one: Deployment, dice: Random) -> Steps:
    """Requests reach a vendor after the worker gave them up, and are carried out."""
    line = one.any_vendor(dice).line
    line.hold()
    try:
        yield dice.uniform(1, 5)
    finally:
        line.restore()


def lose_a_vendors_answers(one: Deployment, dice: Random) -> Steps:
    """Most calls are carried out, and what came of them is not told."""
    vendor = one.any_vendor(dice)
    vendor.misbehave(LOSSY)
    try:
        yield dice.uniform(1, 4)
    finally:
        vendor.misbehave()


def lose_messages(one: Deployment, dice: Random) -> Steps:
    """Somebody takes messages and answers from the broker and throws them away."""
    # A broker that another damage took away has lost them all.
    with suppress(redis.RedisError), one.broker.tapped(QUEUES, mouths=6) as tap:
        for _ in range(dice.randint(20, 60)):
            one.lost += len(tap.draw())
            one.lost += one.broker.drop_answers(most=dice.randint(0, 2))
            yield 0.05


def double_messages(one: Deployment, dice: Random) -> Steps:
    """Somebody puts copies of messages into the queues, and old ones once more."""
    with (
        suppress(redis.RedisError),
        one.broker.tapped(QUEUES, mouths=3) as tap,
        closing(one.broker.connect()) as broker,
    ):
        while one.stale:
            broker.lpush(*one.stale.pop())
            one.doubled += 1
        # Copies are drawn and copied again: without a bound there would be no end.
        left = dice.randint(20, 100)
        for _ in range(dice.randint(20, 60)):
            for queue, message in tap.draw():
                copies = min(dice.randint(1, 3), left)
                left -= copies
                broker.rpush(queue, *[message] * (1 + copies))
                one.doubled += copies
                one.stale = [*one.stale, (queue, message)][-MOST_STALE:]
            yield 0.05


def crash_the_database(one: Deployment, dice: Random) -> Steps:
    """PostgreSQL ends at once ("immediate") and recovers."""
    if one.database is not None:
        one.database.crash()
        yield dice.uniform(0, 0.5)
        one.database.start()


def take_the_database_away(one: Deployment, dice: Random) -> Steps:
    """PostgreSQL is away for some seconds."""
    if one.database is not None:
        one.database.stop()
        try:
            yield dice.uniform(2, 8)
        finally:
            one.database.start()


def freeze_a_session(one: Deployment, dice: Random) -> Steps:
    """A session of PostgreSQL stops amid its transaction, with the locks that it has."""
    if one.database is None or not one.database.is_up:
        return
    for _ in range(20):
        if one.database.freeze_a_session():
            break
        yield 0.02
    try:
        yield dice.uniform(2, 8)
    finally:
        one.database.thaw()


def hold_the_file(one: Deployment, dice: Random) -> Steps:
    """Somebody's own client keeps everybody from writing to the SQLite file."""
    if one.file is not None:
        yield from _hold(one.file.hold, dice.uniform(2, 12))


def block_the_queue_of_writers(one: Deployment, dice: Random) -> Steps:
    """A writer of the SQLite file takes very long."""
    if one.file is not None:
        yield from _hold(one.file.block_the_queue, dice.uniform(2, 8))


def _hold(take: Callable[[], Callable[[], None] | None], seconds: float) -> Steps:
    """Hold a lock for some seconds, once it can be had."""
    while (give_back := take()) is None:
        yield 0.01
    try:
        yield seconds
    finally:
        give_back()


#: Of every deployment.
EVERYWHERE: tuple[Damage, ...] = (
    kill_a_worker,
    kill_the_clock,
    freeze_a_worker,
    restart_the_workers_in_turn,
    lose_all_power,
    flush_the_broker,
    restart_the_broker,
    restart_the_broker_empty,
    take_the_broker_away,
    cut_the_broker_off,
    leave_the_broker_half_open,
    hold_up_the_broker,
    cut_a_vendor_off,
    leave_a_vendor_half_open,
    hold_up_a_vendor,
    lose_a_vendors_answers,
    lose_messages,
    double_messages,
)
ON_POSTGRESQL = (crash_the_database, take_the_database_away, freeze_a_session)
ON_SQLITE = (hold_the_file, block_the_queue_of_writers)

BY_NAME: Mapping[str, Damage] = {
    damage.__name__: damage for damage in (*EVERYWHERE, *ON_POSTGRESQL, *ON_SQLITE)
}


def shown(damage: Damage) -> str:
    """Its name for people."""
    return damage.__name__.replace("_", " ")
