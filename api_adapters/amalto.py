"""Amalto Platform 6 (formerly b2box): items of a service, by `appKey` and `name`.

request     POST {base_url}/apis/v2/{service_id}/{items_name}/delete
            [{"appKey", "name"}, ...]
answer      {"processed": n, "errors": {"appKey.name": {"status", ...}}}
proves      what `errors` names; the others together, where `processed` is
            the number that was sent
batch       no documented cap; 100 here
pace        no documented limit
missing id  an error of status 404
repeat      safe: an item deleted before answers 404
login       a JWT in the Authorization header, its form a setting
source      the vendor's page "Delete items"; the header as a third-party
            client sends it
check       a look at an item that nobody has; it cannot show the right to
            delete, nor that service_id and items_name fit
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import ClassVar, Literal
from urllib.parse import quote

from pydantic import Field, model_validator

from api_adapters.amalto_answers import Name, is_logged_out, read_answer, read_presence
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
    Warned,
)
from api_adapters.errors import BadItem, CallFailed, Hopeless
from api_adapters.http import Http
from api_adapters.request import Request, as_json
from api_adapters.settings import HttpSettings, Secret
from api_adapters.token import SharedToken

LONGEST_KEY = 1024
_SEGMENT = r"^[A-Za-z0-9_~-][A-Za-z0-9_.~-]*$"

_OPEN = Finding(Verdict.UNKNOWN, Evidence.NONE)


class AmaltoSettings(HttpSettings):
    """`base_url` is the instance, without /apis/v2."""

    token: Secret
    service_id: str = Field(pattern=_SEGMENT)
    items_name: str = Field(pattern=_SEGMENT)
    #: The documentation knows two forms of the look at one item.
    probe: Literal["query", "path"] = "query"
    #: The last word of the look's route; `items_name` where it is left out.
    item_name: str | None = Field(default=None, pattern=_SEGMENT)
    authorization: str = Field(default="Bearer <jwt>", pattern=r"^[ -~]*<jwt>[ -~]*$")

    @model_validator(mode="after")
    def _path_needs_a_name(self) -> "AmaltoSettings":
        if self.probe == "path" and self.item_name is None:
            raise ValueError('expected item_name beside probe = "path"')
        return self


class Amalto(Adapter):
    """Deletes items of one kind of one service."""

    Settings = AmaltoSettings
    limits = Limits(max_items_per_call=100, max_items_per_probe=20)
    can_probe = True
    identity: ClassVar[tuple[str, ...]] = ("base_url", "service_id", "items_name")

    def __init__(self, settings: AmaltoSettings, *, pace: Pace) -> None:
        self._settings = settings
        connections = settings.max_in_flight or self.limits.max_in_flight
        self._http = Http(settings, pace=pace, max_connections=connections)
        self._token = SharedToken(lambda until: settings.token.reveal())

    def key(self, item: Item) -> str:
        """Both parts as JSON: joined by a dot, two items could be one."""
        name = name_of(item)
        key = json.dumps(_identifier(name), ensure_ascii=False, separators=(",", ":"))
        try:
            length = len(key.encode())
        except UnicodeEncodeError:
            raise BadItem("appKey and name must be Unicode text; a surrogate is half") from None
        if length > LONGEST_KEY:
            raise BadItem(f"appKey and name are longer than {LONGEST_KEY} bytes together")
        return key

    def delete(self, items: Mapping[str, Item], *, until: Deadline) -> Reply:
        parts = part({key: name_of(item) for key, item in items.items()})
        findings: dict[str, Finding] = {}
        warnings: tuple[Warned, ...] = ()
        for number, names in enumerate(parts):
            try:
                reply = read_answer(self._send(names.values(), until), names)
            except CallFailed as error:
                if len(parts) == 1:
                    raise
                unsent = frozenset(key for later in parts[number + 1 :] for key in later)
                return Reply(findings, unsent, error, warnings)
            # The error of a later request must not speak for what is open here.
            if len(parts) > 1:
                findings |= dict.fromkeys(names, _OPEN)
            findings |= reply.findings
            warnings += reply.warnings
        return Reply(findings, warnings=warnings)

    def probe(self, items: Mapping[str, Item], *, until: Deadline) -> Mapping[str, Presence]:
        seen: dict[str, Presence] = {}
        for key, item in items.items():
            request = self._look(name_of(item))
            if request is None:
                continue
            try:
                presence = read_presence(self._ask(self._http.look, request, until))
            except CallFailed:
                if seen:
                    break
                raise
            if presence is not None:
                seen[key] = presence
        return seen

    def check(self, *, until: Deadline) -> Checked:
        request = self._look(Name("deletion-worker", "check-of-an-item-that-nobody-has"))
        assert request is not None  # noqa: S101 - both parts can stand in a path
        answer = self._ask(self._http.look, request, until)
        if read_presence(answer) is not Presence.GONE:
            raise Hopeless(
                f"{answer.place}: HTTP {answer.status} to a look at an item that nobody has, "
                "where 404 is documented; change probe or item_name",
                may_have_run=False,
                code=str(answer.status),
            )
        return Checked(
            shown="the instance answers and takes the token",
            not_shown="the right to delete, and whether service_id, items_name and item_name "
            "fit: what is wrong there answers 404 as well",
        )

    def close(self) -> None:
        self._http.close()

    def _send(self, names: Collection[Name], until: Deadline) -> Answer:
        body = as_json([_identifier(name) for name in names])
        path = f"/apis/v2/{self._settings.service_id}/{self._settings.items_name}/delete"
        request = Request("POST", path, "delete items", content=body)
        return self._ask(self._http.send, request, until)

    def _look(self, name: Name) -> Request | None:
        """How to ask for one item; None where the path form has no way to."""
        own = self._settings
        path = f"/apis/v2/{own.service_id}/{own.item_name or own.items_name}"
        if own.probe == "query":
            return Request("GET", path, "get item", query=_identifier(name))
        # A server takes "." and ".." for directories, however they are spelt.
        if not name.app_key or {".", ".."}.intersection(name):
            return None
        return Request(
            "GET", f"{path}/{quote(name.name, safe='')}/{quote(name.app_key, safe='')}", "get item"
        )

    def _ask(self, send: Callable[..., Answer], request: Request, until: Deadline) -> Answer:
        def ask(token: str) -> Answer:
            value = self._settings.authorization.replace("<jwt>", token)
            signed = replace(request, headers={"authorization": value})
            return send(signed, until=until)

        return self._token.spend(ask, is_refused=is_logged_out, until=until)


def part(names: Mapping[str, Name]) -> list[dict[str, Name]]:
    """Put items that could share a key of `errors` into different requests.

    >>> names = {"1": Name("a", "b.c"), "2": Name("a.b", "c"), "3": Name("a", "d")}
    >>> [list(keys) for keys in part(names)]
    [['1', '3'], ['2']]
    """
    parts: list[tuple[dict[str, Name], set[str]]] = []
    for key, name in names.items():
        own = name.candidates
        place = next((one for one in parts if one[1].isdisjoint(own)), None)
        if place is None:
            place = ({}, set())
            parts.append(place)
        place[0][key] = name
        place[1].update(own)
    return [members for members, _ in parts]


def name_of(item: Item) -> Name:
    """The two parts of an item's name. Raises BadItem."""
    match item:
        case {"appKey": str(app_key), "name": str(name), **rest} if name and not rest:
            return Name(app_key, name)
    raise BadItem('expected an object such as {"appKey": "acme", "name": "Two"}, appKey may be ""')


def _identifier(name: Name) -> dict[str, str]:
    return {"appKey": name.app_key, "name": name.name}
