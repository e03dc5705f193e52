"""What the one HTTP client sends, and what it never does."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from api_adapters.answer import Answer
from api_adapters.base import Deadline
from api_adapters.contract import FreePace
from api_adapters.errors import CallFailed, Hopeless, Refused, Transient
from api_adapters.fakes.wire import Wire, ok
from api_adapters.http import LARGEST_ANSWER, Http
from api_adapters.request import Link, Request, as_form, as_json
from api_adapters.settings import HttpSettings


def soon(seconds: float = 20) -> Deadline:
    return Deadline(timedelta(seconds=seconds))


def client(base_url: str, **more: Any) -> Http:
    table = {"adapter": "any", "base_url": base_url, **more}
    return Http(HttpSettings.model_validate(table), pace=FreePace(), max_connections=2)


def get(http: Http, path: str | Link = "/things", **more: Any) -> Answer:
    return http.send(Request("GET", path, "list things", **more), until=soon())


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire(ok(b"{}"), stays_open=True) as wire:
        yield wire


@pytest.fixture
def http(wire: Wire) -> Iterator[Http]:
    http = client(wire.url)
    yield http
    http.close()


def test_the_prefix_of_the_address_is_kept(wire: Wire) -> None:
    http = client(f"{wire.url}/api/v1/")

    get(http, "/contacts", query={"name": "a b&c=\u00e9", "page": 2})

    line = wire.requests[0].split(b"\r\n")[0]
    assert line == b"GET /api/v1/contacts?name=a%20b%26c%3D%C3%A9&page=2 HTTP/1.1"
    http.close()


def test_an_answer_is_asked_for_as_plain_json(wire: Wire, http: Http) -> None:
    get(http, headers={"X-Own": "yes", "Accept": "application/special"})

    head = wire.requests[0].decode().lower()
    assert f"host: 127.0.0.1:{wire.port}" in head
    assert "accept-encoding: identity" in head
    assert "accept: application/special" in head
    assert "accept: application/json" not in head
    assert "x-own: yes" in head


def test_a_deletion_may_carry_a_json_body(wire: Wire, http: Http) -> None:
    content = as_json({"ids": ["\u00e9", "\ud800"]})

    http.send(Request("DELETE", "/things", "delete", content=content), until=soon())

    head, _, body = wire.requests[0].partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower()
    assert body == b'{"ids":["\\u00e9","\\ud800"]}'


def test_a_form_is_encoded(wire: Wire, http: Http) -> None:
    content = as_form({"secret": "a&b=\u00e9"})

    http.look(Request("POST", "/token", "log in", content=content), until=soon())

    assert wire.requests[0].endswith(b"\r\n\r\nsecret=a%26b%3D%C3%A9")


def test_an_answer_is_given_as_it_came(wire: Wire, http: Http) -> None:
    wire.answer = ok(b'{"a":1}', status="409 Conflict", headers="X-Two: one\r\nX-TWO: two\r\n")

    answer = get(http)

    assert (answer.status, answer.document) == (409, {"a": 1})
    assert answer.headers["x-two"] == "one"
    assert "list things" in answer.place


def test_an_answer_does_not_repeat_our_credentials(wire: Wire, http: Http) -> None:
    wire.answer = ok(b'{"message":"no right: t0ken-of-ours"}')

    answer = get(http, headers={"authorization": "Bearer t0ken-of-ours"})

    assert answer.document == {"message": "no right: [hidden]"}


def test_connections_are_used_again(wire: Wire, http: Http) -> None:
    for _ in range(3):
        get(http)

    assert (wire.connections, len(wire.requests)) == (1, 3)


def test_a_redirect_is_only_an_answer(wire: Wire, http: Http) -> None:
    with Wire(ok(b"{}")) as elsewhere:
        wire.answer = ok(b"", status="307 Moved", headers=f"Location: {elsewhere.url}/\r\n")

        assert get(http, headers={"authorization": "Bearer secret"}).status == 307

        assert elsewhere.connections == 0


def test_the_environments_proxy_is_ignored(
    wire: Wire, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Wire(ok(b"{}")) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)

        get(http)

        assert (wire.connections, proxy.connections) == (1, 0)


def test_the_targets_proxy_is_used() -> None:
    with Wire(ok(b'{"by":"proxy"}')) as proxy:
        http = client("http://backend.example/api", proxy=proxy.url)

        assert get(http).document == {"by": "proxy"}

        assert proxy.requests[0].startswith(b"GET http://backend.example/api/things HTTP/1.1")
        http.close()


def test_a_tunnel_that_is_refused_did_nothing() -> None:
    with Wire(ok(b"", status="503 Busy")) as proxy:
        http = client("https://backend.example", proxy=proxy.url)

        with pytest.raises(Transient, match="proxy") as failure:
            get(http)

        assert not failure.value.may_have_run
        assert proxy.requests[0].startswith(b"CONNECT backend.example:443")
        http.close()


def test_a_proxy_that_wants_a_login_is_hopeless() -> None:
    with Wire(ok(b"", status="407 Login")) as proxy:
        http = client("https://backend.example", proxy=proxy.url)

        with pytest.raises(Hopeless, match="proxy") as failure:
            get(http)

        assert not failure.value.may_have_run
        http.close()


def test_a_proxy_behind_tls_is_refused_by_the_settings() -> None:
    with pytest.raises(ValidationError, match="http://host:3128"):
        client("https://backend.example", proxy="https://proxy.example")


def test_an_endless_answer_is_broken_off(wire: Wire, http: Http) -> None:
    wire.answer = ok(b" " * (LARGEST_ANSWER + 1))

    with pytest.raises(Transient, match="larger than 16 MiB") as failure:
        get(http)

    assert failure.value.may_have_run


def test_the_largest_answer_is_taken(wire: Wire, http: Http) -> None:
    wire.answer = ok(b" " * LARGEST_ANSWER)

    assert len(get(http).body) == LARGEST_ANSWER


def test_an_answer_sent_before_the_request_is_not_taken_for_its_answer(
    wire: Wire, http: Http
) -> None:
    wire.answer = ok(b'{"for":1}') + ok(b'{"for":2}')
    get(http)

    with pytest.raises(Transient, match="unasked"):
        get(http)


def test_no_path_breaks_out_of_its_request_line() -> None:
    with Wire(ok(b"{}"), stays_open=True) as wire:
        http = client(wire.url)

        @given(path=st.text(max_size=8).map("/x".__add__))
        @settings(max_examples=150, deadline=None)
        def send(path: str) -> None:
            wire.requests.clear()
            with suppress(Refused):
                get(http, path)
            for request in wire.requests:
                assert request.startswith(f"GET {path} HTTP/1.1\r\nhost:".encode())

        send()
        http.close()


@pytest.mark.parametrize("path", ["/a\r\nX: y", "/a b", "/\u00e9", "/a\x00", "a", ""])
def test_a_path_that_cannot_be_sent_is_not_sent(wire: Wire, http: Http, path: str) -> None:
    with pytest.raises(Refused) as failure:
        get(http, path)

    assert not failure.value.may_have_run
    assert not wire.requests


def test_a_query_that_is_no_text_is_not_sent(wire: Wire, http: Http) -> None:
    with pytest.raises(Refused):
        get(http, query={"name": "\ud800"})

    assert not wire.requests


@pytest.mark.parametrize("value", ["a\r\nX: y", "caf\u00e9", "end ", "\x00"])
def test_a_secret_that_cannot_be_sent_is_hopeless_and_not_shown(
    wire: Wire, http: Http, value: str
) -> None:
    with pytest.raises(Hopeless, match="authorization") as failure:
        get(http, headers={"Authorization": value})

    assert failure.value.closes_target
    assert not failure.value.may_have_run
    assert value not in str(failure.value)
    assert not wire.requests


def test_nothing_is_sent_past_the_pace(wire: Wire) -> None:
    class Closed:
        def enter(self, until: Deadline) -> None:
            raise Transient("wait", wait=timedelta(seconds=9), may_have_run=False)

    given = HttpSettings(adapter="any", base_url=wire.url)
    http = Http(given, pace=Closed(), max_connections=1)

    with pytest.raises(Transient, match="wait"):
        get(http)

    assert wire.connections == 0


@pytest.mark.parametrize(
    ("link", "line"),
    [
        ("/base/next?start=2", b"GET /base/next?start=2 "),
        ("/next?start=2", b"GET /base/next?start=2 "),
        ("/basement", b"GET /base/basement "),
        ("http://127.0.0.1:{port}/other?x=1#part", b"GET /other?x=1 "),
        ("HTTP://127.0.0.1:{port}/other", b"GET /other "),
    ],
)
def test_a_link_to_the_same_origin_is_followed(wire: Wire, link: str, line: bytes) -> None:
    http = client(f"{wire.url}/base")

    get(http, http.link(link.format(port=wire.port)))

    assert wire.requests[0].startswith(line)
    http.close()


@pytest.mark.parametrize(
    "link",
    [
        "https://127.0.0.1:{port}/x",
        "http://127.0.0.1:1/x",
        "http://evil.example/x",
        "http://127.0.0.1:{port}@evil.example/x",
        "//evil.example/x",
        "http:///x",
        "/\r\nX: y",
        "/caf\u00e9",
        "next",
        "",
        "http://[",
        "http://127.0.0.1:99999/x",
        "javascript:x",
    ],
)
def test_a_link_to_elsewhere_is_not_followed(wire: Wire, link: str) -> None:
    http = client(f"{wire.url}/base")

    with pytest.raises(Transient, match="leads elsewhere"):
        http.link(link.format(port=wire.port))


def test_the_library_logs_nothing_of_a_request(
    wire: Wire, http: Http, caplog: pytest.LogCaptureFixture
) -> None:
    get(http)
    caplog.set_level(logging.DEBUG)
    for name in ("httpcore2", "httpcore2.http11", "httpcore2.connection"):
        logging.getLogger(name).disabled = False
        caplog.set_level(logging.DEBUG, logger=name)

    get(http, "/secret-path", headers={"authorization": "Bearer secret-token"})

    assert not [record for record in caplog.records if record.name.startswith("httpcore2")]


def test_the_library_logs_for_others_as_before(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="httpcore2.http11")

    logging.getLogger("httpcore2.http11").debug("of another client")

    assert "of another client" in caplog.text


def test_errors_show_scheme_host_and_route_alone(wire: Wire, http: Http) -> None:
    echo = uuid4().hex  # unlike anything in the lines that a traceback shows
    wire.answer = f"HTTP/1.1 200 OK\r\n{echo}\r\n\r\n".encode()

    with pytest.raises(CallFailed) as failure:
        get(http, "/secret", headers={"authorization": "secret"}, query={"q": "secret"})

    assert str(failure.value).startswith(f"{wire.url} list things: ")
    assert "secret" not in str(failure.value)
    assert echo not in "".join(traceback.format_exception(failure.value))
    assert "secret" not in repr(Request("GET", "/secret", "list", headers={"a": "secret"}))
