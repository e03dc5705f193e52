"""SAS Viya Catalog: instances and agents, deleted by their URIs.

status      headed "Internal-Use Only" by the vendor: it may change unannounced
request     POST {base_url}/catalog/deletions
            {"version": 1, "type": "uri", "resources": [uri, ...]}
answer      a map from each resource, as it was sent, to {} or its error; 200
            if one was deleted, else their common status, or 400
proves      every resource by name
batch       no documented cap; 100 here
pace        no rate limit is published
missing id  its error has status 404, or {}: which one is not documented
repeat      safe: ids are UUIDs
login       a token, or POST {base_url}/SASLogon/oauth/token, renewed ahead
probe       HEAD on the resource: 404 once {base_url}/catalog/ has answered;
            the search index lags and is not asked
find        GET .../catalog/instances|bots?filter=..., following `next`
source      the vendor's page "Delete multiple objects based on a list of URIs"
check       a token and HEAD .../catalog/; it cannot show the right to delete an
            object, nor that the call, which is Internal-Use Only, is still there
"""

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from api_adapters.answer import Answer
from api_adapters.base import (
    Adapter,
    Checked,
    Deadline,
    Item,
    Limits,
    Pace,
    Presence,
    Reply,
)
from api_adapters.errors import BadItem, BadQuery, Transient
from api_adapters.http import Http
from api_adapters.oauth import read_login
from api_adapters.query import check_names, check_text, read_limit
from api_adapters.request import Link, Request, as_form, as_json
from api_adapters.sas_catalog_answers import (
    canonical,
    failure_of,
    is_logged_out,
    read_answer,
    read_page,
)
from api_adapters.settings import AccountName, HttpSettings, Secret, Settings, account_name
from api_adapters.token import Login, SharedToken

SELECTION = "application/vnd.sas.selection+json"
ITEMS_A_PAGE = 100

