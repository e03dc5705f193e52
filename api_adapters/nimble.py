"""Nimble CRM: contacts, deleted by their ids.

request     DELETE {base_url}/api/v1/contact/{id},{id}  (the vendor's page says
            /contacts/, corrected to the singular minutes later, which a
            third-party live suite uses; delete_path is a setting)
answer      {"status": "ok", "data": {"ids": [id, ...]}}
proves      what was deleted, by name; what it does not name is looked at
batch       30 ids, as many as the sibling read call takes; no address is
            longer than 8,000 bytes: a call is parted into several requests
pace        no rate limit is published
missing id  left out of data.ids, or 404 with object_type and object_id
repeat      safe: ids are never used again
login       a key, or an OAuth token of about ten minutes, renewed ahead by
            POST {base_url}/api/oauth/token, whose new refresh token, if any,
            holds while the process lives; never in the query string
probe       GET .../contact?id={id},{id} or .../contact/{id},{id}, 30 at most:
            "resources" holds what exists; never by query, the index lags
find        GET .../contacts/ids, page by page; never DELETE .../contacts/list:
            `limit` is gone from the current specification and unknown
            parameters are ignored, so it could empty the account
source      the vendor's page "Contacts delete" and its correction; the current
            specification and its page on errors
check       GET .../contacts/ids?per_page=1; it cannot show the right to delete
            in bulk, nor that delete_path and probe fit the account
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count, islice
from typing import Any, ClassVar, Literal
from urllib.parse import quote, urlencode

from pydantic import Field, model_validator

from api_adapters.answer import Answer
from api_adapters.base import Adapter, Checked, Deadline, Item, Limits, Pace, Presence, Reply
from api_adapters.errors import BadItem, BadQuery, CallFailed, Hopeless, Refused, Transient
from api_adapters.http import Http
from api_adapters.nimble_answers import Told, is_logged_out, read_answer, read_page, read_probe
from api_adapters.oauth import Consent
from api_adapters.parting import cut_by_length, in_parts
from api_adapters.query import check_names, check_text, holds_a_value, read_limit
from api_adapters.request import Request, as_form
from api_adapters.settings import AccountName, HttpSettings, Secret, Settings, account_name
from api_adapters.token import Login, SharedToken

LONGEST_ADDRESS = 8_000
#: Room is left for the address and the paging.
LONGEST_QUERY = 6_000
IDS_A_PROBE = 30
IDS_A_PAGE = 100

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: What stands beside the ids in the vendor's routes: DELETE .../contacts/list
#: deletes by query, and without one everything.
_ROUTES = {"list", "ids", "fields", "metadata"}
_QUERY_NAMES = ("keyword", "query", "record_type", "limit")
_RECORD_TYPES = ("all", "person", "company")


class NimbleOAuth(Settings):
    """The application, and the consent that a user gave to it."""

    client_id: AccountName
    client_secret: Secret
    refresh_token: Secret

    def form(self, refresh_token: str) -> Mapping[str, str]:
        """What the token endpoint is asked with; reads the client's secret."""
        return {
            "grant_type": "refresh_token",
            "client_id": account_name(self.client_id),
            "client_secret": self.client_secret.reveal(),
            "refresh_token": refresh_token,
        }


class NimbleSettings(HttpSettings):
    """`base_url` has no /api/v1; a key in `token`, or `oauth`."""

    token: Secret | None = None
    oauth: NimbleOAuth | None = None
    delete_path: str = Field(
        default="/api/v1/contact/{ids}", pattern=r"^(/[A-Za-z0-9_.~-]+)+/\{ids\}$"
    )
    probe: Literal["query", "path"] = "query"

    @model_validator(mode="after")
    def _one_way_in(self) -> "NimbleSettings":
        if (self.token is None) == (self.oauth is None):
            raise ValueError("expected exactly one of token and oauth")
        return self


