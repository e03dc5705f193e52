"""What an answer of a token endpoint means."""

import json
from datetime import timedelta
from typing import Any

import pytest

from api_adapters.answer import Answer
from api_adapters.errors import CallFailed, Hopeless, Transient
from api_adapters.oauth import LONGEST_LIFE, read_login


def answer(status: int, body: Any) -> Answer:
    return Answer(status, {}, json.dumps(body).encode(), "http://host log in", may_have_run=False)


@pytest.mark.parametrize(
    ("told", "lasts"),
    [
        (599, timedelta(seconds=599)),
        ("599", timedelta(seconds=599)),
        (0.5, timedelta(seconds=0.5)),
        (10**400, LONGEST_LIFE),
        ("9" * 5_000, LONGEST_LIFE),
        (0, None),
        (-1, None),
        (True, None),
        ("soon", None),
        (None, None),
    ],
)
def test_a_life_is_taken_where_it_is_told(told: Any, lasts: timedelta | None) -> None:
    login = read_login(answer(200, {"access_token": "t", "expires_in": told}), change="oauth")

    assert (login.token, login.lasts) == ("t", lasts)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": "invalid_grant"}, Hopeless),
        (401, {"error": "invalid_client"}, Hopeless),
        (403, {}, Hopeless),
        (404, {}, Hopeless),
        (413, {}, Hopeless),
        (500, {"error": "invalid_grant"}, Hopeless),
        (500, {}, Transient),
        (429, {}, Transient),
        (302, {"access_token": "t"}, Transient),
        (200, {"access_token": ""}, Transient),
        (200, {"access_token": 7}, Transient),
        (200, [], Transient),
    ],
)
def test_a_login_that_fails_did_nothing_and_is_never_the_items_fault(
    status: int, body: Any, kind: type[CallFailed]
) -> None:
    with pytest.raises(kind) as failure:
        read_login(answer(status, body), change="oauth")

    assert not failure.value.may_have_run
    assert not isinstance(failure.value, Hopeless) or failure.value.closes_target
