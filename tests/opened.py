"""Things that open several others, and close them all however far they came."""

from abc import ABC, abstractmethod
from contextlib import ExitStack
from types import TracebackType
from typing import Self


class Opened(ABC):
    """Use it in a `with` statement; what `_open` has opened is closed in the opposite order."""

    def __init__(self) -> None:
        self._opened = ExitStack()

    @abstractmethod
    def _open(self, opened: ExitStack) -> None:
        """Open everything; what fails half way is closed as far as it came."""

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._open(opened)
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._opened.close()
