"""The doors of the public tasks."""

from typing import Any

import pytest

from tests.factories import some_id
from worker import requests
from worker.errors import RefusedRequest

ID = "7b2f8c1e-0000-4000-8000-000000000001"


def refusal(kind: type[requests.Request], **given: Any) -> RefusedRequest:
    with pytest.raises(RefusedRequest) as refused:
        requests.parse(kind, given)
    return refused.value


@pytest.mark.parametrize("text", [ID.upper(), ID.replace("-", ""), f"{{{ID}}}", f"urn:uuid:{ID}"])
def test_an_id_has_one_spelling(text: str) -> None:
    assert requests.parse(requests.OfJob, {"job": text}).job == ID


@pytest.mark.parametrize("given", [{}, {"job": None}, {"job": 7}, {"job": ""}, {"job": "x" * 36}])
def test_what_is_no_id_is_refused(given: Any) -> None:
    assert refusal(requests.OfJob, **given).code == "invalid_message"


def test_every_fault_is_told_without_what_was_given() -> None:
    refused = refusal(requests.Submit, job="somebody", target=7, items="nobody", dry_run="yes")

    assert refused.code == "invalid_message"
    for name in ("job", "target", "items", "dry_run"):
        assert f"{name}: " in refused.message
    assert "somebody" not in refused.message
    assert "nobody" not in refused.message


def test_an_unknown_argument_is_refused_by_its_name() -> None:
    refused = refusal(requests.Submit, job=ID, target="crm", items=[], notfy="x")

    assert "notfy" in refused.message


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (requests.Submit, {"job": ID, "target": "crm", "items": ["a"] * 10_001}),
        (requests.Append, {"job": ID, "chunk": 0, "items": ["a"] * 10_001}),
        (requests.Open, {"job": ID, "target": "crm", "chunk_items": 10_001}),
    ],
)
def test_too_many_items_are_refused_with_the_limit(
    kind: type[requests.Request], given: dict[str, Any]
) -> None:
    refused = refusal(kind, **given)

    assert (refused.code, refused.data) == ("too_many_items", {"limit": 10_000})


def test_ten_thousand_items_are_not_too_many() -> None:
    given = {"job": some_id(), "target": "crm", "items": ["a"] * 10_000}

    assert len(requests.parse(requests.Submit, given).items or ()) == 10_000


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (requests.Submit, {"items": 20_000}),
        (requests.Submit, {"items": {"a": 1}}),
        (requests.Submit, {"items": [], "requested_by": "x" * 257}),
        (requests.Submit, {"items": [], "requested_by": "zero\x00byte"}),
        (requests.Submit, {"items": [], "requested_by": "half \ud800 of a pair"}),
        (requests.Submit, {"items": [], "target": ""}),
        (requests.Open, {"chunk_items": 0}),
        (requests.Open, {"chunk_items": 1.0}),
        (requests.Open, {"chunk_items": True}),
        (requests.Append, {"chunk": -1, "items": []}),
        (requests.Append, {"chunk": 2**31, "items": []}),
        (requests.Append, {"chunk": "0", "items": []}),
        (requests.Seal, {"chunks": None}),
        (requests.Results, {"limit": 0}),
        (requests.Results, {"limit": 1_001}),
        (requests.Results, {"after": -2}),
        (requests.Results, {"verdict": "gone"}),
    ],
)
def test_a_wrong_type_or_range_is_refused(
    kind: type[requests.Request], given: dict[str, Any]
) -> None:
    needed = {"job": ID, "target": "crm"}
    named = {name: value for name, value in needed.items() if name in kind.model_fields}

    assert refusal(kind, **(named | given)).code == "invalid_message"


def test_a_verdict_is_given_as_its_word() -> None:
    assert requests.parse(requests.Results, {"job": ID, "verdict": "deleted"}).verdict == "deleted"
