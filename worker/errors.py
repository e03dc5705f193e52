"""What can go wrong, drawn as a tree.

DeletionError
├── BadConfiguration   a configuration file or environment that cannot be used
├── UnreadableFile     an item file that cannot be read
├── StoreError         the results store
│   ├── StoreUnavailable   it does not answer: try again
│   ├── WrongMigration     it is at another migration than this program
│   └── DoesNotAddUp       a tally that differs from its items: never written
├── LeaseLost          somebody else has what this worker had claimed
└── RefusedRequest     a request that cannot be taken, with a code for clients
"""

from collections.abc import Mapping
from typing import Any


class DeletionError(Exception):
    """The root of what this package raises on purpose."""


class BadConfiguration(DeletionError):
    """A configuration that cannot be used; every fault of it at once."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class UnreadableFile(DeletionError):
    """An item file that cannot be read."""


class StoreError(DeletionError):
    """The results store."""


class StoreUnavailable(StoreError):
    """The store does not answer."""


class WrongMigration(StoreError):
    """The store is at another migration than this program."""


class DoesNotAddUp(StoreError):
    """A tally that differs from the items of its job."""


class LeaseLost(DeletionError):
    """Somebody else has what this worker had claimed."""


class RefusedRequest(DeletionError):
    """A request that cannot be taken.

    `code` is one of the codes that clients rely on, `data` what a program may
    need to know beside the message.
    """

    def __init__(self, code: str, message: str, *, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = dict(data or {})
