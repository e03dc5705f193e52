"""Threads that are refused at once log in once between them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from api_adapters.base import Deadline
from api_adapters.errors import Hopeless, Transient
from api_adapters.token import Login, SharedToken

SOON = timedelta(seconds=5)


class Door:
    """Hands out numbered tokens."""

    def __init__(self) -> None:
        self.logins = 0
        self.is_shut = False

    def log_in(self, until: Deadline) -> str:
        if self.is_shut:
            raise Hopeless("shut", may_have_run=False)
        self.logins += 1
        return f"token {self.logins}"


def test_the_first_use_logs_in_and_the_second_does_not() -> None:
    door = Door()
    token = SharedToken(door.log_in)

    assert token.current(Deadline(SOON)) == token.current(Deadline(SOON)) == "token 1"


def test_many_threads_with_the_same_stale_token_log_in_once() -> None:
    door = Door()
    token = SharedToken(door.log_in)
    stale = token.current(Deadline(SOON))
    together = threading.Barrier(8)

    def renew(_: int) -> str:
        together.wait()
        return token.newer_than(stale, Deadline(SOON))

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(renew, range(8))) == {"token 2"}


def test_a_late_thread_with_an_older_token_gets_the_newer_one() -> None:
    door = Door()
    token = SharedToken(door.log_in)
    first = token.current(Deadline(SOON))
    token.newer_than(first, Deadline(SOON))

    assert token.newer_than(first, Deadline(SOON)) == "token 2"


def test_a_failed_login_leaves_no_refused_token_behind() -> None:
    door = Door()
    token = SharedToken(door.log_in)
    stale = token.current(Deadline(SOON))
    door.is_shut = True

    with pytest.raises(Hopeless):
        token.newer_than(stale, Deadline(SOON))

    door.is_shut = False
    assert token.current(Deadline(SOON)) == "token 2"


def test_waiting_for_anothers_login_ends_at_the_deadline() -> None:
    begun, over = threading.Event(), threading.Event()

    def slow(until: Deadline) -> str:
        begun.set()
        over.wait()
        return "late"

    token = SharedToken(slow)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(token.current, Deadline(SOON))
        begun.wait()

        with pytest.raises(Transient) as failure:
            token.current(Deadline(timedelta(seconds=0.05)))

        over.set()
        assert first.result() == "late"
    assert not failure.value.may_have_run


@pytest.mark.parametrize(("lives", "renewed_after"), [(1_000, 940), (100, 90)])
def test_a_token_near_its_end_is_renewed_ahead(lives: int, renewed_after: int) -> None:
    now = 0.0
    door = Door()
    token = SharedToken(
        lambda until: Login(door.log_in(until), timedelta(seconds=lives)), clock=lambda: now
    )
    token.current(Deadline(SOON))

    now = renewed_after - 1
    assert token.current(Deadline(SOON)) == "token 1"

    now = renewed_after
    assert token.current(Deadline(SOON)) == "token 2"


def test_a_login_is_shown_without_its_token() -> None:
    assert "secret" not in repr(Login("secret", refresh_token="secret"))
