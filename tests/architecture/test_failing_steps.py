"""The steps at which workers are made to fail are still taken where they were."""

from functools import reduce
from importlib import import_module

import pytest

from tests.integration.failpoints import STEPS


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_a_function_of_the_worker(name: str) -> None:
    module, _, path = STEPS[name].where.partition(":")

    assert callable(reduce(getattr, path.split("."), import_module(module)))
