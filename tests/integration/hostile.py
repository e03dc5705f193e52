"""What a hostile caller gives: twins of an id, texts that break things, values that are no items.

Nothing here needs a service; the tests put it through every door.
"""

import unicodedata
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any
from urllib.parse import quote

# fmt: off
#: What stands around an id, here ID, that a sloppy reader leaves out, or obeys.
_AROUND = (
    " ID", "ID ", " ID ", "\tID", "ID\n", "ID\r\n", "\nID", "\u00a0ID", "ID\u2003", "\u200bID",
    "ID\u200d", "\ufeffID", "ID\x00", "\x00ID", "ID\x00.json", "ID\u0301", "ID\ufe0f", "ID\u034f",
    "\u202eID\u202c", "\u2066ID\u2069", "\u200eID", "\u00adID", "ID\ud800", "\udfffID", "ID\udc80",
    "\x1b[2KID", "ID\x7f", "ID\x08",
    # Addresses.
    "../ID", "./ID", "/ID", "ID/", "//ID", "x/../ID", "..\\ID", "%2e%2e%2fID", "x%2f..%2fID",
    "ID%00", "ID%20", "ID%2c", "ID%", "ID?x=1", "ID#x", "ID;x=1", ",ID", "ID,", "x,ID", "ID&x=1",
    "ID?", "ID/..", "ID/*", "*ID", "ID.", "http://127.0.0.1/ID", "ID\r\nX-Injected: yes",
    "ID%0d%0aX-Injected: yes", "ID HTTP/1.1\r\n\r\nDELETE /",
    # JSON, and templates.
    '"ID"', "'ID'", 'ID"],"all":true,"x":["', 'ID"}', "[ID]", '["ID"]', "{ID}", "${ID}", "{{ID}}",
    "%(ID)s", "<ID>", "urn:uuid:ID",
    # SQL.
    "ID' OR '1'='1", "ID' OR 1=1 --", "ID'); DROP TABLE rows; --", "ID''", "ID%", "%ID%", "ID_",
    "\\ID", "ID\\", "ID\\'", "ID;--", "e'ID'",
    # Numbers.
    "+ID", "-ID", "0ID", "00ID", "ID.0", "IDe0", "0xID", "IDL",
)
#: Letters that fold or normalise to others, or only look like them.
_FOLDED = (
    ("fi", "\ufb01"), ("ff", "\ufb00"), ("ss", "\u00df"), ("k", "\u212a"), ("K", "\u212a"),
    ("s", "\u017f"), ("i", "\u0131"), ("I", "\u0130"), ("\u00e5", "\u212b"), ("\u00df", "ss"),
    ("a", "\u0430"), ("e", "\u0435"), ("o", "\u043e"), ("-", "\u2010"), ("-", "\u2212"), ("1", "l"),
)
_ARABIC, _RAISED = (
    dict(zip(range(0x30, 0x3A), digits, strict=True))
    for digits in ("\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669",
                   "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")
)
_WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
_BOLD = {**{code: code + 0x1D3BF for code in range(0x41, 0x5B)},
         **{code: code + 0x1D3B9 for code in range(0x61, 0x7B)}}

#: Texts that break something by themselves.
TEXTS = (
    "", " ", "\n", "\x00", ".", "..", "../..", "/", "*", "%", "_", "null", "true", "NaN",
    "Infinity", "list", "ids", "fields", "metadata", "LIST", "all", "constructor", "__proto__",
    "__class__",
    "0", "-0", "+7", "007", "1e3", "0x10", "1_000", "9007199254740993", "18446744073709551617",
    "\u0667", "\uff17", "\u00b2", "\u2155", "\u4e00", "1,000", " 1", "1 ", "9" * 1_025, "k", "K",
    "{}", "[]", '""', '{"all":true}', '{"link_ids":[]}', '{"$ne":null}', "[[[[[[[[", '{"a":' * 80,
    "' OR 1=1 --", "'); DROP TABLE rows; --", "\\'; DELETE FROM rows; --", "1; SELECT pg_sleep(9)",
    "' UNION SELECT id FROM kept --", "$$; DROP TABLE rows; $$", ":id", "%s", "?", "\\", "\\\\",
    "{0}", "{item!r}", "%(message)s", "%(levelname)s", "%n%n%n", "${jndi:ldap://127.0.0.1/a}",
    "\x1b[2J\x1b[31mforged\x1b[0m", "\x9b2J-forged", "\x1b]0;forged\x07", "forged\x08\x08\x08",
    "forged\n[2030-01-01 00:00:00,000: CRITICAL/MainProcess] forged",
    "forged\r[2030-01-01 00:00:00,000: ERROR/MainProcess] forged",
    "forged\u2028[2030-01-01 00:00:00,000: ERROR/MainProcess] forged",
    '{"level":"error","event":"job.settled","job":"forged","verdict":"deleted"}',
    '{"position":0,"item":"forged","verdict":"deleted","evidence":"item"}',
    '=HYPERLINK("http://127.0.0.1")', "@SUM(1)", "+1+1", "-1+1", "\t=1+1", " =1+1", "\uff1d1+1",
    "\u202egnp.exe", "\u200b", "\ufeff", "\ufffe", "\ufffd", "\U0001f600", "\U000e0001", "\ud800",
    "a\u0301" * 300, "x" * 1_024, "x" * 1_025, "\u00fc" * 512, "\u00fc" * 513, "\x7f" * 3_000,
)
# fmt: on


