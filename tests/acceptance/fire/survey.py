"""What was done to a deployment, and how it took that."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.acceptance.fire.damage import Damage, Steps, shown


@dataclass(slots=True)
class Blow:
    """One damage that is, or was, done."""

    damage: Damage
    steps: Steps
    due_at: float
    began_at: float
    #: Whether another damage was under way meanwhile, or came before all moved again.
    is_alone: bool
    ended_at: float | None = None
    #: Seconds from its end until every job moved again; None where none was left to move.
    recovered_in: float | None = None
    is_over: bool = False

    def __str__(self) -> str:
        lasted = "" if self.ended_at is None else f", {self.ended_at - self.began_at:.1f} s long"
        moved = (
            "nothing moved"
            if self.recovered_in is None
            else f"moved {self.recovered_in:.1f} s later"
        )
        crowd = "" if self.is_alone else ", not alone"
        return f"{shown(self.damage)}{lasted}, {moved}{crowd}"


@dataclass(slots=True)
class Survey:
    """What was done, what was survived, and what went wrong."""

    began_at: float = field(default_factory=time.monotonic)
    began_on: datetime = field(default_factory=datetime.now)
    blows: list[Blow] = field(default_factory=list)
    tally: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    lost: int = 0
    doubled: int = 0
    repeated: int = 0
    #: (name, exit code) of processes that ended by themselves and were started
    #: again, as those do that come up while the store is away.
    deserted: list[tuple[str, int]] = field(default_factory=list)
    #: Seconds from the last damage until the last job had ended.
    ended_in: float = 0
    faults: list[str] = field(default_factory=list)

    @property
    def story(self) -> str:
        """Every damage with its moment as the logs tell it."""
        moments = [
            self.began_on + timedelta(seconds=one.began_at - self.began_at) for one in self.blows
        ]
        lines = [f"{at:%H:%M:%S} {one}" for at, one in zip(moments, self.blows, strict=True)]
        lines += [f"{name} ended by itself with {code}" for name, code in self.deserted]
        return "\n".join([*lines, *self.faults, ""])


def alone(blows: Sequence[Blow]) -> dict[str, list[float]]:
    """Times to recover, by the name of the damage, of those that nothing else blurs."""
    found: dict[str, list[float]] = {}
    for blow in blows:
        times = found.setdefault(shown(blow.damage), [])
        if blow.is_alone and blow.recovered_in is not None:
            times.append(blow.recovered_in)
    return found
