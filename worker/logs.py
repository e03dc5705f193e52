"""One line for every log record, as text or as JSON, with its fields.

A field is what a record brings as `extra`, or what is bound to the thread that
writes it: `job`, `batch`, `target`, `lease`, `task`. A line break in what a
vendor or a sender said cannot begin another line.
"""

import json
import logging
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from structlog.processors import JSONRenderer, StackInfoRenderer, format_exc_info
from structlog.stdlib import ExtraAdder, ProcessorFormatter
from structlog.typing import EventDict, Processor

from worker.environment import LogFormat
from worker.fields import present

#: The fields by which records are looked for; in a line of text they come first.
_FIRST = ("job", "batch", "target", "lease")
_UNSHOWN = re.compile(r"[^ -~]")
_PLAIN = re.compile(r"[A-Za-z0-9_.:/@+-]+")
_TIMES = logging.Formatter()


def shape(handlers: Iterable[logging.Handler], form: LogFormat) -> None:
    """Let handlers write one line a record, in this form."""
    for handler in handlers:
        handler.setFormatter(formatter(form))


def begin(form: LogFormat) -> None:
    """Log to standard error, warnings too, for a process that has no logging of its own."""
    handler = logging.StreamHandler(sys.stderr)
    shape([handler], form)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)


def formatter(form: LogFormat) -> logging.Formatter:
    """What makes a line of a record."""
    last: list[Processor] = [_as_text]
    if form is LogFormat.JSON:
        last = [_say_where, ProcessorFormatter.remove_processors_meta, JSONRenderer()]
    return ProcessorFormatter(
        foreign_pre_chain=[
            _take_the_bound,
            ExtraAdder(),
            _name_the_task,
            StackInfoRenderer(),
            format_exc_info,
        ],
        processors=last,
    )


def _take_the_bound(_: object, __: str, event: EventDict) -> EventDict:
    """The fields that are bound to the thread; a record's own ones win."""
    return {**event, **present()}


def _name_the_task(_: object, __: str, event: EventDict) -> EventDict:
    """Celery's own records tell their task in a mapping, whose arguments are no fields."""
    match event.pop("data", None):
        case {"name": str(name), "id": str(task_id), **told}:
            event.update(task=name, task_id=task_id)
            match told.get("runtime"):
                case float() as seconds:
                    event["runtime_seconds"] = round(seconds, 6)
    return event


def _say_where(_: object, __: str, event: EventDict) -> EventDict:
    """When, how urgent, and by whom; then the event and its fields."""
    record: logging.LogRecord = event["_record"]
    place = {
        "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "process": record.processName,
        "pid": record.process,
        "event": event.pop("event"),
    }
    return {**place, **event}


def _as_text(_: object, __: str, event: EventDict) -> str:
    """A line as Celery writes it, and the fields behind it."""
    record: logging.LogRecord = event["_record"]
    place = f"[{_TIMES.formatTime(record)}: {record.levelname}/{record.processName}]"
    fields = {name: value for name, value in event.items() if name != "event" and name[0] != "_"}
    if "task_id" in fields:
        # Celery's words name it already.
        fields = {name: fields[name] for name in _FIRST if name in fields}
    return _one_line(" ".join([place, str(event["event"]), *_told(fields)]))


def _told(fields: Mapping[str, Any]) -> Iterable[str]:
    """The fields as words.

    >>> list(_told({"cause": "no answer", "job": "j1"}))
    ['job=j1', 'cause="no answer"']
    """
    for name in sorted(fields, key=lambda name: (name not in _FIRST, name)):
        text = str(fields[name])
        yield f"{name}={text if _PLAIN.fullmatch(text) else json.dumps(text)}"


def _one_line(text: str) -> str:
    r"""The text in printable ASCII.

    >>> _one_line("a\nb\u2028c")
    'a\\nb\\u2028c'
    """
    return _UNSHOWN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