def twins(ident: str) -> list[str]:
    """Texts that some reader somewhere takes for this id; none of them is it."""
    whole = (
        *(unicodedata.normalize(form, ident) for form in ("NFC", "NFD", "NFKC", "NFKD")),
        *(ident.upper(), ident.lower(), ident.swapcase(), ident.title(), ident.casefold()),
        *(ident.translate(table) for table in (_ARABIC, _RAISED, _WIDE, _BOLD)),
        *(ident.replace(one, other) for one, other in _FOLDED),
        "".join(f"%{byte:02x}" for byte in ident.encode()),
        "".join(f"\\u{ord(letter):04x}" for letter in ident),
        "".join(f"&#{ord(letter)};" for letter in ident),
        quote(quote(f"/{ident}", safe=""), safe=""),
        *(ident[::-1], ident[:-1], ident[1:], ident * 2, ident.replace("-", "")),
        *(around.replace("ID", ident) for around in _AROUND),
    )
    return [text for text in dict.fromkeys(whole) if text not in {ident, ""}]


def values(ident: str) -> list[Any]:
    """Values that are not texts, some of which name the id."""
    deep: Any = ident
    for _ in range(60):
        deep = {"a": deep}
    return [
        *(0, 7, -7, -1, 2**53 - 1, 2**53, 2**53 + 1, 2**63, 2**64 + 7, 10**64, 10**4_000),
        *(-(2**53) - 1, -(10**4_000), 0.0, -0.0, 7.0, 1e3, 1.5, 2.0**53, 1e308, 5e-324),
        *(True, False, None, [], [ident], [[ident]], {}, deep),
        *({"id": ident}, {"ids": [ident]}, {"link_id": ident}, {"link_ids": [ident]}),
        *({"uri": ident}, {"resources": [ident]}, {"all": True}, {"": ident}, {ident: ident}),
        *({"__proto__": {"id": ident}}, {"$ne": None}, {"id": {"$gt": ""}}, {"id": True}),
        {"__type__": "uuid", "__value__": {"hex": "none"}},
        {"__type__": ident, "__value__": ident},
        *({"record_id": one} for one in ("", None, [ident], {"$ne": ""})),
        *({"filter": one} for one in ({}, None, [], ident, {"": ident}, {" ": " "})),
        *({"filter": {"sku": one}} for one in ("", None, True, 2**53, 1.5, {"$ne": 1})),
        {"filter": {"sku": ident, "title": ""}},
        {"record_id": ident, "all": True},
        *({"appKey": one, "name": ident} for one in (None, 7, ["acme"], {"$ne": ""})),
        *({"appKey": "acme", "name": one} for one in ("", None, 7, [ident], {"$ne": ""})),
        *({"appKey": ident}, {"name": ident}, {"appkey": "acme", "name": ident}),
        {"appKey": "acme", "name": ident, "all": True},
        {"id": ident, "key": "k" * 15_000},
        {"k" * 15_000: ident},
        {"id": ident, **{f"k{number}": number for number in range(900)}},
    ]


def mixed(*parts: Iterable[Any]) -> list[Any]:
    """The members of all parts in turns, so that no part stands together."""
    turns = zip_longest(*parts, fillvalue=_END)
    return [one for turn in turns for one in turn if one is not _END]


_END = object()
