"""One run under fire: orders, damage after damage, the end awaited, the report held to account."""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random

from tests.acceptance.fire.application import Application, Due
from tests.acceptance.fire.damage import Damage
from tests.acceptance.fire.deployment import Deployment
from tests.acceptance.fire.hearing import LONGEST_RECOVERY, hear
from tests.acceptance.fire.survey import Blow, Survey
from tests.acceptance.fire.watch import Watch

_TICK = 0.01
#: What an id of a practice server looks like.
_WORDS = re.compile(r"[0-9a-f-]{24,36}")


@dataclass(frozen=True, slots=True)
class Course:
    """How a campaign goes on."""

    #: No damage begins after so many seconds.
    seconds: float
    #: Between two damages, from and to, in seconds.
    pause: tuple[float, float]
    #: After the last damage everything ends by itself within so many seconds.
    patience: float
    #: With more than one, damages overlap, and nobody waits for recovery.
    at_once: int = 1
    #: The share of the large jobs that is left to be decided after the last damage.
    in_peace: float = 0.0


class Campaign:
    """Does damage to a deployment while it works on orders."""

    def __init__(
        self,
        deployment: Deployment,
        orders: Sequence[Due],
        *,
        poison: Sequence[str] = (),
        dice: Random,
    ) -> None:
        self._deployment = deployment
        self._orders = orders
        self._poison = poison
        self._dice = dice
        self._survey = Survey()
        self._watch = Watch(deployment.store_url)
        self._burning: list[Blow] = []

    def run(self, damages: Iterator[Damage], course: Course) -> Survey:
        """Do one damage after the other, then let every job end, and hear what is reported."""
        with ExitStack() as opened:
            opened.callback(self._watch.close)
            applications = [
                opened.enter_context(self._application(target, number))
                for number, target in enumerate(self._deployment.vendors)
            ]
            try:
                self._burn(damages, course)
            finally:
                self._put_out()
            for application in applications:
                application.hurry()
            healed_at = time.monotonic()
            self._await_end(applications, healed_at + course.patience)
            self._survey.ended_in = time.monotonic() - healed_at
            for application in applications:
                self._survey.repeated += application.repeated
                self._survey.faults += application.faults
            taken = [order for one in applications for order in one.accepted]
            heard = hear(self._deployment, taken, poison=self._poison, ended=self._watch.ended)
            self._survey.jobs, self._survey.tally = len(taken), heard.tally
            self._survey.faults += heard.faults
        self._note_the_crew()
        return self._survey

    # -- fire -----------------------------------------------------------------

    def _application(self, target: str, number: int) -> Application:
        """Whoever gives the orders of one target."""
        own = [due for due in self._orders if due.order.target == target]
        for due in own:
            self._watch.follow(due.order.job)
        vendor = self._deployment.vendors[target]
        stock = self._deployment.stocks[target]
        vendor.poison([key for key in self._poison if key in set(stock.ids)])
        return Application(self._deployment.broker_url, own, seed=number)

    def _burn(self, damages: Iterator[Damage], course: Course) -> None:
        """Begin one damage after the other, each a pause after there is room for it."""
        until = time.monotonic() + course.seconds
        next_at: float | None = None
        while (now := time.monotonic()) < until or self._burning:
            if self._watch.share_left < course.in_peace:
                until = now
            is_room = self._is_room(now, course)
            if not is_room or now > until:
                next_at = None
            elif next_at is None:
                next_at = now + self._dice.uniform(*course.pause)
            elif now >= next_at:
                damage, next_at = next(damages, None), None
                if damage is None:
                    until = now
                else:
                    self._begin(damage, now)
            self._step(now)
            self._look()
            time.sleep(_TICK)

    def _begin(self, damage: Damage, now: float) -> None:
        is_alone = not self._burning
        for other in self._survey.blows:
            other.is_alone = other.is_alone and other.is_over
        blow = Blow(damage, damage(self._deployment, self._dice), now, now, is_alone)
        self._burning.append(blow)
        self._survey.blows.append(blow)

    def _step(self, now: float) -> None:
        """Go on with every damage whose next step is due."""
        for blow in [one for one in self._burning if one.due_at <= now]:
            try:
                blow.due_at = now + next(blow.steps)
            except StopIteration:
                blow.ended_at = time.monotonic()
                self._burning.remove(blow)

    def _look(self) -> None:
        """See what goes on."""
        self._deployment.crew.look_after()
        self._watch.look()
        self._note_recovery()

    def _note_recovery(self) -> None:
        for blow in self._survey.blows:
            if blow.ended_at is None or blow.is_over:
                continue
            moved_at = self._watch.all_moved_at(since=blow.ended_at)
            if moved_at is not None:
                blow.is_over, blow.recovered_in = True, moved_at - blow.ended_at
            elif not self._watch.is_anything_left:
                blow.is_over = True

    def _is_room(self, now: float, course: Course) -> bool:
        """Whether one more damage may begin."""
        if course.at_once > 1:
            return len(self._burning) < course.at_once
        return self._is_calm(now)

    def _is_calm(self, now: float) -> bool:
        """Whether the last damage is behind us, or was waited for in vain."""
        for blow in self._survey.blows:
            if blow.ended_at is None:
                return False
            if blow.is_over:
                continue
            if now - blow.ended_at < LONGEST_RECOVERY:
                return False
            blow.is_over = True
            self._survey.faults.append(f"{blow} within {LONGEST_RECOVERY:.0f} s")
        return True

    def _put_out(self) -> None:
        """End what still burns, and let every part be sound."""
        for blow in self._burning:
            blow.steps.close()
        self._burning.clear()
        self._deployment.heal()

    # -- the end --------------------------------------------------------------

    def _await_end(self, applications: Sequence[Application], until: float) -> None:
        """Wait for all orders to be taken and all jobs to end, while anything moves."""
        began_at = time.monotonic()
        while (now := time.monotonic()) < until:
            self._look()
            if all(one.is_done for one in applications) and self._watch.is_everything_ended:
                return
            if now - max(self._watch.moved_at, began_at) > LONGEST_RECOVERY:
                break
            time.sleep(_TICK)
        self._survey.faults += [
            f"target {target}: not every order was taken"
            for target, one in zip(self._deployment.vendors, applications, strict=True)
            if not one.is_done
        ]
        self._survey.faults += self._watch.unended()

    def _note_the_crew(self) -> None:
        """What the processes themselves went through."""
        deployment, survey = self._deployment, self._survey
        survey.lost, survey.doubled = deployment.lost, deployment.doubled
        survey.deserted = deployment.crew.deserted
        survey.faults += deployment.crew.complaints()
        keys = {key for due in self._orders for key in due.order.keys if key is not None}
        survey.faults += [
            f"{name} logged items: {sorted(shown)[:3]}"
            for name, text in deployment.crew.logs().items()
            if (shown := keys.intersection(_WORDS.findall(text.lower())))
        ]
