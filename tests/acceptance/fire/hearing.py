"""Reads every report as an application does, and holds it against the backends' own ledgers."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

from tests.acceptance.fire.application import insist
from tests.acceptance.fire.deployment import Deployment
from tests.acceptance.fire.orders import Order
from tests.acceptance.fire.reckoning import (
    Ledger,
    Report,
    Row,
    Rules,
    faults_of_backend,
    faults_of_job,
)
from worker.client import ClientError, DeletionClient

#: After so many seconds all moves again, whatever was done.
LONGEST_RECOVERY = 60.0


@dataclass(slots=True)
class Heard:
    """What was reported, by verdict and evidence, and what is untrue of it."""

    tally: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def hear(
    deployment: Deployment,
    orders: Sequence[Order],
    *,
    poison: Sequence[str],
    ended: Collection[str],
) -> Heard:
    """Read the reports of those jobs that have ended.

    These orders are all that the backends were given.
    """
    heard = Heard()
    for target, vendor in deployment.vendors.items():
        own = [order for order in orders if order.target == target]
        ledger = Ledger.of(vendor.ledger(), had=deployment.stocks[target].ids, poison=poison)
        backend = vendor.backend
        rules = Rules(max_attempts=backend.max_attempts, can_probe=backend.can_probe)
        with deployment.client() as client:
            for order in [one for one in own if one.job in ended]:
                _hear_one(client, order, ledger, rules, heard)
        heard.faults += faults_of_backend(own, ledger)
    return heard


def _hear_one(
    client: DeletionClient, order: Order, ledger: Ledger, rules: Rules, heard: Heard
) -> None:
    try:
        report = insist(partial(_read, client, order.job), seconds=LONGEST_RECOVERY)
    except ClientError as error:
        heard.faults.append(f"job {order.job} cannot be read: {error}")
        return
    heard.tally.update(f"{row.verdict}/{row.evidence}" for row in report.rows)
    heard.faults += faults_of_job(order, report, ledger, rules)


def _read(client: DeletionClient, job: str) -> Report:
    """The report as any application reads it."""
    status = client.status(job)
    rows = [
        Row(one.position, one.item, one.verdict, one.evidence, one.attempts, one.code)
        for one in client.results(job)
    ]
    return Report(
        state=status.state,
        items=status.items or 0,
        duplicates=status.duplicates,
        pending=status.pending,
        tally=status.tally,
        rows=rows,
    )
