"""One row or one value that the database stumbles over costs itself alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from api_adapters.base import Verdict
from api_adapters.contract import FreePace, soon
from api_adapters.errors import CallFailed
from api_adapters.sql_table import SqlTable, SqlTableSettings
from tests.postgres import server

LOCKED = """
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.id = 'somebody' THEN
        RAISE EXCEPTION 'row % is locked', OLD.id USING ERRCODE = 'MY001';
    END IF;
    RETURN OLD;
END $$
"""


@contextmanager
def a_table(*statements: str, encoding: str = "UTF8") -> Iterator[SqlTable]:
    """An adapter on a table of its own, in a database of that encoding."""
    name = f"hostile_{encoding.lower()}"
    server().execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    server().execute(
        "CREATE TABLE rows (id TEXT PRIMARY KEY)",
        "INSERT INTO rows VALUES ('a'), ('somebody'), ('c')",
        *statements,
        database=name,
    )
    url = server().url(name).render_as_string()
    given = {"adapter": "sql_table", "url": url, "table": "rows", "key": "id"}
    adapter = SqlTable(SqlTableSettings.model_validate(given), pace=FreePace())
    try:
        yield adapter
    finally:
        adapter.close()
        server().drop_database(name)


def test_a_letter_that_the_database_does_not_have_costs_itself_alone() -> None:
    with a_table(encoding="LATIN1") as adapter:
        reply = adapter.delete({"a": "a", "\u20ac": "\u20ac"}, until=soon())

    assert reply.findings["a"].verdict is Verdict.DELETED
    assert reply.findings["\u20ac"].verdict is Verdict.REJECTED


def test_a_row_that_a_trigger_keeps_by_a_code_of_its_own_is_denied_alone() -> None:
    trigger = "CREATE TRIGGER keep BEFORE DELETE ON rows FOR EACH ROW EXECUTE FUNCTION keep()"
    with a_table(LOCKED, trigger) as adapter:
        try:
            reply = adapter.delete({key: key for key in ("a", "somebody", "c")}, until=soon())
        except CallFailed as error:
            pytest.fail(f"the job would be told: {error}")

    verdicts = {key: finding.verdict for key, finding in reply.findings.items()}
    assert verdicts == {"a": Verdict.DELETED, "somebody": Verdict.DENIED, "c": Verdict.DELETED}
