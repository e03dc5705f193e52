"""Before any test imports them: what asserts in the shipped suite is shown in full."""

import pytest

pytest.register_assert_rewrite(
    "api_adapters.contract", "api_adapters.contract_practice", "api_adapters.contract_http"
)
