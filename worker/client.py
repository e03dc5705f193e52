"""Hands deletions to the deletion worker, and reads what became of them.

    from worker.client import DeletionClient

    with DeletionClient() as client:
        job = client.submit("crm", ids)
        client.wait(job)
        kept = list(client.results(job, verdict="denied"))

One file that needs Celery and the standard library alone: an application that
has a module `worker` of its own copies it. It keeps no global and leaves the
application's own Celery alone, so it works in its tasks and threads.

ClientError
├── Refused    the service refused a request, with a code
├── NoAnswer   nothing came back in time: safe to repeat with the same job
└── NotEnded   `wait` had no more time; the job goes on
"""

import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import cached_property
from itertools import chain, islice
from json.encoder import encode_basestring_ascii
from threading import Lock, local
from typing import Any, NoReturn, Self, TypeVar, cast
from uuid import UUID, uuid4

from celery import Celery
from celery.app.backends import by_url
from kombu.exceptions import OperationalError

#: One thing to delete. None stands for what could not be read, and is rejected.
Item = str | int | dict[str, Any] | None

#: States in which a job has ended.
FINAL = frozenset({"completed", "cancelled", "stopped"})

_QUEUE = "deletions"
#: What goes into one message that is a whole job.
_MOST_ITEMS, _MOST_BYTES = 10_000, 2**20
#: The service reads no message over 4 MiB; a little of it is not items.
_ROOM_OF_A_MESSAGE = 4 * 2**20 - 4096
#: Chunks on their way at once; more of them would only lie in the broker.
_MOST_UNANSWERED = 4
_ROWS_OF_A_PAGE = 1_000
#: Items that are read before the first of them is sent.
_ITEMS_AT_ONCE = 1_000

#: Seconds until a request without an answer is sent again, or one that met a
#: store that was away.
_REPEAT_AFTER, _STORE_COMES_BACK_AFTER = 5.0, 1.0
#: Seconds between two looks for an answer, at first and at last.
_FIRST_PAUSE, _LAST_PAUSE = 0.002, 0.1
#: Seconds until an answer is looked for that nobody told of, and until answers
#: are to be told again where that failed.
_LONGEST_SILENCE, _DEAF_FOR = 0.25, 10.0
#: Answers that one thread listens for, and threads that do: the others look.
_MOST_LISTENED_FOR, _MOST_EARS = 24, 16


class ClientError(Exception):
    """The root of what this module raises on purpose."""


class Refused(ClientError):
    """The service refused a request; programs may rely on `code`."""

    def __init__(self, code: str, message: str, data: Mapping[str, Any]) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message = message
        self.data = data

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class NoAnswer(ClientError):
    """Nothing came back in time, and what was sent may still be done.

    Repeating the call with this `job` is safe; it is None where none was named.
    """

    def __init__(self, job: str | None) -> None:
        super().__init__(job)
        self.job = job

    def __str__(self) -> str:
        about = f" about job {self.job}" if self.job else ""
        return f"no answer{about} in time: is a worker running on this broker?"


class NotEnded(ClientError):
    """The job goes on; `status` is what was seen of it last."""

    def __init__(self, status: "JobStatus") -> None:
        super().__init__(status)
        self.status = status

    def __str__(self) -> str:
        return f"job {self.status.id} is {self.status.state}, {self.status.pending} items are open"