_URI = re.compile(r"/catalog/(instances|bots|locks)/[A-Za-z0-9_-]{1,64}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: Something that is compared, however deep: eq(type,'x'), isNull(name).
_COMPARISON = re.compile(r"[A-Za-z]+\(\s*[^()\s][^()]*\)")
_COLLECTIONS = ("instances", "bots")
_QUERY_NAMES = ("filter", "collection", "limit")


class SasOAuth(Settings):
    """A client, alone or on behalf of a user."""

    client_id: Annotated[str, Field(pattern=r"^[^:\x00-\x1f]+$")] | Secret
    client_secret: Secret
    username: AccountName | None = None
    password: Secret | None = None

    @model_validator(mode="after")
    def _a_user_is_both(self) -> "SasOAuth":
        if (self.username is None) != (self.password is None):
            raise ValueError("expected username and password, or neither")
        return self

    def form(self) -> Mapping[str, str]:
        """What the token endpoint is asked with; reads the password."""
        if self.username is None or self.password is None:
            return {"grant_type": "client_credentials"}
        password = self.password.reveal()
        return {
            "grant_type": "password",
            "username": account_name(self.username),
            "password": password,
        }

    def basic(self) -> str:
        """The header that the client shows itself with; reads its secret."""
        pair = f"{account_name(self.client_id)}:{self.client_secret.reveal()}"
        return "Basic " + b64encode(pair.encode()).decode("ascii")


class SasCatalogSettings(HttpSettings):
    """`base_url` is the server's, without /catalog; a token, or `oauth`."""

    token: Secret | None = None
    oauth: SasOAuth | None = None
    #: What an item that is a bare id stands for.
    template: Literal["/catalog/instances/{id}", "/catalog/bots/{id}", "/catalog/locks/{id}"] = (
        "/catalog/instances/{id}"
    )
    #: Locks are named by a newer revision of the vendor's page alone.
    allow_locks: bool = False

    @model_validator(mode="after")
    def _one_way_in(self) -> "SasCatalogSettings":
        if (self.token is None) == (self.oauth is None):
            raise ValueError("expected exactly one of token and oauth")
        if "locks" in self.template and not self.allow_locks:
            raise ValueError("expected allow_locks = true beside a template for locks")
        return self


class SasCatalog(Adapter):
    """Deletes objects of one catalog."""

    Settings = SasCatalogSettings
    # A probe is one request an item.
    limits = Limits(max_items_per_call=100, max_items_per_probe=25)
    can_probe = True
    identity: ClassVar[tuple[str, ...]] = ("base_url", "template", "allow_locks")

    def __init__(self, settings: SasCatalogSettings, *, pace: Pace) -> None:
        self._settings = settings
        connections = settings.max_in_flight or self.limits.max_in_flight
        self._http = Http(settings, pace=pace, max_connections=connections)
        self._token = SharedToken(self._log_in)

    def key(self, item: Item) -> str:
        """The relative URI, a UUID in it in lower case.

        So one object named twice, by its id and by its URI, is one item. Type
        and search index definitions are refused: the call does not take them.
        """
        if not isinstance(item, str):
            raise BadItem("expected a URI such as /catalog/instances/<id>, or an id")
        uri = self._settings.template.format(id=item) if _ID.fullmatch(item) else item
        match = _URI.fullmatch(uri)
        if match is None:
            raise BadItem("expected /catalog/instances/<id>, /catalog/bots/<id>, or an id")
        if match[1] == "locks" and not self._settings.allow_locks:
            raise BadItem("locks are deleted only where the target sets allow_locks = true")
        return canonical(uri)

    def delete(self, items: Mapping[str, Item], *, until: Deadline) -> Reply:
        # What an empty list means elsewhere is "all".
        if not items:
            return Reply()
        content = as_json({"version": 1, "type": "uri", "resources": list(items)}, type=SELECTION)

        def send(token: str) -> Answer:
            request = Request(
                "POST", "/catalog/deletions", "delete objects", _bearer(token), content=content
            )
            return self._http.send(request, until=until)

        answer = self._token.spend(send, is_refused=is_logged_out, until=until)
        return read_answer(answer, items)

    def probe(self, items: Mapping[str, Item], *, until: Deadline) -> Mapping[str, Presence]:
        """404 proves absence, 403 does not.

        A wrong address, or a gateway without its service, answers 404 to
        everything: one 404 counts only where the catalog itself answers. What
        was seen before a look failed is told, the rest left out.
        """
        seen: dict[str, Presence | None] = {}
        for key in items:
            try:
                presence = self._see(key, until)
                if presence is Presence.GONE and Presence.GONE not in seen.values():
                    self._knock(until)
            except Transient:
                if not seen:
                    raise
                break
            seen[key] = presence
        return {key: presence for key, presence in seen.items() if presence is not None}

    def check_query(self, query: Mapping[str, Any]) -> None:
        check_names(query, known=_QUERY_NAMES)
        read_limit(query)
        if query.get("collection", "instances") not in _COLLECTIONS:
            raise BadQuery(f"expected collection to be one of {', '.join(_COLLECTIONS)}")
        check_text(query.get("filter"), name="filter")
        if not _COMPARISON.search(query["filter"]):
            raise BadQuery("expected filter to compare something, such as eq(type,'x')")

    def find(self, query: Mapping[str, Any], *, until: Deadline) -> Iterator[Item]:
        """The URIs that match; `limit` is ours and never sent."""
        self.check_query(query)
        return islice(self._find(query, until), read_limit(query))

    def check(self, *, until: Deadline) -> Checked:
        self._knock(until)
        return Checked(
            shown="the catalog answers and takes the token",
            not_shown="the right to delete an object; the vendor heads the call "
            "Internal-Use Only, so it may change without notice",
        )

    def close(self) -> None:
        self._http.close()

    def _see(self, key: str, until: Deadline) -> Presence | None:
        answer = self._head(key, "look at an object", until)
        match answer.status:
            case 404 | 410:
                return Presence.GONE
            case 403:
                return None
            case status if status // 100 == 2:
                return Presence.THERE
        raise failure_of(answer, ())

    def _knock(self, until: Deadline) -> None:
        answer = self._head("/catalog/", "look at the catalog", until)
        if answer.status // 100 != 2:
            raise failure_of(answer, ())

    def _head(self, path: str, route: str, until: Deadline) -> Answer:
        answer = self._look("HEAD", path, route, until)
        if answer.status in {405, 501}:
            return self._look("GET", path, route, until)
        return answer

    def _find(self, query: Mapping[str, Any], until: Deadline) -> Iterator[Item]:
        path: str | Link = f"/catalog/{query.get('collection', 'instances')}"
        asked: Mapping[str, str | int] = {
            "filter": query["filter"],
            "start": 0,
            "limit": ITEMS_A_PAGE,
        }
        followed: set[str] = set()
        while True:
            uris, following = until.page(partial(self._page, path, asked, until))
            yield from uris
            if following is None:
                return
            path, asked = self._http.link(following), {}
            if path.target in followed or not uris:
                raise Transient("the pages of the list lead in a circle", may_have_run=False)
            followed.add(path.target)

    def _page(
        self, path: str | Link, asked: Mapping[str, str | int], until: Deadline
    ) -> tuple[list[str], str | None]:
        return read_page(self._look("GET", path, "list objects", until, asked))

    def _look(
        self,
        method: str,
        path: str | Link,
        route: str,
        until: Deadline,
        query: Mapping[str, str | int] | None = None,
    ) -> Answer:
        def send(token: str) -> Answer:
            request = Request(method, path, route, _bearer(token), query or {})
            return self._http.look(request, until=until)

        return self._token.spend(send, is_refused=is_logged_out, until=until)

    def _log_in(self, until: Deadline) -> str | Login:
        if self._settings.oauth is None:
            return self._settings.token.reveal() if self._settings.token else ""
        headers = {"authorization": self._settings.oauth.basic()}
        content = as_form(self._settings.oauth.form())
        request = Request("POST", "/SASLogon/oauth/token", "log in", headers, content=content)
        return read_login(self._http.look(request, until=until), change="oauth")


def _bearer(token: str) -> Mapping[str, str]:
    return {"authorization": f"Bearer {token}"}
