"""What the in-memory twin keeps of standing orders."""

from dataclasses import dataclass, field
from datetime import datetime

from worker.purge import PurgeRun


@dataclass(slots=True)
class PurgeRow:
    """A standing order and its runs by due moment."""

    digest: str
    registered_at: datetime
    approved: str | None = None
    due_at: datetime | None = None
    runs: dict[datetime, PurgeRun] = field(default_factory=dict)
    noted_at: dict[datetime, datetime] = field(default_factory=dict)
