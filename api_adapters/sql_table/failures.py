"""What a database's error means for the call.

All that a call does is one transaction, so whatever fails before the commit is
sent has done nothing, unless the connection was lost: then nobody knows.
"""

import sqlite3
from typing import Any

from sqlalchemy.exc import DataError, DBAPIError, NotSupportedError, ProgrammingError

from api_adapters.base import Verdict
from api_adapters.errors import CallFailed, Hopeless, Transient

#: SQLSTATEs that pass by themselves: rolled back, cancelled, no room, starting.
_PASSING = {"40", "53", "55", "57", "58"}
_FOREIGN_KEY = {"23503", "23001"}
#: Classes that speak of the place, a table or a schema; and a server that only reads.
_WRONG_PLACE = {"42", "3F"}
_ONLY_READS = "25006"
#: Classes that speak of the session or the server, and of no row. Whatever else
#: there is, a trigger raised: its author may choose any code.
_NO_ROW = {"0A", "0L", "0P", "25", "26", "28", "2B", "2D", "3B", "3D", "54", "F0", "HV", "XX"}
#: Where PostgreSQL finds that a table is not as it was when the statement was prepared.
_PLANNED_BEFORE = "RevalidateCachedQuery"
#: What psycopg tells of a login or an address only in the server's words.
_WRONG_LOGIN = ("authentication failed", "no pg_hba.conf entry", "does not exist", "no password")
_WRONG_FILE = {"SQLITE_CANTOPEN", "SQLITE_NOTADB", "SQLITE_AUTH", "SQLITE_PERM", "SQLITE_READONLY"}
_NOT_NOW = {"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_INTERRUPT", "SQLITE_FULL", "SQLITE_IOERR"}


#: What a driver says of a value, without having asked the database.
_OWN_FAULTS = (DataError, NotSupportedError, ProgrammingError)


class Kept(Exception):
    """The database refused to delete one of the rows, and so deleted none."""

    def __init__(self, code: str, verdict: Verdict = Verdict.DENIED) -> None:
        super().__init__(code)
        self.code = code
        self.verdict = verdict


def not_connected(error: BaseException | None) -> CallFailed:
    """Nobody answered, or not as one who may come in, in the driver's words; nothing was sent."""
    said = str(error).strip()
    state = _sqlite_state(error)
    if state in _WRONG_FILE or any(words in said for words in _WRONG_LOGIN):
        return Hopeless(
            f"the database cannot be opened: {_line(said)}; change url",
            may_have_run=False,
            closes_target=True,
        )
    return Transient(f"the database does not answer: {_line(said)}", may_have_run=False)


def failure(error: DBAPIError) -> CallFailed | Kept:
    """What went wrong in a statement or at the commit."""
    if isinstance(error.orig, sqlite3.Error):
        return _sqlite_failure(error.orig)
    state = getattr(error.orig, "sqlstate", None)
    if state is None and isinstance(error, _OWN_FAULTS) and not error.connection_invalidated:
        return unreadable(error)
    if error.connection_invalidated or state is None or state[:2] == "08":
        return Transient("the connection to the database was lost")
    return _postgresql_failure(state, error.orig)


def is_outdated(error: Any) -> bool:
    """Whether a driver's error is about what a connection prepared for a table as it was."""
    diagnosis = getattr(error, "diag", None)
    return getattr(diagnosis, "source_function", None) == _PLANNED_BEFORE


def _postgresql_failure(state: str, error: Any) -> CallFailed | Kept:
    said = _line(getattr(error.diag, "message_primary", None) or type(error).__name__)
    match state[:2]:
        case "23":
            return Kept("foreign_key" if state in _FOREIGN_KEY else "constraint")
        case "22":
            return Kept("invalid_item", Verdict.REJECTED)
        case passing if passing in _PASSING:
            return Transient(f"the database: {said}", may_have_run=False, code=state)
    if is_outdated(error):
        return Transient(f"the database: {said}", may_have_run=False, code=state)
    if state[:2] not in _NO_ROW | _WRONG_PLACE:
        return Kept("trigger")
    if state == "42501":
        return Hopeless(f"{said}: grant SELECT and DELETE", may_have_run=False, code=state)
    return Hopeless(
        said,
        may_have_run=False,
        code=state,
        closes_target=state[:2] in _WRONG_PLACE or state == _ONLY_READS,
    )


def _sqlite_failure(error: sqlite3.Error) -> CallFailed | Kept:
    state = _sqlite_state(error)
    said = _line(str(error))
    if not state:
        return unreadable(error)
    if state == "SQLITE_CONSTRAINT":
        return Kept("foreign_key" if "FOREIGN KEY" in said else "constraint")
    if state in _NOT_NOW:
        return Transient(f"the database: {said}", may_have_run=False, code=state)
    return Hopeless(said, may_have_run=False, code=state, closes_target=True)


def unreadable(error: Exception) -> Hopeless:
    """The driver itself gave up, over a value that it may quote."""
    return Hopeless(
        f"the database's driver cannot take or read a value: {type(error).__name__}",
        may_have_run=False,
    )


def _sqlite_state(error: Any) -> str:
    """The primary code: SQLITE_CONSTRAINT for SQLITE_CONSTRAINT_TRIGGER."""
    name = getattr(error, "sqlite_errorname", "") or ""
    return "_".join(name.split("_")[:2])


def _line(said: str) -> str:
    """The first line, which names tables and columns but no values."""
    return said.splitlines()[0][:200] if said else "no reason given"