@dataclass(frozen=True, slots=True)
class JobStatus:
    """Where a job stands: the shape of `deletions status --json`."""

    id: str
    target: str
    state: str
    reason: str | None
    items: int | None
    duplicates: int
    pending: int
    #: How many items have each of the eight verdicts.
    tally: Mapping[str, int]
    batches: Mapping[str, int]
    requested_by: str | None
    parent: str | None
    children: Sequence[str]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    rate_per_second: float | None
    eta_seconds: float | None
    waiting_for: str | None

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.state in FINAL


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item; `verdict` is None while it is open."""

    position: int
    item: Item
    verdict: str | None
    evidence: str
    code: str | None
    message: str | None
    attempts: int
    decided_at: datetime | None


class DeletionClient:
    """Speaks to the service through its broker; threads may share one.

    Every call waits at most `timeout` for an answer and raises Refused or
    NoAnswer. The URLs come from DELETIONS_BROKER_URL and
    DELETIONS_RESULT_BACKEND_URL when left out; the second defaults to the first.
    """

    def __init__(
        self,
        broker_url: str | None = None,
        *,
        result_backend_url: str | None = None,
        timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        broker_url = broker_url or os.environ.get("DELETIONS_BROKER_URL")
        if not broker_url:
            raise ValueError("no broker is named: give broker_url or set DELETIONS_BROKER_URL")
        backend_url = result_backend_url or os.environ.get("DELETIONS_RESULT_BACKEND_URL")
        self._urls = (broker_url, backend_url or broker_url)
        self._timeout = timeout.total_seconds()
        self._line = _Line(*self._urls)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back every connection; a later call opens new ones."""
        self._line_of_this_process().close()

    def submit(
        self,
        target: str,
        items: Iterable[Item] | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        job: str | None = None,
        dry_run: bool = False,
        requested_by: str | None = None,
        notify: str | None = None,
    ) -> str:
        """Hand over items, or a query for them, and wait until they are kept; the job's id.

        An iterable of any length is streamed in constant memory. The same
        `job` with the same content is the same job, however often it is sent.

        Raises:
            TypeError, ValueError: something in it cannot be sent as JSON.
        """
        options = {"dry_run": dry_run, "requested_by": requested_by, "notify": notify}
        order = _Order.of({"job": _id(job), "target": target, **options}, items, query)
        if order.is_one_message:
            return str(self._talk(order.job).ask(order.whole())["job"])
        return self._stream(order, is_named=job is not None)

    def post(
        self,
        target: str,
        items: Iterable[Item] | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        job: str | None = None,
        dry_run: bool = False,
        requested_by: str | None = None,
        notify: str | None = None,
    ) -> str:
        """Publish a request and return before anybody has read it; the job's id.

        For web requests and hooks after a commit. A refusal is not heard of:
        `status` then knows no such job. More than one message, that is 10,000
        items or 1 MiB, waits as `submit` does, because a chunk of which nobody
        hears is a chunk that nobody repeats.

        Raises:
            NoAnswer: the broker cannot be reached.
            TypeError, ValueError: something in it cannot be sent as JSON.
        """
        options = {"dry_run": dry_run, "requested_by": requested_by, "notify": notify}
        order = _Order.of({"job": _id(job), "target": target, **options}, items, query)
        if not order.is_one_message:
            return self._stream(order, is_named=job is not None)
        self._talk(order.job).tell(order.whole())
        return order.job

    def status(self, job: str) -> JobStatus:
        """Where a job stands."""
        return _read(JobStatus, self._ask_about("status", job))

    def wait(
        self,
        job: str,
        *,
        timeout: timedelta | None = None,
        progress: Callable[[JobStatus], object] | None = None,
        interval: timedelta = timedelta(seconds=1),
    ) -> JobStatus:
        """Look every `interval` until a job has ended; `progress` is called with what was seen.

        The first looks come sooner, since a small job does not take a second.

        Raises:
            NotEnded: `timeout` is over.
        """
        until = None if timeout is None else time.monotonic() + timeout.total_seconds()
        pause = min(0.05, interval.total_seconds())
        while True:
            status = self.status(job)
            if progress is not None:
                progress(status)
            if status.is_final:
                return status
            if until is not None and time.monotonic() + pause > until:
                raise NotEnded(status)
            time.sleep(pause)
            pause = min(pause * 1.5, interval.total_seconds())

    def results(self, job: str, verdict: str | None = None) -> Iterator[Outcome]:
        """The outcomes of a job by position; pages are fetched as they are read."""
        after: int | None = None
        while True:
            wanted = {"job": job, "verdict": verdict, "after": after, "limit": _ROWS_OF_A_PAGE}
            page = self._talk(job).ask(_Request.of("results", wanted))
            yield from (_read(Outcome, row) for row in page["rows"])
            after = page["next"]
            if after is None:
                return

    def item(self, target: str, item: Item) -> dict[str, Any]:
        """What happened to an item, newest job first: the shape of `deletions item --json`."""
        request = _Request.of("item", {"target": target, "item": item})
        history: dict[str, Any] = self._talk(None).ask(request)
        return history

    def pause(self, job: str) -> JobStatus:
        """Begin no further batch of a job."""
        return _read(JobStatus, self._ask_about("pause", job))

    def resume(self, job: str) -> JobStatus:
        """Let a paused job go on."""
        return _read(JobStatus, self._ask_about("resume", job))

    def cancel(self, job: str) -> JobStatus:
        """End a job; what was not sent is skipped."""
        return _read(JobStatus, self._ask_about("cancel", job))

    def retry(self, job: str) -> str:
        """Make a job of what is failed, unknown, denied or skipped in this one; its id."""
        return str(self._ask_about("retry", job)["job"])

    def _stream(self, order: "_Order", *, is_named: bool) -> str:
        """Send a job in chunks, a few of them unanswered at a time."""
        talk = self._talk(order.job)
        talk.ask(order.open())
        try:
            count = 0
            for count, chunk in enumerate(order.chunks(), start=1):
                talk.listen(unanswered=_MOST_UNANSWERED - 1)
                talk.send(_Request.of("append", {"job": order.job, "chunk": count - 1}, chunk))
            talk.listen()
            sealed = talk.ask(_Request.of("seal", {"job": order.job, "chunks": count}))
        except NoAnswer:
            raise
        except BaseException:
            # Nothing is deleted before the seal. A job whose id nobody else
            # knows would only stay open until it is given up.
            if not is_named:
                with suppress(ClientError):
                    talk.tell(_Request.of("cancel", {"job": order.job}))
            raise
        if sealed["missing"]:
            raise Refused("chunks_missing", f"job {order.job} lacks chunks", sealed)
        return order.job

    def _ask_about(self, task: str, job: str) -> Any:
        return self._talk(job).ask(_Request.of(task, {"job": job}))

    def _talk(self, job: str | None) -> "_Talk":
        return _Talk(self._line_of_this_process(), job=job, timeout=self._timeout)

    def _line_of_this_process(self) -> "_Line":
        """Connections are not shared with a process that forked this one."""
        if self._line.pid != os.getpid():
            self._line = _Line(*self._urls)
        return self._line


