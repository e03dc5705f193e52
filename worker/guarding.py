"""What of a target must stay, whatever is asked: protected keys, and globs over keys.

Protected keys are kept in the store, globs stand in the configuration. What is
not known to be harmless is kept.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache

from api_adapters.base import Evidence, Item, Verdict
from worker.batch import Claimed
from worker.item import Mark

#: The code of an item that was kept.
PROTECTED = "protected"

BY_KEY = "its key is protected"
BY_GLOB = "its key matches `protect` of the target's configuration"
UNKNOWN_KEY = "nobody knows its key before the call, and keys of its target are protected"


@dataclass(frozen=True, slots=True)
class Guard:
    """What the configuration keeps of one target, and what its adapter can tell of keys."""

    globs: tuple[str, ...]
    is_key_known: Callable[[Item], bool]

    def why_kept(self, item: Item, key: str, *, has_keys: bool = False) -> str | None:
        """Why an item is never sent, or None; `has_keys`: keys of its target are protected."""
        if not self.globs and not has_keys:
            return None
        if self.globs and _pattern(self.globs).match(key):
            return BY_GLOB
        return None if self._knows(item) else UNKNOWN_KEY

    def _knows(self, item: Item) -> bool:
        """Whether the key says which thing is meant."""
        try:
            return self.is_key_known(item)
        # A stranger's adapter may raise anything; what is not known is kept.
        except Exception:  # noqa: BLE001
            return False


#: Keeps nothing.
NO_GUARD = Guard((), lambda _: True)


def kept_of(
    claimed: Claimed,
    keys: Mapping[int, str],
    *,
    guard: Guard,
    protected: Collection[int],
    has_keys: bool,
) -> dict[int, str]:
    """The open positions of a batch that are never sent, each with why.

    `protected` are those whose stored key is protected; `keys` names the
    positions by the key that the adapter gives them now.
    """
    kept = dict.fromkeys(protected, BY_KEY)
    if guard.globs or has_keys:
        for item in claimed.items:
            key = keys.get(item.position)
            if item.position in kept or key is None:
                continue
            if why := guard.why_kept(item.item, key, has_keys=has_keys):
                kept[item.position] = why
    return kept


def kept_mark(mark: Mark, why: str) -> Mark:
    """The outcome of an item that is kept: denied, or unknown if an earlier call may have run."""
    verdict = Verdict.UNKNOWN if mark.doubt else Verdict.DENIED
    return Mark(verdict, Evidence.NONE, PROTECTED, why, doubt=mark.doubt, calls=mark.calls)


def glob_of(globs: Sequence[str], key: str) -> str | None:
    """The first glob that a key matches, or None; case matters.

    >>> glob_of(("root", "admin-*"), "admin-7"), glob_of(("admin-*",), "Admin-7")
    ('admin-*', None)
    """
    return next((glob for glob in globs if _pattern((glob,)).match(key)), None)


@lru_cache(maxsize=256)
def _pattern(globs: tuple[str, ...]) -> re.Pattern[str]:
    """One pattern that matches what any of these globs does."""
    return re.compile("|".join(map(translate, globs)))
