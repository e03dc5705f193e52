"""Finds adapters by name; nothing of an adapter is imported until it is asked for.

An adapter is any class that a package, ours or a stranger's, puts under the
entry-point group `deletion_worker.adapters`.
"""

from importlib.metadata import EntryPoint, entry_points

from api_adapters.base import Adapter
from api_adapters.errors import BadSettings

GROUP = "deletion_worker.adapters"


def load(name: str) -> type[Adapter]:
    """Import the adapter of that name.

    Raises:
        BadSettings: nobody offers it, two packages do, or it cannot be
            imported. The message reads well after "target 'crm'".
    """
    point = _find(name)
    try:
        found = point.load()
    except ImportError as error:
        raise BadSettings(_what_is_missing(point, error)) from error
    except AttributeError as error:
        raise BadSettings(f"names adapter {name!r}, but there is no {point.value}") from error
    if not (isinstance(found, type) and issubclass(found, Adapter)):
        raise BadSettings(f"names adapter {name!r}, but {point.value} is no subclass of Adapter")
    return found


def installed() -> list[str]:
    """The names that `load` knows, in order."""
    return sorted(entry_points(group=GROUP).names)


def _find(name: str) -> EntryPoint:
    # One package can be seen twice, as itself and as an editable install.
    by_value = {point.value: point for point in entry_points(group=GROUP) if point.name == name}
    if not by_value:
        names = ", ".join(installed()) or "none"
        raise BadSettings(f"names adapter {name!r}; installed: {names}")
    if len(by_value) > 1:
        values = " and ".join(sorted(by_value))
        raise BadSettings(
            f"names adapter {name!r}, which is offered twice, as {values}: uninstall one"
        )
    return next(iter(by_value.values()))


def _what_is_missing(point: EntryPoint, error: ImportError) -> str:
    """Say what to install; an entry point names its extra in brackets."""
    said = f"names adapter {point.name!r}, which cannot be imported: {error}"
    if point.dist is not None and point.extras:
        wanted = f"{point.dist.name}[{','.join(point.extras)}]"
        return f"{said}; install '{wanted}' where the workers run"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{said}; install the package of '{error.name}' where the workers run"
    return said
