"""Words for what is wrong with a table, without anything that was given in it.

A value may be a secret that stands in the wrong place, so a fault names the key
and what was expected, never what came.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

#: Where pydantic's own words would be about Python, not about TOML.
_EXPECTED_BY_TYPE = {
    "missing": "is missing",
    "bool_type": "expected true or false",
    "dict_type": "expected a table",
    "float_type": "expected a number",
    "int_from_float": "expected a whole number",
    "int_type": "expected a whole number",
    "list_type": "expected a list",
    "model_type": "expected a table",
    "string_type": "expected text in quotes",
    "string_too_short": "expected text that is not empty",
    "tuple_type": "expected a list",
}

_WORDS = (
    (r"^Input should be a valid ", "expected a "),
    (r"^Input should be (?=greater|less)", "expected a value "),
    (r"^Input should be ", "expected "),
    (r"^String should match ", "expected text that matches "),
    (r"^String should have ", "expected text that has "),
)


def key_path(*parts: str | int) -> str:
    """Write a key as TOML does.

    >>> key_path("targets", "crm 2", "base_url")
    'targets."crm 2".base_url'
    """
    return ".".join(
        part if _BARE_KEY.fullmatch(part) else json.dumps(part) for part in map(str, parts)
    )


def unknown(path: str, *, kind: str, name: str, known: Iterable[str]) -> str:
    """Say that a key or section is unknown, and which one may be meant."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(names)}"
    return f"{path}: unknown {kind}; {hint}"


def faults_of(
    error: ValidationError, *, path: Sequence[str], table: Mapping[str, Any], model: type[BaseModel]
) -> list[str]:
    """Put a validation error into words, one fault a key, in the order of the model."""
    expected_by_key: dict[str, list[str]] = {}
    faults: list[str] = []
    # Without input, context and address: the first two hold what was given.
    for found in error.errors(include_url=False, include_context=False, include_input=False):
        inner = _keys_given(found["loc"], table, is_missing=found["type"] == "missing")
        key = key_path(*path, *inner)
        if found["type"] == "extra_forbidden":
            known = _names_of(model) if len(inner) == 1 else ()
            faults.append(_unknown_key(key, name=str(inner[-1]), known=known))
            continue
        words = expected_by_key.setdefault(key, [])
        word = _EXPECTED_BY_TYPE.get(found["type"]) or _plain(found["msg"])
        if word not in words:
            words.append(word)
    return [f"{key}: {', or '.join(words)}" for key, words in expected_by_key.items()] + faults


def _names_of(model: type[BaseModel]) -> list[str]:
    """The names that a configuration may use: an alias where there is one."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _keys_given(
    location: tuple[int | str, ...], table: Mapping[str, Any], *, is_missing: bool
) -> list[int | str]:
    """Leave out the names of union members, which pydantic mixes with the keys."""
    keys: list[int | str] = []
    here: Any = table
    for position, part in enumerate(location):
        is_key = isinstance(here, Mapping) and part in here
        is_index = isinstance(here, list) and isinstance(part, int) and part < len(here)
        if is_key or is_index:
            keys.append(part)
            here = here[part]
        elif is_missing and position == len(location) - 1:
            keys.append(part)
    return keys


def _unknown_key(path: str, *, name: str, known: Iterable[str]) -> str:
    names = list(known)
    return unknown(path, kind="key", name=name, known=names) if names else f"{path}: unknown key"


def _plain(message: str) -> str:
    """Pydantic's sentence in the form of ours.

    >>> _plain("Input should be greater than or equal to 1")
    'expected a value greater than or equal to 1'
    """
    message = message.removeprefix("Value error, ")
    for theirs, ours in _WORDS:
        message = re.sub(theirs, ours, message)
    return message
