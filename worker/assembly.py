"""Puts the worker together: one set of actors for a process, made on first use."""

import os
import random
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from uuid import uuid4

from api_adapters.base import Adapter, Pace
from worker.desk import Desk
from worker.environment import Environment, read_environment
from worker.errors import BadConfiguration
from worker.examiner import Examiner
from worker.executor import Bells, Executor
from worker.finder import Finder
from worker.insisting import Insistence
from worker.job import JobId
from worker.pace import NoPace, SharedPace, ping
from worker.planner import Planner
from worker.pruner import Pruner
from worker.purge import CatchUp, Overlap, Purge
from worker.purger import Purger
from worker.rescuer import Rescuer
from worker.scheduling import Schedule
from worker.sections import PurgeSettings
from worker.settings import Configuration, find_configuration, load_configuration
from worker.settler import Settler
from worker.store.base import Store
from worker.store.migrations import check, prepare
from worker.store.sql import SqlStore
from worker.submitter import Submitter
from worker.target import Target


class Adapters:
    """The adapters of the configured targets, each built once for all threads."""

    def __init__(self, targets: Mapping[str, Target], *, redis_url: str | None) -> None:
        """`redis_url` is None where no pace is shared, as for a single look by hand."""
        self._targets = targets
        self._redis_url = redis_url
        self._built: dict[str, Adapter] = {}
        self._lock = Lock()

    def __call__(self, name: str) -> Adapter:
        """The adapter of a target. Raises BadSettings."""
        with self._lock:
            if name not in self._built:
                target = self._targets[name]
                self._built[name] = target.adapter(target.settings, pace=self._pace(target))
            return self._built[name]

    def _pace(self, target: Target) -> Pace:
        """The pace that all workers of the target share."""
        per_second = target.limits.requests_per_second
        if per_second is None or self._redis_url is None:
            return NoPace()
        return SharedPace(target.name, per_second, redis_url=self._redis_url)

    def close(self) -> None:
        """Give back every connection."""
        with self._lock:
            for adapter in self._built.values():
                adapter.close()
            self._built.clear()


@dataclass(frozen=True, slots=True)
class Deployment:
    """One configuration in one environment, and the store that belongs to it."""

    environment: Environment
    configuration: Configuration
    store: Store
    adapters: Adapters
    #: What never changes of the jobs that are fed.
    fed: dict[JobId, tuple[str, int]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def targets(self) -> Mapping[str, Target]:
        """The configured targets by name."""
        return self.configuration.targets

    def examiner(self) -> Examiner:
        """Asks store and broker whether all is well."""
        return Examiner(self.store, check_migration=self.check_migration, ping_broker=self.ping)

    def check_migration(self) -> None:
        """Raises WrongMigration, StoreUnavailable."""
        check(self.environment.store_url)

    def ping(self) -> str | None:
        """Why the broker does not answer, if so."""
        return ping(self.environment.broker_url)

    def submitter(self) -> Submitter:
        """Takes jobs in."""
        return Submitter(
            self.store,
            targets=self.targets,
            adapters=self.adapters,
            notify=frozenset(self.configuration.notify),
            retain_for=self.configuration.retention_of,
            known=self.fed,
        )

    def planner(self, *, is_ending: Callable[[], bool] = lambda: False) -> Planner:
        """Finds the items of jobs by query, and cuts all into batches."""
        finder = Finder(
            self.store,
            targets=self.targets,
            adapters=self.adapters,
            chance=random.random,
            is_ending=is_ending,
        )
        return Planner(self.store, targets=self.targets, finder=finder)

    def executor(self, bells: Bells, *, is_ending: Callable[[], bool] = lambda: False) -> Executor:
        """Deletes; `is_ending` is true once the process is to end."""
        return Executor(
            self.store,
            targets=self.targets,
            adapters=self.adapters,
            bells=bells,
            holder=f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}",
            chance=random.random,
            insist=Insistence(is_ending=is_ending),
        )

    def desk(self) -> Desk:
        """Answers other applications."""
        return Desk(
            self.store,
            submitter=self.submitter(),
            planner=self.planner(),
            targets=self.targets,
            adapters=self.adapters,
        )

    def settler(self) -> Settler:
        """Closes jobs."""
        return Settler(self.store)

    def rescuer(self) -> Rescuer:
        """Gives back what lost workers had."""
        return Rescuer(self.store, targets=self.targets, chance=random.random)

    @property
    def purges(self) -> Mapping[str, Purge]:
        """The configured standing orders by name."""
        return {
            name: _purge(name, given, self.targets[given.target])
            for name, given in self.configuration.purges.items()
        }

    def purger(self) -> Purger:
        """Begins what standing orders are due for."""
        return Purger(
            self.store,
            purges=self.purges,
            targets=self.targets,
            adapters=self.adapters,
            retain_for=self.configuration.retention_of,
        )

    def pruner(self) -> Pruner:
        """Drops what was kept for long enough."""
        return Pruner(self.store)

    def close(self) -> None:
        """Give back every connection."""
        self.adapters.close()
        self.store.close()


def _purge(name: str, given: PurgeSettings, target: Target) -> Purge:
    """A standing order of the configuration, with what its target is."""
    return Purge(
        name=name,
        target=target.name,
        fingerprint=target.fingerprint,
        query=given.query,
        schedule=Schedule(cron=given.cron, every=given.every, timezone=given.timezone),
        catch_up=CatchUp(given.catch_up),
        overlap=Overlap(given.overlap),
        max_items=given.max_items,
        alert_after=given.alert_after,
        enabled=given.enabled,
        trusted=given.trusted,
    )


def read_places(
    environ: Mapping[str, str], *, option: Path | None = None, cwd: Path | None = None
) -> Environment:
    """Where everything is, without opening anything. Raises BadConfiguration."""
    cwd = cwd or Path.cwd()
    configuration = find_configuration(option, environ, cwd)
    return read_environment(environ, configuration=configuration, cwd=cwd)


def open_deployment(environment: Environment) -> Deployment:
    """Read the configuration and open the store; an empty store is made ready.

    Raises:
        BadConfiguration, WrongMigration, StoreUnavailable.
    """
    deployment = open_watch(environment)
    prepare(environment.store_url)
    return deployment


def open_watch(environment: Environment) -> Deployment:
    """The same, to look at what is there: nothing is opened yet, and the store left as it is.

    Raises:
        BadConfiguration.
    """
    if environment.configuration is None:
        raise BadConfiguration(("no configuration file is named",))
    configuration = load_configuration(environment.configuration)
    return Deployment(
        environment=environment,
        configuration=configuration,
        store=SqlStore(environment.store_url),
        adapters=Adapters(configuration.targets, redis_url=environment.broker_url),
    )
