"""The shared pace, on a real server that several processes ask."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from api_adapters.base import Deadline
from api_adapters.errors import Paced
from worker.embedded.valkey import Valkey, find_server
from worker.errors import BadConfiguration
from worker.pace import LONGEST_HOLD, NoPace, SharedPace, rate_of, storage_url

#: Sends as fast as it is let for some seconds, and prints between which two
#: moments it got each place.
SEND = """
import sys, time
from datetime import timedelta
from api_adapters.base import Deadline
from api_adapters.errors import Paced
from worker.pace import SharedPace
def sleep(seconds):
    global before
    time.sleep(seconds)
    before = time.time()
pace = SharedPace("crm", float(sys.argv[2]), redis_url=sys.argv[1], sleep=sleep)
until = time.monotonic() + float(sys.argv[3])
while time.monotonic() < until:
    try:
        before = time.time()
        pace.enter(Deadline(timedelta(seconds=10)))
        print(before, time.time(), flush=True)
    except Paced as paced:
        time.sleep(min(paced.wait.total_seconds(), 0.2))
"""


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    """A server in a directory whose name needs quoting."""
    try:
        find_server()
    except BadConfiguration as missing:
        pytest.skip(str(missing))
    directory = Path(tempfile.mkdtemp(prefix="pace 100% ", dir="/tmp"))
    with Valkey(directory / "data") as url:
        yield url
    shutil.rmtree(directory)


def soon(seconds: float = 10) -> Deadline:
    return Deadline(timedelta(seconds=seconds))


def test_no_second_sees_more_than_it_may_over_all_processes(redis_url: str) -> None:
    command = [sys.executable, "-c", SEND, redis_url, "20", "2.2"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=30)[0].split() for process in started]

    spans = sorted(
        ((float(one[n]), float(one[n + 1])) for one in told for n in range(0, len(one), 2)),
        key=lambda span: span[1],
    )
    assert all(told), "both got a share"
    assert len(spans) >= 30, "the pace is used"
    for start in range(len(spans) - 20):
        window = spans[start : start + 21]
        # 21 places were taken no closer together than this.
        assert max(after for _, after in window) - min(before for before, _ in window) >= 1


def test_a_pace_below_one_a_second_gives_back_what_would_wait_long(redis_url: str) -> None:
    pace = SharedPace("slow", 0.5, redis_url=redis_url)
    pace.enter(soon())

    with pytest.raises(Paced) as paced:
        pace.enter(soon())

    assert timedelta(seconds=1.5) < paced.value.wait <= timedelta(seconds=2)
    assert not paced.value.may_have_run


def test_a_wait_of_less_than_a_second_is_waited_for(redis_url: str) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        time.sleep(seconds)

    pace = SharedPace("quick", 2, redis_url=redis_url, sleep=sleep)
    for _ in range(3):
        pace.enter(soon())

    assert 0 < sum(slept) <= LONGEST_HOLD


def test_the_whole_wait_is_bounded_however_many_wait(redis_url: str) -> None:
    slept: list[float] = []
    pace = SharedPace("crowded", 1, redis_url=redis_url)
    pace.enter(soon())
    # Somebody else is always quicker: this one's waits never free a place.
    other = SharedPace("crowded", 1, redis_url=redis_url, sleep=slept.append)

    with pytest.raises(Paced):
        other.enter(soon())

    assert sum(slept) <= LONGEST_HOLD


def test_no_wait_is_longer_than_the_call_may_take(redis_url: str) -> None:
    pace = SharedPace("late", 1, redis_url=redis_url)
    pace.enter(soon())

    with pytest.raises(Paced):
        pace.enter(soon(0.05))


def test_targets_do_not_share_a_pace(redis_url: str) -> None:
    for name in ("one", "two"):
        SharedPace(name, 0.01, redis_url=redis_url).enter(soon())


@pytest.mark.parametrize(
    "url",
    [
        "redis+socket:///nowhere/valkey.sock",
        "redis://127.0.0.1:1/0",
        "sentinel://127.0.0.1:1",
    ],
)
def test_nothing_is_sent_while_the_pace_cannot_be_checked(url: str) -> None:
    began = time.monotonic()

    with pytest.raises(Paced) as paced:
        SharedPace("crm", 20, redis_url=url).enter(soon())

    assert not paced.value.may_have_run
    assert time.monotonic() - began < 5


def test_a_server_that_comes_back_is_asked_again(tmp_path: Path) -> None:
    directory = Path(tempfile.mkdtemp(prefix="pace-", dir="/tmp"))
    try:
        with Valkey(directory) as url:
            pace = SharedPace("crm", 20, redis_url=url)
            pace.enter(soon())
        with pytest.raises(Paced):
            pace.enter(soon())
        with Valkey(directory):
            pace.enter(soon())
    finally:
        shutil.rmtree(directory)


@pytest.mark.parametrize(
    ("per_second", "shown"),
    [
        (20, "20 per 1 second"),
        (1, "1 per 1 second"),
        (33.3, "33 per 1 second"),
        (1.01, "1 per 1 second"),
        (0.5, "1 per 2 second"),
        (0.3, "1 per 4 second"),
        (1e-9, "1 per 86400 second"),
        (1e12, "10000 per 1 second"),
    ],
)
def test_a_pace_is_never_exceeded_within_a_second(per_second: float, shown: str) -> None:
    assert str(rate_of(per_second)) == shown


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis+socket:///run/a%20b.sock", "redis+unix:///run/a%20b.sock"),
        ("redis+socket:///run/x.sock?virtual_host=/2", "redis+unix:///run/x.sock?db=2"),
        ("redis://:secret@host:6379/1", "redis://:secret@host:6379/1"),
        ("rediss://host/0?ssl_cert_reqs=required", "rediss://host/0?ssl_cert_reqs=required"),
    ],
)
def test_a_broker_address_is_spelled_for_the_limiter(url: str, expected: str) -> None:
    assert storage_url(url) == expected


def test_a_target_without_a_pace_is_not_held() -> None:
    NoPace().enter(soon())
