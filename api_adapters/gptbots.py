"""GPTBots: records of an agent's table, by record id or by a unique column.

request     POST {base_url}/v2/database/delete/record
            {"table_id", "delete_data": [{"record_id"} | {"filter"}, ...]}
answer      {"code": 0, "message": "OK"}
proves      nothing of any record: what was taken is `accepted`
batch       1000, documented
pace        undocumented for this call, about 100 a minute on its siblings:
            1 a second here, and one call at a time, since a filter takes
            several requests; 40008 means too many
missing id  taken like any other
repeat      safe by record id; a filter could meet another record, so it is
            turned into a record id by the read call first, which is remembered
            while the process lives and its deletion has no answer
find        POST {base_url}/v1/database/records/page, by filter or keyword, 100
            a page; there is no look at one record id
source      the vendor's page "Delete table data" and those of its siblings
check       one record of the table is read; it cannot show the right to delete
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, ClassVar, Literal

from pydantic import Field

from api_adapters.answer import Answer
from api_adapters.base import (
    Adapter,
    Checked,
    Deadline,
    Evidence,
    Finding,
    Item,
    Limits,
    Pace,
    Presence,
    Reply,
    Verdict,
)
from api_adapters.errors import BadQuery, CallFailed, Hopeless, Refused
from api_adapters.gptbots_answers import ACCEPTED, OPEN, is_logged_out, read_answer
from api_adapters.gptbots_items import Filter, fits, key_of, read_item, warn_of_both
from api_adapters.gptbots_pages import PAGE_SIZE, Page, read_page
from api_adapters.gptbots_work import Doubts, Work
from api_adapters.http import Http
from api_adapters.query import check_names, check_text
from api_adapters.request import Request, as_json
from api_adapters.settings import HttpSettings, Secret
from api_adapters.token import SharedToken

#: Codes and statuses of a read call that is denied, or that is not there.
_NO_READ_CALL = {"403131", "404", "405", "501"}


class GptbotsSettings(HttpSettings):
    """`base_url` is the endpoint of the data centre, without a path."""

    token: Secret
    table_id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    #: Whether an item given as a filter is looked at after the deletion too.
    verify: Literal["never", "filters"] = "never"
    max_items_per_call: int | None = Field(default=None, ge=1, le=1_000)


class Gptbots(Adapter):
    """Deletes records of one table."""

    Settings = GptbotsSettings
    #: A probe ends by itself at its deadline, and record ids cost it nothing.
    limits = Limits(
        max_items_per_call=1_000, max_in_flight=1, requests_per_second=1, max_items_per_probe=1_000
    )
    can_probe = True
    identity: ClassVar[tuple[str, ...]] = ("base_url", "table_id")

    def __init__(self, settings: GptbotsSettings, *, pace: Pace) -> None:
        self._settings = settings
        connections = settings.max_in_flight or self.limits.max_in_flight
        self._http = Http(settings, pace=pace, max_connections=connections)
        self._token = SharedToken(lambda until: settings.token.reveal())
        self._doubts = Doubts()

    def key(self, item: Item) -> str:
        """The record id itself, or the filter as JSON, which is no record id's form."""
        return key_of(read_item(item))

    def is_key_known(self, item: Item) -> bool:
        return isinstance(read_item(item), str)

    def delete(self, items: Mapping[str, Item], *, until: Deadline) -> Reply:
        work = Work(
            {key: read_item(item) for key, item in items.items()}, spare=until.seconds_left / 3
        )
        work.warnings = warn_of_both(items.values())
        self._look_up(work, until)
        if not work.must_rest and self._delete_by_id(work, until):
            self._delete_as_given(work, until)
            self._verify(work, until)
        self._doubts.heed(work)
        return work.end()

    def probe(self, items: Mapping[str, Item], *, until: Deadline) -> Mapping[str, Presence]:
        """Only filters can be looked at."""
        seen: dict[str, Presence] = {}
        for key, item in items.items():
            wanted = read_item(item)
            if isinstance(wanted, str):
                continue
            try:
                page = self._page(until, size=2, filter=wanted.document)
            except CallFailed:
                if seen:
                    break
                raise
            if page.is_unique(wanted.column):
                meant = self._doubts.of(key)
                is_gone = page.is_empty or (meant is not None and page.lacks(meant))
                seen[key] = Presence.GONE if is_gone else Presence.THERE
        return seen

    def check_query(self, query: Mapping[str, Any]) -> None:
        check_names(query, known=("filter", "keyword"))
        if not query:
            raise BadQuery("expected filter or keyword: an empty query is the whole table")
        if "keyword" in query:
            check_text(query["keyword"], name="keyword")
        if "filter" in query:
            columns = query["filter"]
            if not (isinstance(columns, dict) and columns and all(map(fits, columns.items()))):
                raise BadQuery(
                    'expected filter to be an object such as {"sku": "A-1"}, its values '
                    "texts or integers"
                )

    def find(self, query: Mapping[str, Any], *, until: Deadline) -> Iterator[Item]:
        self.check_query(query)
        return self._pages(query, until)

    def check(self, *, until: Deadline) -> Checked:
        self._page(until, size=1)
        return Checked(
            shown="the key is taken and the table can be read", not_shown="the right to delete"
        )

    def close(self) -> None:
        self._http.close()

    # -- delete ---------------------------------------------------------------

    def _look_up(self, work: Work, until: Deadline) -> None:
        """Turn filters into record ids, as many as there is time for."""
        for key, wanted in list(work.unsent.items()):
            if isinstance(wanted, str):
                work.ids[key] = wanted
                continue
            # Once the read call is denied it need not be asked again.
            if work.as_given:
                work.as_given[key] = wanted
                continue
            if work.error or (work.has_looked and until.seconds_left < 2 * work.spare):
                continue
            work.has_looked = True
            try:
                found = self._identify(key, wanted, until)
            except CallFailed as error:
                if isinstance(error, Hopeless) and error.code in _NO_READ_CALL:
                    work.as_given[key] = wanted
                else:
                    work.stop(error, key)
                continue
            if isinstance(found, str):
                work.ids[key], work.looked_up[key] = found, wanted
            else:
                work.settle(key, found)

    def _identify(self, key: str, wanted: Filter, until: Deadline) -> str | Finding:
        """The record id of a filter, or what became of it without one."""
        page = self._page(until, size=2, filter=wanted.document)
        if not page.is_unique(wanted.column):
            message = "the table does not call the filter's column unique"
            return Finding(Verdict.REJECTED, Evidence.PROBE, "column_not_unique", message)
        match page.records:
            case [] if page.is_empty:
                return Finding(Verdict.ABSENT, Evidence.PROBE)
            case [record] if page.total_count == 1 and record.is_like(*wanted):
                if self._doubts.of(key) in {None, record.id}:
                    return record.id
                message = "another record is there than the one whose deletion has no answer"
                return Finding(
                    Verdict.UNKNOWN, Evidence.NONE, "another_record", message, may_repeat=False
                )
        message = "the read call answers the filter with other or several records"
        return Finding(Verdict.FAILED, Evidence.PROBE, "filter_not_heeded", message)

    def _delete_by_id(self, work: Work, until: Deadline) -> bool:
        """Delete what has a record id; false where that failed."""
        if not work.ids:
            return True
        entries = [{"record_id": ident} for ident in dict.fromkeys(work.ids.values())]
        for key in work.ids:
            del work.unsent[key]
        try:
            reply = read_answer(self._send(entries, until), work.ids)
        except CallFailed as error:
            work.stop(error)
            return False
        work.findings |= reply.findings
        work.warnings += reply.warnings
        return True

    def _delete_as_given(self, work: Work, until: Deadline) -> None:
        """Send filters that cannot be looked up, each alone and never again."""
        for number, (key, wanted) in enumerate(work.as_given.items()):
            if number and until.seconds_left < work.spare:
                return
            try:
                answer = self._send([{"filter": wanted.document}], until)
                read_answer(answer, {})
            except CallFailed as error:
                if not error.may_have_run:
                    work.stop(error, key)
                    return
                verdict = Verdict.REJECTED if isinstance(error, Refused) else Verdict.UNKNOWN
                finding = Finding(
                    verdict, Evidence.NONE, error.code, error.message, may_repeat=False
                )
                work.settle(key, finding)
                if verdict is Verdict.UNKNOWN:
                    work.stop(error)
                    return
            else:
                work.settle(key, ACCEPTED)

    def _verify(self, work: Work, until: Deadline) -> None:
        """Look again at the filters whose records were seen and taken."""
        if self._settings.verify == "never":
            return
        taken = [
            key
            for key in work.looked_up
            if key in work.findings and work.findings[key].verdict is Verdict.ACCEPTED
        ]
        # Open until looked at: the next attempt looks again.
        work.findings |= dict.fromkeys(taken, OPEN)
        for key in taken:
            try:
                page = self._page(until, size=2, filter=work.looked_up[key].document)
            except CallFailed as error:
                if work.error is None:
                    work.stop(error)
                return
            if page.lacks(work.ids[key]):
                work.findings[key] = Finding(Verdict.DELETED, Evidence.PROBE)

    # -- requests -------------------------------------------------------------

    def _send(self, entries: list[dict[str, Any]], until: Deadline) -> Answer:
        body = as_json({"table_id": self._settings.table_id, "delete_data": entries})
        request = Request("POST", "/v2/database/delete/record", "delete records", content=body)
        return self._ask(self._http.send, request, until)

    def _page(self, until: Deadline, *, size: int, number: int = 1, **narrowing: object) -> Page:
        document = {
            "table_id": self._settings.table_id,
            "page": number,
            "page_size": size,
            **narrowing,
        }
        request = Request(
            "POST", "/v1/database/records/page", "read records", content=as_json(document)
        )
        return read_page(self._ask(self._http.look, request, until))

    def _pages(self, query: Mapping[str, Any], until: Deadline) -> Iterator[str]:
        """The ids of all pages."""
        before: list[str] = []
        for number in count(1):
            page = until.page(partial(self._listed, query, number, before, until))
            yield from (before := page.ids)
            if page.is_last(number):
                return

    def _listed(
        self, query: Mapping[str, Any], number: int, before: list[str], until: Deadline
    ) -> Page:
        """One page of the table, if it is what a page at this place can be."""
        page = self._page(until, size=PAGE_SIZE, number=number, **query)
        page.check_filter(query.get("filter", {}))
        page.check_place(number, before=before)
        return page

    def _ask(self, send: Callable[..., Answer], request: Request, until: Deadline) -> Answer:
        def ask(token: str) -> Answer:
            signed = replace(request, headers={"authorization": f"Bearer {token}"})
            return send(signed, until=until)

        return self._token.spend(ask, is_refused=is_logged_out, until=until)
