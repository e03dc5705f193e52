"""The pictures of the README: items a second and memory, over the size of a job."""

import os
import platform
import statistics
from datetime import date
from pathlib import Path

import pygal
from pygal.style import Style

from tests.benchmarks.bars import Figures
from tests.benchmarks.parts.sizes import SIZES

#: Series by the name under which they are shown.
CONTESTANTS = {
    "this worker (PostgreSQL, an outcome an item)": "ours",
    "dramatiq (outcomes in Redis)": "dramatiq_batches",
    "Celery chord": "chord",
    "bare asyncio loop (nothing durable)": "bare_loop",
}
STYLE = Style(
    background="white",
    plot_background="white",
    colors=("#0b6e4f", "#c1440e", "#6a4c93", "#888888"),
    font_family="sans-serif",
)


def has_all(figures: Figures) -> bool:
    """Whether every size of every contestant was seen."""
    return all(_speed(figures, items, name) for items in SIZES for name in CONTESTANTS.values())


def draw(figures: Figures, folder: Path) -> None:
    """Write `throughput.svg` and `memory.svg`; medians of what was seen of each size."""
    throughput = _picture("Items a second, calls of 100, no latency (both axes logarithmic)")
    memory = _picture("Most memory of a worker's process or the submitter, MiB (both logarithmic)")
    for shown, name in CONTESTANTS.items():
        throughput.add(shown, [_speed(figures, items, name) for items in SIZES])
        memory.add(shown, [_memory(figures, items, name) for items in SIZES])
    throughput.render_to_file(folder / "throughput.svg")
    memory.render_to_file(folder / "memory.svg")


def _picture(title: str) -> pygal.Line:
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {date.today()}"  # noqa: DTZ011
    return pygal.Line(
        # Nothing in the file refers to another place.
        js=[],
        style=STYLE,
        title=title,
        x_title=f"items of the job ({machine})",
        x_labels=[f"{items:,}" for items in SIZES],
        logarithmic=True,
        legend_at_bottom=True,
        legend_at_bottom_columns=2,
        width=900,
        height=480,
        dots_size=4,
    )


def _speed(figures: Figures, items: int, name: str) -> float | None:
    """Items a second; None where nothing was seen."""
    seen = figures.get(f"sizes.{items}.{name}.item_us")
    return round(1e6 / statistics.median(seen)) if seen else None


def _memory(figures: Figures, items: int, name: str) -> float | None:
    """Of worker and submitter the larger one, in MiB."""
    series = (figures.get(f"sizes.{items}.{name}.{who}_mib") for who in ("worker", "submitter"))
    seen = [statistics.median(one) for one in series if one]
    return round(max(seen)) if seen else None
