import pytest

pytest.register_assert_rewrite(
    "api_adapters.contract", "api_adapters.contract_practice", "api_adapters.contract_http"
)
