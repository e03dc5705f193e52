"""A target: a configured backend instance, as the worker sees it."""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

from api_adapters.base import Adapter, Limits
from api_adapters.settings import Secret, TargetSettings
from worker.failing import Tolerance
from worker.guarding import Guard

#: A query may match far more than its author thinks, so it has a brake unasked.
MOST_FOUND_ITEMS = 10_000

_PASSWORD = re.compile(r"(?<=://)([^/?#@:]*):[^/?#]*@")
_ACCOUNT = re.compile(r"(?<=://)[^/?#]*@")


@dataclass(frozen=True)
class Target:
    """A name, an adapter and its settings; everything else follows from them."""

    name: str
    adapter: type[Adapter]
    settings: TargetSettings

    @cached_property
    def limits(self) -> Limits:
        """The adapter's limits, overlaid by what the configuration says."""
        own, given = self.adapter.limits, self.settings
        return Limits(
            max_items_per_call=given.max_items_per_call or own.max_items_per_call,
            max_in_flight=given.max_in_flight or own.max_in_flight,
            requests_per_second=given.requests_per_second or own.requests_per_second,
            timeout=given.timeout or own.timeout,
            max_items_per_probe=own.max_items_per_probe,
        )

    @property
    def max_attempts(self) -> int:
        """How many attempts may fail before an item's outcome is final."""
        return self.settings.max_attempts

    @property
    def max_given_items(self) -> int | None:
        """A larger job of given items waits for approval; `None`: none does."""
        return self.settings.max_items

    @property
    def max_found_items(self) -> int:
        """A larger job of found items waits for approval."""
        return self.settings.max_items or MOST_FOUND_ITEMS

    @property
    def found_valid_for(self) -> timedelta | None:
        """How long what was found may be deleted; None where its deletion looks again."""
        return None if self.adapter.repeats_query else self.settings.plan_valid_for

    @property
    def tolerance(self) -> Tolerance:
        """The share of failures with which a job still goes on."""
        return Tolerance(self.settings.max_failures, self.settings.failures_after)

    def guard(self, adapter: Adapter) -> Guard:
        """What the configuration keeps, whatever is asked."""
        return Guard(self.settings.protect, adapter.is_key_known)

    @cached_property
    def fingerprint(self) -> str:
        """What decides *what* is deleted, as 32 hex digits: no credentials, no pace.

        It is the same in every process and version that has the same settings.
        """
        identity = self.settings.model_dump(mode="json", include=set(self.adapter.identity))
        content = {"adapter": self.settings.adapter, **_without_passwords(identity)}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()[:32]

    @property
    def address(self) -> str:
        """Where it is, for people: without account and password."""
        for key in ("base_url", "url"):
            match getattr(self.settings, key, None):
                case str() as url:
                    return _ACCOUNT.sub("", url)
                case Secret(env=str() as variable):
                    return f"the address in {variable}"
                case Secret(file=str() as file):
                    return f"the address in {file}"
        return self.settings.adapter


def _without_passwords(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_passwords(inner) for key, inner in value.items()}
    return _PASSWORD.sub(r"\1@", value) if isinstance(value, str) else value
