"""A record is one line with its fields, whatever stands in it."""

import io
import json
import logging
import re
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest

from worker.environment import LogFormat
from worker.fields import bound
from worker.logs import shape

Write = Callable[[LogFormat, Callable[[logging.Logger], object]], str]
HOSTILE = "a\r\n[2026-01-01 00:00:00,000: INFO/MainProcess] forged\x1b[31m\u2028\x85\u00e9"


@pytest.fixture
def write() -> Write:
    """What one logger writes in one form."""

    def write(form: LogFormat, log: Callable[[logging.Logger], object]) -> str:
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        shape([handler], form)
        logger = logging.Logger("deletions.test")  # noqa: LOG001 (no other test hears it)
        logger.addHandler(handler)
        log(logger)
        return stream.getvalue()

    return write


def as_json(write: Write, log: Callable[[logging.Logger], object]) -> dict[str, Any]:
    (line,) = write(LogFormat.JSON, log).splitlines()
    told = json.loads(line)
    assert isinstance(told, dict)
    return told


def test_text_shows_the_fields_behind_the_event(write: Write) -> None:
    extra = {"cause": "no answer", "target": "crm", "job": "j1", "lease": 7}
    line = write(LogFormat.TEXT, lambda log: log.warning("lease.lost", extra=extra))

    place = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}: WARNING/MainProcess\]"
    fields = r'job=j1 lease=7 target=crm cause="no answer"'
    assert re.fullmatch(rf"{place} lease\.lost {fields}\n", line), line


def test_json_has_the_fields_as_they_are(write: Write) -> None:
    extra = {"job": "j1", "batch": 0, "seconds": 0.5, "nothing": None}
    told = as_json(write, lambda log: log.info("call.ended", extra=extra))

    assert told["event"] == "call.ended"
    assert (told["job"], told["batch"], told["seconds"], told["nothing"]) == ("j1", 0, 0.5, None)
    assert (told["level"], told["logger"]) == ("info", "deletions.test")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", told["timestamp"])
    assert isinstance(told["pid"], int)


@pytest.mark.parametrize("form", LogFormat)
def test_nothing_that_is_said_begins_another_line(write: Write, form: LogFormat) -> None:
    def log(logger: logging.Logger) -> None:
        logger.info(HOSTILE)
        logger.info("said %s", HOSTILE, extra={"cause": HOSTILE, "n": [HOSTILE], "k": {HOSTILE: 1}})
        try:
            int(HOSTILE)
        except ValueError:
            logger.exception("broke")

    lines = write(form, log).split("\n")

    assert len(lines) == 4
    assert all(re.fullmatch(r"[ -~]*", line) for line in lines)
    assert "ValueError" in lines[2]
    assert "Traceback" in lines[2]


def test_json_keeps_what_was_said_whole(write: Write) -> None:
    told = as_json(write, lambda log: log.info("x", extra={"cause": HOSTILE}))

    assert told["cause"] == HOSTILE


def test_what_is_bound_is_told_by_whoever_logs_meanwhile(write: Write) -> None:
    def log(logger: logging.Logger) -> None:
        with bound(target="crm", lease=7), bound(job="j1", batch=3):
            logger.info("adapter.broke", extra={"batch": 4})

    told = as_json(write, log)
    assert (told["target"], told["lease"], told["job"]) == ("crm", 7, "j1")
    assert told["batch"] == 4, "the record's own field wins"


def test_what_is_bound_is_over_with_its_block_and_of_one_thread(write: Write) -> None:
    def log(logger: logging.Logger) -> None:
        with bound(job="j1"):
            thread = Thread(target=logger.info, args=("elsewhere",))
            thread.start()
            thread.join()
        logger.info("after")

    assert "j1" not in write(LogFormat.JSON, log)


def test_celerys_own_lines_name_the_task_and_none_of_its_arguments(write: Write) -> None:
    data = {
        "id": "t1",
        "name": "deletions.execute",
        "runtime": 0.25,
        "args": "()",
        "kwargs": "secret",
        "return_value": "secret",
    }
    text = "Task %(name)s[%(id)s] succeeded"

    def log(logger: logging.Logger) -> None:
        logger.info(text, data, extra={"data": data})

    told = as_json(write, log)
    assert told["event"] == "Task deletions.execute[t1] succeeded"
    assert (told["task"], told["task_id"]) == ("deletions.execute", "t1")
    assert told["runtime_seconds"] == 0.25
    assert "secret" not in json.dumps(told)
    assert write(LogFormat.TEXT, log).endswith("] Task deletions.execute[t1] succeeded\n")
