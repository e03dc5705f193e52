"""Deletions of which only the count is told: never where it could mean anything else."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from api_adapters.base import Item
from api_adapters.contract import FreePace, soon
from api_adapters.errors import Hopeless
from api_adapters.sql_table import SqlTable
from api_adapters.sql_table.counting import TELLING_CALLS
from tests.contract.adapters.sql_tables import Place, place


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Place]:
    """A table of ten rows, from 0 on."""
    with place("postgresql", tmp_path) as found:
        found.run(
            "CREATE TABLE rows (id int PRIMARY KEY)",
            "INSERT INTO rows SELECT generate_series(0, 9)",
        )
        yield found


def told(adapter: SqlTable, *items: Item) -> dict[str, str]:
    reply = adapter.delete({str(item): item for item in items}, until=soon())
    return {key: f"{one.verdict}" for key, one in reply.findings.items()}


def transactions(adapter: SqlTable) -> int:
    assert isinstance(adapter._pace, FreePace)
    return adapter._pace.entered


def looked(base: Place, **settings: str) -> SqlTable:
    """An adapter that has seen its table, and has counted."""
    adapter = base.adapter(**settings)
    assert told(adapter, 9) == {"9": "deleted"}
    # It looks at the table, and deletes once.
    assert transactions(adapter) == 2
    return adapter


def test_what_was_all_there_takes_one_transaction(base: Place) -> None:
    adapter = looked(base)

    assert told(adapter, *range(9)) == {str(number): "deleted" for number in range(9)}

    assert transactions(adapter) == 3
    assert base.run("SELECT * FROM rows") == []


def test_what_was_not_all_there_is_told_row_by_row(base: Place) -> None:
    adapter = looked(base)

    assert told(adapter, 7, 8, 70) == {"7": "deleted", "8": "deleted", "70": "absent"}
    assert transactions(adapter) == 4
    # And so are the next ones, by one transaction each.
    assert told(adapter, 80, 6) == {"80": "absent", "6": "deleted"}
    assert transactions(adapter) == 5
    for _ in range(TELLING_CALLS - 2):
        told(adapter, 70)
    before = transactions(adapter)
    assert told(adapter, 70) == {"70": "absent"}
    assert transactions(adapter) == before + 2


ELSEWHERE = (
    "CREATE RULE elsewhere AS ON DELETE TO rows DO INSTEAD"
    " DELETE FROM others WHERE id = old.id OR id = old.id + 1"
)
OTHERS = ("CREATE TABLE others (id int)", "INSERT INTO others SELECT generate_series(0, 9)")
#: What a table may become while it is deleted from, and how the count could then lie
#: of two keys of which one is there.
CHANGES = {
    "a rule that deletes elsewhere": (
        *OTHERS,
        ELSEWHERE,
    ),
    "a child with the same key": (
        "CREATE TABLE child () INHERITS (rows)",
        "INSERT INTO child VALUES (1)",
    ),
    "a key that is not unique any more": (
        "ALTER TABLE rows DROP CONSTRAINT rows_pkey",
        "INSERT INTO rows VALUES (1)",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_count_that_means_something_else_is_not_believed(base: Place, change: str) -> None:
    adapter = looked(base)
    base.run(*CHANGES[change])

    with pytest.raises(Hopeless):
        told(adapter, 1, 20)

    assert base.run("SELECT count(*) FROM rows WHERE id < 9") >= [(9,)]
    if "rule" in change:
        assert base.run("SELECT count(*) FROM others") == [(10,)]


def test_a_row_that_a_trigger_keeps_is_told(base: Place) -> None:
    adapter = looked(base)
    base.run(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF old.id = 3 THEN RETURN NULL; END IF; RETURN old; END'",
        "CREATE TRIGGER keep BEFORE DELETE ON rows FOR EACH ROW EXECUTE FUNCTION keep()",
    )

    assert told(adapter, 2, 3) == {"2": "deleted", "3": "denied"}


def test_a_trigger_runs_once_a_row(base: Place) -> None:
    base.run(
        "CREATE SEQUENCE runs",
        "CREATE FUNCTION run() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM nextval(''runs''); RETURN old; END'",
        "CREATE TRIGGER run BEFORE DELETE ON rows FOR EACH ROW EXECUTE FUNCTION run()",
    )

    assert told(base.adapter(), 2, 3, 30) == {"2": "deleted", "3": "deleted", "30": "absent"}

    # What is taken back counts here.
    assert base.run("SELECT last_value FROM runs") == [(2,)]


def test_a_row_that_others_need_is_denied_alone(base: Place) -> None:
    base.run(
        "CREATE TABLE needs (id int REFERENCES rows)",
        "INSERT INTO needs VALUES (4)",
    )
    adapter = looked(base)

    assert told(adapter, 3, 4, 5) == {"3": "deleted", "4": "denied", "5": "deleted"}


def test_a_key_that_may_be_twice_for_a_moment_is_told(base: Place) -> None:
    base.run(
        "ALTER TABLE rows DROP CONSTRAINT rows_pkey",
        "ALTER TABLE rows ADD UNIQUE (id) DEFERRABLE",
    )
    adapter = base.adapter()

    assert told(adapter, 1, 2) == {"1": "deleted", "2": "deleted"}
    # It looked, tried to count, and told.
    assert transactions(adapter) == 3


def test_a_partitioned_table_is_told(base: Place) -> None:
    base.run(
        "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (5)",
        "CREATE TABLE high PARTITION OF parts FOR VALUES FROM (5) TO (10)",
        "INSERT INTO parts SELECT generate_series(0, 9)",
    )

    assert told(base.adapter(table="parts"), 4, 5, 50) == {
        "4": "deleted",
        "5": "deleted",
        "50": "absent",
    }


def test_a_uuid_is_counted(base: Place) -> None:
    one = str(UUID(int=1))
    base.run("CREATE TABLE things (id uuid PRIMARY KEY)", f"INSERT INTO things VALUES ('{one}')")
    adapter = base.adapter(table="things")

    assert told(adapter, one) == {one: "deleted"}
    assert transactions(adapter) == 2


@pytest.mark.parametrize("name", ["it's", "50%", "%s", 'a"b', "{x}", "Üp per"])
def test_a_table_may_have_any_name(base: Place, name: str) -> None:
    quoted = '"{}"'.format(name.replace('"', '""'))
    base.run(
        f"CREATE SCHEMA {quoted}",
        f"CREATE TABLE {quoted}.{quoted} ({quoted} int PRIMARY KEY)",
        f"INSERT INTO {quoted}.{quoted} VALUES (1), (2)",
    )
    adapter = base.adapter(table=name, key=name, schema=name)

    assert told(adapter, 1, 2) == {"1": "deleted", "2": "deleted"}
    assert transactions(adapter) == 2
