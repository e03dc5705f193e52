"""What is read off processes and series."""

import os
from collections.abc import Sequence
from pathlib import Path

PROC = Path("/proc")


def peak_mib(pid: int) -> float:
    """The most memory that a process has had at once, by the kernel's own count; 0 once it ended.

    Unlike `ru_maxrss` it begins anew with the program, not with its parent.
    """
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) / 1024 if found else 0


def own_peak_mib() -> float:
    """The most memory that this process has had at once."""
    return peak_mib(os.getpid())


def pids_of_session(session: int) -> list[int]:
    """The processes that a session leader has started, itself included."""
    return [
        int(folder.name)
        for folder in PROC.iterdir()
        if folder.name.isdigit() and _session(folder) == session
    ]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of all does not exceed.

    >>> percentile([4, 1, 3, 2], 0.5), percentile([4, 1, 3, 2], 0.99)
    (2, 4)
    """
    ordered = sorted(values)
    rank = -(-share * len(ordered) // 1)
    return ordered[max(int(rank), 1) - 1]


def _session(folder: Path) -> int | None:
    try:
        text = (folder / "stat").read_text()
    except OSError:
        return None
    # The name before it, in brackets, may hold anything.
    return int(text.rpartition(")")[2].split()[3])