@dataclass(frozen=True, slots=True)
class _Request:
    """A message of one public task."""

    task: str
    #: All that anybody but the service is shown of the arguments.
    shown: str
    body: str
    id: str

    @classmethod
    def of(
        cls, task: str, arguments: Mapping[str, Any], items: Sequence[str] | None = None
    ) -> "_Request":
        """Encode a request; its items are JSON already."""
        text = _encode(arguments)
        named = [name for name in ("job", "target", "chunk", "chunks") if name in arguments]
        shown = [f"{name}={arguments[name]!r}" for name in named]
        if items is not None:
            text = f'{text[:-1]}, "items": [{",".join(items)}]}}'
            shown.append(f"items={len(items)}")
        body = f"[[], {text}, {{}}]"
        return cls(f"deletions.{task}", " ".join(shown), body, str(uuid4()))


@dataclass(frozen=True, slots=True)
class _Order:
    """A job that is asked for: a query, or items as JSON."""

    arguments: Mapping[str, Any]
    first: Sequence[str] | None
    #: None if nothing comes after `first`.
    rest: Iterator[str] | None

    @classmethod
    def of(
        cls,
        arguments: Mapping[str, Any],
        items: Iterable[Item] | None,
        query: Mapping[str, Any] | None,
    ) -> "_Order":
        """Read as many items as one message holds."""
        if (items is None) == (query is None):
            raise ValueError("expected items or a query, and not both")
        if items is None:
            return cls({**arguments, "query": query}, None, None)
        texts = chain.from_iterable(_lots(items))
        first, size = [], 0
        for text in texts:
            first.append(text)
            size += len(text)
            if len(first) > _MOST_ITEMS or size > _MOST_BYTES:
                return cls(arguments, first, texts)
        return cls(arguments, first, None)

    @property
    def job(self) -> str:
        return str(self.arguments["job"])

    @property
    def is_one_message(self) -> bool:
        return self.rest is None

    def whole(self) -> _Request:
        return _Request.of("submit", self.arguments, self.first)

    def open(self) -> _Request:
        return _Request.of("open", {**self.arguments, "chunk_items": self._chunk_items})

    def chunks(self) -> Iterator[list[str]]:
        """Every chunk but the last holds the same number. Raises Refused: `too_large`."""
        texts, most = chain(self.first or (), self.rest or ()), self._chunk_items
        while chunk := self._chunk(islice(texts, most), most):
            yield chunk

    @staticmethod
    def _chunk(texts: Iterator[str], most: int) -> list[str]:
        chunk, room = [], _ROOM_OF_A_MESSAGE
        while some := list(islice(texts, _ITEMS_AT_ONCE)):
            room -= sum(map(len, some)) + len(some)
            if room < 0:
                raise Refused(
                    "too_large",
                    f"{most} items are more than a message holds, since these are "
                    "far larger than those before them: give the large ones first",
                    {"limit": _ROOM_OF_A_MESSAGE},
                )
            chunk += some
        return chunk

    @property
    def _chunk_items(self) -> int:
        """How many items every chunk holds, told before the later ones are known.

        So many of the first items' size fill half a MiB, which leaves room for
        later ones that are eight times as large in the 4 MiB of a message, and
        is 10,000 for ids of up to 50 bytes. 40 fit whatever they are: an item is
        at most 16 KiB, and six times that when its letters are written as
        ASCII. Equal items give an equal number, so that a job can be sent again.
        """
        first = self.first or [""]
        size = max(sum(map(len, first)), 1)
        return min(_MOST_ITEMS, max(40, len(first) * _MOST_BYTES // (2 * size)))


class _Talk:
    """Requests and their answers; one that has none yet is sent again and again."""

    def __init__(self, line: "_Line", *, job: str | None, timeout: float) -> None:
        self._line = line
        self._job = job
        self._timeout = timeout
        self._waiting: dict[str, _Request] = {}
        self._send_at: dict[str, float] = {}
        self._trouble: Exception | None = None

    def ask(self, request: _Request) -> Any:
        """Send a request and wait for its answer."""
        self.send(request)
        return self.listen()

    def tell(self, request: _Request) -> None:
        """Publish a request of which no answer is wanted, nor kept. Raises NoAnswer."""
        until = time.monotonic() + self._timeout
        while not self._is_published(request, ignore_result=True):
            if time.monotonic() > until:
                raise NoAnswer(self._job) from self._trouble
            time.sleep(_LAST_PAUSE)

    def send(self, request: _Request) -> None:
        """Send a request, and remember it until it is answered."""
        self._line.expect(request.id)
        self._waiting[request.id] = request
        self._send_at[request.id] = 0
        self._send_what_is_due()

    def listen(self, *, unanswered: int = 0) -> Any:
        """Wait until no more requests than that have no answer; the last answer that came."""
        answer = None
        heard_at, pause = time.monotonic(), _FIRST_PAUSE
        while len(self._waiting) > unanswered:
            left = max(0.0, heard_at + self._timeout - time.monotonic())
            if answers := self._hear(pause, left):
                answer = answers[-1]
                heard_at, pause = time.monotonic(), _FIRST_PAUSE
                continue
            if time.monotonic() - heard_at > self._timeout:
                self._give_up()
            self._send_what_is_due()
            pause = min(pause * 1.2, _LAST_PAUSE)
        return answer

    def _send_what_is_due(self) -> None:
        for id_, request in self._waiting.items():
            is_due = time.monotonic() >= self._send_at[id_]
            if is_due and self._is_published(request, ignore_result=False):
                self._send_at[id_] = time.monotonic() + _REPEAT_AFTER

    def _is_published(self, request: _Request, *, ignore_result: bool) -> bool:
        """Publish a request; whether the broker took it."""
        try:
            self._line.publish(request, ignore_result=ignore_result)
        except self._line.errors as error:
            self._trouble = error
            return False
        return True

    def _hear(self, pause: float, left: float) -> list[Any]:
        """The answers that come, looked for every `pause` where none is told. Raises Refused."""
        try:
            answers = self._line.hear(list(self._waiting), pause=pause, left=left)
        except TimeoutError:
            # Of the application's own: the Redis client's is another one.
            raise
        except self._line.errors as error:
            self._trouble = error
            return []
        accepted = []
        for id_, answer in answers.items():
            refusal = _refusal(answer)
            if refusal is not None and refusal.code in {"store_unavailable", "failed"}:
                self._trouble = refusal
                self._send_at[id_] = time.monotonic() + _STORE_COMES_BACK_AFTER
                continue
            if refusal is not None:
                raise refusal
            del self._waiting[id_], self._send_at[id_]
            accepted.append(answer["result"])
        return accepted

    def _give_up(self) -> NoReturn:
        # What failed may have been done all the same: that is no refusal.
        if isinstance(self._trouble, Refused) and self._trouble.code != "failed":
            raise self._trouble
        raise NoAnswer(self._job) from self._trouble


class _Ear:
    """What one thread is told of answers: each is announced as it is kept, by its key.

    That spares looking for it. What is announced while the connection is broken
    is not heard.
    """

    def __init__(self, client: Any) -> None:
        self._line = client.pubsub(ignore_subscribe_messages=True)
        #: What is listened for, the oldest first: the last of it may still come.
        self._keys: list[str] = []
        #: Answers that came while others were waited for.
        self._kept: dict[str, bytes] = {}

    def expect(self, key: str) -> None:
        """Listen for an answer. Raises what the Redis client does."""
        if len(self._keys) >= _MOST_LISTENED_FOR:
            old = self._keys[: _MOST_LISTENED_FOR // 2]
            self._line.unsubscribe(*old)
            self._keys = self._keys[len(old) :]
            self._kept = {key: text for key, text in self._kept.items() if key not in old}
        self._line.subscribe(key)
        self._keys.append(key)

    def listens_for(self, keys: Iterable[str]) -> bool:
        """Whether all of these answers are told."""
        return set(keys) <= set(self._keys)

    def hear(self, keys: Collection[str], seconds: float) -> dict[str, bytes]:
        """One of these answers by its key, as its text; none if none comes in time."""
        until = time.monotonic() + seconds
        while True:
            for key in keys:
                if key in self._kept:
                    return {key: self._kept.pop(key)}
            left = until - time.monotonic()
            if left <= 0:
                return {}
            if message := self._line.get_message(timeout=left):
                self._kept[message["channel"].decode()] = message["data"]

    def close(self) -> None:
        """Give the connection back."""
        self._line.close()


class _Line:
    """The connections of one process to broker and result backend, made when needed.

    The application's pools are not used: kombu shares them by URL, so that
    their limit would be ours and closing ours would close theirs. Nor is
    `send_task`, which goes through those pools and takes CELERY_BROKER_URL
    before the URL that it was given, nor a producer, which makes bytes of a
    body that is text.
    """

    def __init__(self, broker_url: str, backend_url: str) -> None:
        self.pid = os.getpid()
        self._broker_url = broker_url
        self._lock = Lock()
        self._connection: Any = None
        self._channel: Any = None
        #: By thread: what is told of its answers, and until when it does without.
        self._ears = local()
        # No fixups: Django's would enter the working directory into sys.path.
        self._app = Celery(
            "deletions.client",
            set_as_current=False,
            loader="celery.loaders.app:AppLoader",
            fixups=[],
        )
        # Bounded sockets: without that a half-open connection hangs for ever.
        # A body is JSON and travels as it is: base64 makes it a third longer,
        # and was decoded twice.
        self._app.conf.update(
            broker_transport_options={
                "socket_timeout": 5,
                "socket_connect_timeout": 3,
                "body_encoding": "utf-8",
            },
            redis_socket_timeout=5,
            redis_socket_connect_timeout=3,
            redis_backend_health_check_interval=10,
        )
        kind, url = by_url(backend_url, loader=self._app.loader)
        self._backend = kind(app=self._app, url=url)
        connection = self._app.connection_for_write(broker_url)
        self.errors: tuple[type[Exception], ...] = (
            OperationalError,
            *connection.connection_errors,
            *connection.channel_errors,
            *self._backend.connection_errors,
            *self._backend.channel_errors,
        )

    def publish(self, request: _Request, *, ignore_result: bool) -> None:
        """Publish a request once. Raises one of `errors`."""
        headers, properties, _, _ = self._app.amqp.create_task_message(
            request.id,
            request.task,
            argsrepr="()",
            kwargsrepr=request.shown,
            ignore_result=ignore_result,
        )
        with self._lock:
            try:
                channel = self._open_channel()
                message = channel.prepare_message(
                    request.body,
                    content_type="application/json",
                    content_encoding="utf-8",
                    headers=headers,
                    properties=properties,
                )
                channel.basic_publish(message, exchange="", routing_key=_QUEUE)
            except self.errors:
                self._hang_up()
                raise

    def expect(self, id_: str) -> None:
        """Have the answer to a request that is sent next told as soon as it is there."""
        mine = self._ears.__dict__
        if time.monotonic() < mine.get("deaf_until", 0):
            return
        try:
            if "own" not in mine:
                mine["own"] = _Ear(self._ear_client)
            mine["own"].expect(self._key(id_))
        except self.errors:
            self._drop_ear(deaf_for=_DEAF_FOR)

    def hear(self, ids: Sequence[str], *, pause: float, left: float) -> dict[str, Any]:
        """The answers that come, which are then forgotten. Raises one of `errors`.

        Of those that are told nobody has to look; where nobody tells, they are
        looked for after a pause. It takes no longer than what is `left`, in seconds.
        """
        keys = {self._key(id_): id_ for id_ in ids}
        found: Mapping[str, bytes | None] = {}
        ear: _Ear | None = self._ears.__dict__.get("own")
        is_told = ear is not None and ear.listens_for(keys)
        if ear is not None and is_told:
            try:
                found = ear.hear(keys, min(_LONGEST_SILENCE, left))
            except self.errors:
                self._drop_ear(deaf_for=_DEAF_FOR)
                is_told = False
        if not is_told:
            time.sleep(min(pause, left))
        if not found:
            found = dict(zip(keys, self._backend.mget(list(keys)), strict=True))
            if is_told and any(found.values()):
                # The connection may be lost without a word.
                self._drop_ear()
        return {keys[key]: self._read(key, text) for key, text in found.items() if text is not None}

    def _read(self, key: str, text: bytes) -> Any:
        """An answer as plain JSON, and drop it.

        Celery's reader would make something else of an item that has a `__type__`.
        """
        self._backend.delete(key)
        return json.loads(text)

    def _key(self, id_: str) -> str:
        key = self._backend.get_key_for_task(id_)
        return key.decode() if isinstance(key, bytes) else str(key)

    def _drop_ear(self, *, deaf_for: float = 0) -> None:
        """Listen anew, or not for a while: it may be forbidden, or the server away."""
        mine = self._ears.__dict__
        mine["deaf_until"] = time.monotonic() + deaf_for
        ear = mine.pop("own", None)
        if ear is not None:
            with suppress(*self.errors):
                ear.close()

    @cached_property
    def _ear_client(self) -> Any:
        """A client of few connections of its own: a thread keeps one for as long as it lives."""
        client = self._backend.client
        pool = client.connection_pool
        try:
            few = type(pool)(
                connection_class=pool.connection_class,
                max_connections=_MOST_EARS,
                **pool.connection_kwargs,
            )
        except TypeError:
            # A pool of another kind, say Sentinel's.
            return client
        return type(client)(connection_pool=few)

    def close(self) -> None:
        """Give back every connection."""
        with self._lock:
            self._hang_up()
        for client in (self._ear_client, self._backend.client):
            client.close()
            client.connection_pool.disconnect()

    def _open_channel(self) -> Any:
        if self._channel is None:
            connection = self._app.connection_for_write(self._broker_url)
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
            self._channel = connection.channel()
            self._connection = connection
        return self._channel

    def _hang_up(self) -> None:
        if self._channel is not None:
            self._connection.release()
            self._channel = None


Kind = TypeVar("Kind")

_encode = json.JSONEncoder(allow_nan=False).encode


def _id(job: str | None) -> str:
    return str(UUID(str(job))) if job is not None else str(uuid4())


def _lots(items: Iterable[Item]) -> Iterator[Iterable[str]]:
    """Every item as JSON in ASCII, which carries lone surrogates too, some at a time."""
    if isinstance(items, str | bytes | Mapping):
        raise TypeError(f"expected an iterable of items, found one {type(items).__name__}")
    position, rest = 0, iter(items)
    while some := list(islice(rest, _ITEMS_AT_ONCE)):
        kinds = set(map(type, some))
        # What most items are; one by one they take five times as long.
        if kinds == {str}:
            yield map(encode_basestring_ascii, cast("list[str]", some))
        elif kinds == {int}:
            yield _texts_of_integers(some, position)
        else:
            yield _texts_of_any(some, position)
        position += len(some)


def _texts_of_integers(items: Sequence[Item], position: int) -> Iterable[str]:
    """Integers as JSON, but for those with more digits than Python writes."""
    try:
        return list(map(str, items))
    except ValueError:
        return _texts_of_any(items, position)


def _texts_of_any(items: Iterable[Item], position: int) -> Iterator[str]:
    """Some items as JSON, the first of which has this position."""
    for at, item in enumerate(items, position):
        try:
            text = _text_of(item)
        except (TypeError, ValueError, RecursionError) as error:
            message = f"the item at position {at} cannot be sent as JSON: {error}"
            raise ValueError(message) from None
        yield text


def _text_of(item: Item) -> str:
    """An item as JSON. Raises TypeError, ValueError, RecursionError."""
    if isinstance(item, dict) and not _has_text_keys(item):
        raise TypeError("the keys of an object have to be texts")
    return _encode(item)


def _has_text_keys(value: Any) -> bool:
    """Whether JSON would carry the keys of all objects in it as they are."""
    match value:
        case dict():
            return all(isinstance(key, str) for key in value) and all(
                map(_has_text_keys, value.values())
            )
        case list() | tuple():
            return all(map(_has_text_keys, value))
    return True


def _refusal(answer: Mapping[str, Any]) -> Refused | None:
    """What an answer refuses; why a task has failed, its worker logs."""
    result = answer["result"]
    if answer["status"] != "SUCCESS":
        return Refused("failed", f"the service could not answer: {result.get('exc_type')}", {})
    if "error" in result:
        return Refused(**result["error"])
    return None


def _read(kind: type[Kind], given: Mapping[str, Any]) -> Kind:
    """A value of ours from JSON; what a newer service adds is left out."""
    values = {field.name: given[field.name] for field in fields(kind)}  # type: ignore[arg-type]
    for name, value in values.items():
        if name.endswith("_at") and value is not None:
            values[name] = datetime.fromisoformat(value)
    return kind(**values)