class Nimble(Adapter):
    """Deletes contacts of one account."""

    Settings = NimbleSettings
    limits = Limits(max_items_per_call=30, max_items_per_probe=IDS_A_PROBE)
    can_probe = True
    identity: ClassVar[tuple[str, ...]] = ("base_url", "delete_path")

    def __init__(self, settings: NimbleSettings, *, pace: Pace) -> None:
        self._settings = settings
        connections = settings.max_in_flight or self.limits.max_in_flight
        self._http = Http(settings, pace=pace, max_connections=connections)
        self._token = SharedToken(self._log_in)
        self._consent = Consent(settings.oauth.refresh_token) if settings.oauth else None

    def key(self, item: Item) -> str:
        """The id as it is: opaque, compared exactly, never re-cased.

        A whole number is the same id as its digits. Everything that would
        change the address is refused, and the names of the vendor's own routes.
        """
        is_number = isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 10**64
        ident = str(item) if is_number else item
        if not isinstance(ident, str) or not _ID.fullmatch(ident) or ident.lower() in _ROUTES:
            raise BadItem("expected a contact's id: 1 to 64 letters, digits, _ or -")
        return ident

    def delete(self, items: Mapping[str, Item], *, until: Deadline) -> Reply:
        prefix = self._settings.base_url + self._settings.delete_path
        parts = list(cut_by_length(items, most=LONGEST_ADDRESS - len(prefix)))
        return in_parts(parts, lambda part: self._delete(part, until))

    def probe(self, items: Mapping[str, Item], *, until: Deadline) -> Mapping[str, Presence]:
        return self._probe(list(items), until)

    def check_query(self, query: Mapping[str, Any]) -> None:
        _asked(query)

    def find(self, query: Mapping[str, Any], *, until: Deadline) -> Iterator[Item]:
        """The ids that match; `limit` is ours and never sent.

        Deleting shifts the pages: all are to be read before anything is deleted.
        """
        return islice(self._find(_asked(query), until), read_limit(query))

    def check(self, *, until: Deadline) -> Checked:
        answer = self._look("/api/v1/contacts/ids", "list ids", until, {"per_page": 1})
        try:
            read_page(answer, page=1)
        except BadQuery as error:
            raise Refused(f"{answer.place}: {error}", may_have_run=False) from error
        return Checked(
            shown="the account takes the login and lists its contacts",
            not_shown="the right to delete in bulk, and whether delete_path and probe fit",
        )

    def close(self) -> None:
        self._http.close()

    def _delete(self, keys: Sequence[str], until: Deadline) -> Reply:
        path = self._settings.delete_path.replace("{ids}", ",".join(keys))

        def send(token: str) -> Answer:
            request = Request("DELETE", path, "delete contacts", headers=_bearer(token))
            return self._http.send(request, until=until)

        answer = self._token.spend(send, is_refused=is_logged_out, until=until)
        return self._look_at(read_answer(answer, keys), until)

    def _look_at(self, told: Told, until: Deadline) -> Reply:
        """Look at what the answer leaves to a look.

        Here and not in the worker, which knows only that an answer is silent:
        what the vendor did not name and what is still there was denied.
        """
        findings = dict(told.reply.findings)
        unsent: set[str] = set()
        looked = list(told.to_look_at)
        for start in range(0, len(looked), IDS_A_PROBE):
            try:
                seen = self._probe(looked[start : start + IDS_A_PROBE], until)
            except CallFailed as error:
                failed = _after_the_deletion(error)
                return replace(
                    told.reply, findings=findings, unsent=frozenset(unsent), error=failed
                )
            for key, presence in seen.items():
                if presence is Presence.GONE:
                    findings[key] = told.gone(key)
                elif told.there is None:
                    unsent.add(key)
                else:
                    findings[key] = told.there
        return replace(told.reply, findings=findings, unsent=frozenset(unsent))

    def _probe(self, keys: Sequence[str], until: Deadline) -> Mapping[str, Presence]:
        path, joined = "/api/v1/contact", ",".join(keys)
        if self._settings.probe == "path":
            answer = self._look(f"{path}/{joined}", "read contacts", until)
        else:
            answer = self._look(path, "read contacts", until, {"id": joined})
        return read_probe(answer, keys)

    def _find(self, asked: Mapping[str, str], until: Deadline) -> Iterator[Item]:
        for page in count(1):
            ids, pages = until.page(partial(self._page, asked, page, until))
            yield from ids
            if page >= pages:
                return

    def _page(
        self, asked: Mapping[str, str], page: int, until: Deadline
    ) -> tuple[Sequence[str], int]:
        paging = {"page": page, "per_page": IDS_A_PAGE}
        answer = self._look("/api/v1/contacts/ids", "list ids", until, {**asked, **paging})
        return read_page(answer, page=page)

    def _look(
        self, path: str, route: str, until: Deadline, query: Mapping[str, str | int] | None = None
    ) -> Answer:
        def send(token: str) -> Answer:
            request = Request("GET", path, route, headers=_bearer(token), query=query or {})
            return self._http.look(request, until=until)

        return self._token.spend(send, is_refused=is_logged_out, until=until)

    def _log_in(self, until: Deadline) -> str | Login:
        oauth, consent = self._settings.oauth, self._consent
        if oauth is None or consent is None:
            return self._settings.token.reveal() if self._settings.token else ""

        def ask(refresh_token: str) -> Answer:
            content = as_form(oauth.form(refresh_token))
            request = Request("POST", "/api/oauth/token", "log in", content=content)
            return self._http.look(request, until=until)

        return consent.log_in(ask, change="oauth")


def _bearer(token: str) -> Mapping[str, str]:
    return {"authorization": f"Bearer {token}"}


def _after_the_deletion(error: CallFailed) -> CallFailed:
    """A look that failed, as told of ids that were sent before: they are in doubt."""
    match error:
        case Hopeless():
            error.may_have_run = True
            return error
        case Transient(wait=wait):
            return Transient(error.message, wait=wait, code=error.code)
    return Transient(error.message, code=error.code)


def _asked(query: Mapping[str, Any]) -> Mapping[str, str]:
    """The vendor's parameters. Its query language is its own: any object goes.

    Raises:
        BadQuery: it cannot be asked, or narrows nothing.
    """
    check_names(query, known=_QUERY_NAMES)
    read_limit(query)
    if ("keyword" in query) == ("query" in query):
        raise BadQuery("expected keyword or query, and not both: one narrows what is found")
    record_type = query.get("record_type", "all")
    if record_type not in _RECORD_TYPES:
        raise BadQuery(f"expected record_type to be one of {', '.join(_RECORD_TYPES)}")
    if "keyword" in query:
        check_text(query["keyword"], name="keyword")
        return _fitting({"keyword": query["keyword"], "record_type": record_type})
    # Whoever asked for persons would lose companies.
    if record_type != "all":
        raise BadQuery("the vendor ignores record_type beside query: say it within the query")
    return _fitting({"query": _as_text(query["query"])})


def _as_text(query: object) -> str:
    if not isinstance(query, dict) or not holds_a_value(query):
        raise BadQuery('expected query to be an object such as {"field": {"is": "value"}}')
    try:
        return json.dumps(query, separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        raise BadQuery("expected query to be plain JSON") from None


def _fitting(asked: Mapping[str, str]) -> Mapping[str, str]:
    if len(urlencode(asked, quote_via=quote)) > LONGEST_QUERY:
        raise BadQuery("the query is too long for an address: ask for less at a time")
    return asked
