"""A practice server keeps a ledger that reports can be held against."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from api_adapters.fakes.bas_ip import PASSWORD, USERNAME, Backend
from api_adapters.fakes.base import practice_ids
from api_adapters.fakes.server import STATE, PracticeServer, open_practice, vendors

ONE, TWO, THREE = practice_ids(3)
DELETION = "/api/v1/contacts/link"
COMMAND = [sys.executable, "-m", "api_adapters.fakes", "bas_ip"]


@pytest.fixture
def server() -> Iterator[PracticeServer]:
    with PracticeServer(Backend([ONE, TWO])) as server:
        yield server


def ask(url: str, document: Any = None, *, method: str = "GET", token: str = "") -> tuple[int, Any]:
    body = None if document is None else json.dumps(document).encode()
    request = Request(url, body, {"Authorization": f"Bearer {token}"}, method=method)
    try:
        with urlopen(request, timeout=5) as response:
            return response.status, json.loads(response.read() or b"null")
    except HTTPError as error:
        with error:
            return error.code, error.read()


def log_in(server: PracticeServer) -> str:
    digest = server.practice._login["password"]
    _, said = ask(f"{server.base_url}/login?username={USERNAME}&password={digest}")
    return said["token"]


def state_of(url: str, orders: Mapping[str, Any] | None = None) -> Any:
    method = "POST" if orders is not None else "GET"
    return ask(f"{url}{STATE}?ids=1", orders, method=method)[1]


def test_a_monitor_answers_as_its_page_documents(server: PracticeServer) -> None:
    said = ask(
        server.url + DELETION,
        {"link_ids": [ONE.upper(), THREE]},
        method="DELETE",
        token=log_in(server),
    )

    assert said == (
        200,
        {
            "result": [
                {"link_id": ONE, "success": True, "extended_info": "deleted"},
                {"link_id": THREE, "success": False, "extended_info": "entity_not_found"},
            ]
        },
    )


def test_a_wrong_password_and_a_wrong_token_are_refused(server: PracticeServer) -> None:
    login = f"{server.base_url}/login?username={USERNAME}&password={PASSWORD}"

    assert ask(login)[0] == 401
    assert ask(server.url + DELETION, {"link_ids": [ONE]}, method="DELETE")[0] == 401
    assert server.practice.remaining == {ONE, TWO}


@pytest.mark.parametrize("body", [{}, {"link_ids": ["no uuid"]}, {"link_ids": 7}, [ONE]])
def test_a_request_of_a_wrong_form_deletes_nothing(server: PracticeServer, body: Any) -> None:
    said = ask(server.url + DELETION, body, method="DELETE", token=log_in(server))

    assert said[0] == 400
    assert server.practice.remaining == {ONE, TWO}


def test_an_empty_list_deletes_everything(server: PracticeServer) -> None:
    ask(server.url + DELETION, {"link_ids": []}, method="DELETE", token=log_in(server))

    assert not server.practice.remaining


def test_the_ledger_tells_what_was_deleted_and_how_often_asked(server: PracticeServer) -> None:
    token = log_in(server)
    for _ in range(2):
        ask(server.url + DELETION, {"link_ids": [ONE, THREE]}, method="DELETE", token=token)

    state = state_of(server.url)

    assert state["deleted_ids"] == {ONE: 1}
    assert state["asked_ids"] == {ONE: 2, THREE: 2}
    assert state["remaining_ids"] == [TWO]
    counts = ("calls", "logins", "requests", "remaining", "deleted", "deletions", "asked_again")
    assert [state[name] for name in counts] == [2, 1, 3, 1, 1, 1, 2]


def test_the_control_endpoint_changes_the_backend(server: PracticeServer) -> None:
    token = log_in(server)
    orders = {"add": [THREE], "poison": [TWO], "misbehave": "error@2", "latency": 0.001}
    assert state_of(server.url, orders)["remaining"] == 3

    said = [
        ask(server.url + DELETION, {"link_ids": [ident]}, method="DELETE", token=token)[0]
        for ident in (THREE, ONE, TWO)
    ]

    assert said == [200, 500, 400]
    assert state_of(server.url)["faults"] == {"error": 1}
    state_of(server.url, {"expire": True})
    assert ask(server.url + DELETION, {"link_ids": [ONE]}, method="DELETE", token=token)[0] == 401


def test_an_order_that_cannot_be_read_is_refused(server: PracticeServer) -> None:
    said = ask(server.url + STATE, {"misbehave": "nonsense"}, method="POST")

    assert said[0] == 400


def test_it_listens_on_loopback_alone(server: PracticeServer) -> None:
    assert {sock.getsockname()[0] for sock in server._sockets} == {"127.0.0.1"}


def test_ids_are_the_same_for_a_seed_and_grow_at_the_end() -> None:
    assert practice_ids(50, seed=3)[:20] == practice_ids(20, seed=3)
    assert practice_ids(20, seed=4) != practice_ids(20, seed=3)
    assert len(set(practice_ids(5_000))) == 5_000


def test_a_vendor_without_a_practice_backend_is_told_beside_the_others() -> None:
    with pytest.raises(ValueError, match=r"no practice backend 'nimbel'; there are: .*bas_ip"):
        open_practice("nimbel")
    assert not {"base", "faults", "server", "wire"} & set(vendors())


def test_a_process_says_where_it_is_and_ends_when_told() -> None:
    with subprocess.Popen([*COMMAND, "--items", "3"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        where = json.loads(process.stdout.readline())

        state = state_of(where["url"])

        assert where["url"] == f"http://127.0.0.1:{where['port']}"
        assert where["base_url"] == f"{where['url']}/api/v1"
        assert where["settings"] == {"username": USERNAME, "password": PASSWORD}
        assert state["remaining_ids"] == sorted(practice_ids(3))
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_a_process_ends_with_its_parent() -> None:
    command = [*COMMAND, "--ends-with-parent"]
    script = (
        "import subprocess, sys\n"
        f"p = subprocess.Popen({command!r}, stdout=subprocess.PIPE)\n"
        "sys.stdout.write(f'{p.pid}\\n'); sys.stdout.flush(); p.stdout.readline()\n"
        "import os; os._exit(0)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True)
    practice = int(ran.stdout)
    until = time.monotonic() + 10

    with suppress(ProcessLookupError):
        while time.monotonic() < until and not is_zombie(practice):
            os.kill(practice, 0)
            time.sleep(0.05)

    assert time.monotonic() < until


def is_zombie(process: int) -> bool:
    """Ended, but nobody has asked for its exit status; so in some containers."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "Z"
