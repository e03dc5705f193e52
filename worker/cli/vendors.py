"""The vendors of a demonstration: how their items are written, and what goes wrong there."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.cli.lot import Spellings


@dataclass(frozen=True, slots=True)
class Vendor:
    """What differs from one vendor to the next."""

    #: What the practice server does wrong, how often: see api_adapters/fakes/faults.py.
    misbehave: str
    spellings: Spellings
    #: More lines of the target's configuration.
    options: str = ""


def _shout(ident: str) -> str:
    return ident.upper()


def _uri_in_short(uri: str) -> str:
    """An instance by its bare id, an agent by its URI with the id in capitals."""
    head, _, ident = uri.rpartition("/")
    return ident if head.endswith("instances") else f"{head}/{ident.upper()}"


def _turned(ident: str) -> dict[str, str]:
    """The same object with its fields in the other order."""
    return dict(reversed(json.loads(ident).items()))


def _is_by_filter(record_id: str) -> bool:
    """Some records are asked for by a unique column."""
    return record_id.endswith("77")


def _record(record_id: str) -> str | dict[str, Any]:
    if _is_by_filter(record_id):
        return {"filter": {"sku": f"SKU-{record_id}"}}
    return record_id


def _record_in_full(record_id: str) -> str | dict[str, Any]:
    """As an object; where it names a filter as well, the record id wins."""
    if _is_by_filter(record_id):
        return _record(record_id)
    also = {"filter": {"sku": "SKU-0"}} if record_id.endswith("1") else {}
    return {"record_id": record_id, **also}


VENDORS: Mapping[str, Vendor] = {
    "bas_ip": Vendor(
        misbehave="expired@4,lost@7,busy:1@11,omitted@16,error@21,truncated@26,stranger@31,"
        "contradicted@36,cut@40,lost/47,busy:1/53,error/59,shuffled/2",
        spellings=Spellings(
            respell=_shout,
            malformed=("", "no-uuid", "42", 42, {"link_id": 1}, None, 1.5, "../contacts"),
        ),
    ),
    "nimble": Vendor(
        misbehave="expired@4,lost@9,busy_date:1@14,omitted@19,html@24,stranger@29,truncated@34,"
        "empty@39,dropped@44,lost/53,omitted/59,busy:1/61,shuffled/2",
        spellings=Spellings(
            # "list" would be the vendor's own route: it deletes by query.
            malformed=("", "list", "a,b", "../contacts", "a?keyword=b", {"id": "a"}, None, 1.5),
        ),
    ),
    "sas_catalog": Vendor(
        misbehave="expired@3,lost@6,busy:1@9,omitted@12,html@15,stranger@18,unnumbered@20,"
        "error@23,cut@26,lost/41,busy_date:1/53,as_text/3,shuffled/2",
        spellings=Spellings(
            respell=_uri_in_short,
            malformed=(
                *("", 42, None, {"uri": "/catalog/instances/a"}, "/catalog/instances/"),
                *("/catalog/definitions/a", "/catalog/locks/a", "/catalog/instances/../bots"),
            ),
        ),
    ),
    "amalto": Vendor(
        misbehave="lost@4,busy_date:1@7,omitted@10,html@13,stranger@16,miscounted@19,"
        "contradicted@22,redirected@25,lost/41,busy:1/53,as_text/3,shuffled/2",
        spellings=Spellings(
            write=json.loads,
            respell=_turned,
            malformed=(
                *({"appKey": "acme"}, {"appKey": "acme", "name": ""}, "acme.One", 17, None),
                *({"appKey": None, "name": "One"}, {"appKey": "", "name": "One", "id": 1}),
            ),
        ),
    ),
    "gptbots": Vendor(
        misbehave="lost@3,busy_code@6,error@11,html@17,dropped@23,empty@29,"
        "lost/47,error/53,as_text/2",
        spellings=Spellings(
            write=_record,
            respell=_record_in_full,
            malformed=("", 42, None, {"record_id": ""}, {"filter": {}}, {"filter": {"sku": ""}}),
            # Every record has a title, and some have the same: only a look tells.
            refused=({"filter": {"title": "Practice 12"}},),
        ),
        # The adapter's own pace, a request a second, would make us wait.
        options='verify = "filters"\nmax_items_per_call = 100\nrequests_per_second = 100',
    ),
}
