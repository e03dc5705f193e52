"""One terminal for a test, or for all tests of a file."""

from collections.abc import Iterator

import pytest

from tests.acceptance.terminal import Terminal


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal beside one empty monitor."""
    with Terminal() as opened:
        yield opened
