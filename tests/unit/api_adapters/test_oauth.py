"""What an answer of a token endpoint means."""

import json
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from api_adapters.answer import Answer
from api_adapters.errors import CallFailed, Hopeless, Transient
from api_adapters.oauth import LONGEST_LIFE, Consent, read_login
from api_adapters.settings import Secret


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
    ("told", "kept"),
    [({"refresh_token": "next"}, "next"), ({}, None), ({"refresh_token": 7}, None)],
)
def test_a_renewed_refresh_token_is_told(told: dict[str, Any], kept: str | None) -> None:
    assert (
        read_login(answer(200, {"access_token": "t", **told}), change="oauth").refresh_token == kept
    )


def test_a_renewed_consent_holds_until_another_is_configured_or_it_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    consent = Consent(Secret(env="CONSENT"))
    asked: list[str] = []

    def log_in(configured: str, status: int, **told: str) -> None:
        monkeypatch.setenv("CONSENT", configured)

        def ask(refresh_token: str) -> Answer:
            asked.append(refresh_token)
            return answer(status, {"access_token": "t", **told})

        with suppress(Transient, Hopeless):
            consent.log_in(ask, change="oauth")

    log_in("first", 200, refresh_token="second")
    log_in("first", 200)
    log_in("first", 503)
    log_in("first", 200)
    log_in("third", 200, refresh_token="fourth")
    log_in("third", 400)
    log_in("third", 200)

    assert asked == ["first", "second", "second", "second", "third", "fourth", "third"]


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
