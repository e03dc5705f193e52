"""Queries on tables as they are met: dates of all kinds, keys that name no row, odd names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_adapters.contract import assert_sound, by_key, soon
from api_adapters.errors import BadQuery, Hopeless
from api_adapters.sql_table import SqlTable
from tests.contract.adapters.sql_tables import Place, place

DAYS_OLD = (10, 89, 90, 91, 400)


@pytest.fixture(params=["sqlite", "postgresql"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty database."""
    with place(request.param, tmp_path) as base:
        yield base


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Place]:
    """An empty SQLite database, whose columns hold what anybody wrote."""
    with place("sqlite", tmp_path) as base:
        yield base


def where(column: str, op: str, value: Any = None) -> dict[str, Any]:
    given = {} if value is None else {"value": value}
    return {"where": [{"column": column, "op": op, **given}]}


def found(adapter: SqlTable, query: dict[str, Any]) -> list[Any]:
    return list(adapter.find(query, until=soon()))


OLD = {"older_than": {"column": "made", "age": "90d"}}


# -- ages -------------------------------------------------------------------------


@pytest.mark.parametrize("declared", ["DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"])
def test_a_row_is_old_by_its_date(base: Place, declared: str) -> None:
    def days_ago(days: int) -> str:
        if base.kind == "postgresql":
            return f"now() - interval '{days} days'"
        return f"date{'' if declared == 'DATE' else 'time'}('now', '-{days} days', '+1 second')"

    base.run(
        f"CREATE TABLE rows (id INTEGER PRIMARY KEY, made {declared})",
        *(f"INSERT INTO rows VALUES ({days}, {days_ago(days)})" for days in (10, 89, 91, 400)),
        "INSERT INTO rows VALUES (1, NULL)",
    )

    assert found(base.adapter(query_columns=["made"]), OLD) == [91, 400]


def test_a_date_is_old_once_its_whole_day_is(base: Place) -> None:
    day = "date('now', '-90 days')" if base.kind == "sqlite" else "(now() - interval '90 d')::date"
    base.run(
        "CREATE TABLE rows (id INTEGER PRIMARY KEY, made DATE)",
        f"INSERT INTO rows VALUES (1, {day})",
    )

    assert found(base.adapter(query_columns=["made"]), OLD) == []


@pytest.mark.parametrize("declared", ["TEXT", "DATETIME", "DATE", "TIMESTAMP WITH TIME ZONE"])
@pytest.mark.parametrize(
    ("written", "is_old"),
    [
        ("'2001-01-31 12:00:00'", True),
        ("'2001-01-31T12:00:00Z'", True),
        ("'2001-01-31'", True),
        ("'2999-01-31'", False),
        # What is no date in writing is not old, though SQLite could read it as one.
        ("'12:00'", False),
        ("2001", False),
        ("'2001'", False),
        ("980942400", False),
        ("'2001-13-77'", False),
        ("'soon'", False),
        ("''", False),
        ("x'00'", False),
    ],
)
def test_sqlite_reads_a_date_that_is_written_as_one(
    lite: Place, declared: str, written: str, *, is_old: bool
) -> None:
    lite.run(
        f"CREATE TABLE rows (id INTEGER PRIMARY KEY, made {declared})",
        f"INSERT INTO rows VALUES (1, {written})",
    )

    assert found(lite.adapter(query_columns=["made"]), OLD) == [1] * is_old


@pytest.mark.parametrize("declared", ["INTEGER", "REAL", "BOOLEAN"])
def test_a_number_has_no_age(base: Place, declared: str) -> None:
    base.run(f"CREATE TABLE rows (id INTEGER PRIMARY KEY, made {declared})")

    with pytest.raises(BadQuery, match="no date"):
        found(base.adapter(query_columns=["made"]), OLD)


# -- comparing --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "stored", "op", "value", "matches"),
    [
        ("DATE", "'2026-01-31'", "<", "2026-02-01", True),
        ("DATE", "'2026-01-31'", "=", "2026-01-31", True),
        ("DATE", "'2026-01-31'", "in", ["2026-01-31", "2026-02-01"], True),
        ("DATE", "'2026-01-31'", ">", "2026-01-31", False),
        ("DATE", "NULL", "!=", "2026-01-31", False),
        ("TIMESTAMP", "'2026-01-31 12:00:00'", "<", "2026-01-31T12:00:01", True),
        ("TIMESTAMP", "'2026-01-31 12:00:00'", "=", "2026-01-31T12:00:00", True),
        ("TIMESTAMP", "'2026-01-31 12:00:00'", ">=", "2026-01-31T12:00:01", False),
        ("NUMERIC(9,2)", "12.5", "=", 12.5, True),
        ("NUMERIC(9,2)", "12.5", "<", 12, False),
        ("NUMERIC(9,2)", "12.5", ">", "12.25", True),
        ("NUMERIC(9,2)", "12.5", "in", [12, "12.50"], True),
        ("REAL", "1.5", "=", 1.5, True),
        ("BIGINT", "9007199254740993", "=", 9007199254740992, False),
        ("BIGINT", "9007199254740993", "=", "9007199254740993", True),
        ("VARCHAR(9)", "'e\u0301'", "=", "\u00e9", False),
        ("VARCHAR(9)", "'7'", "=", 7, True),
    ],
)
def test_a_value_is_compared_as_what_the_column_holds(
    base: Place, declared: str, stored: str, op: str, value: Any, *, matches: bool
) -> None:
    base.run(
        f"CREATE TABLE rows (id INTEGER PRIMARY KEY, held {declared})",
        f"INSERT INTO rows VALUES (1, {stored})",
    )

    assert found(base.adapter(query_columns=["held"]), where("held", op, value)) == [1] * matches


@pytest.mark.parametrize("declared", ["DATE", "TIMESTAMP", "NUMERIC(9,2)", "INTEGER", "REAL"])
@pytest.mark.parametrize("op", ["<", "in"])
def test_what_the_column_cannot_hold_is_refused(base: Place, declared: str, op: str) -> None:
    base.run(f"CREATE TABLE rows (id INTEGER PRIMARY KEY, held {declared})")
    adapter = base.adapter(query_columns=["held"])

    with pytest.raises(BadQuery):
        found(adapter, where("held", op, ["soon"] if op == "in" else "soon"))


def test_a_number_is_no_date(lite: Place) -> None:
    lite.run(
        "CREATE TABLE rows (id INTEGER PRIMARY KEY, made DATETIME)",
        "INSERT INTO rows VALUES (1, 980942400)",
    )

    assert found(lite.adapter(query_columns=["made"]), where("made", "<", "2026-01-31")) == []


def test_more_values_than_a_statement_takes_are_refused(base: Place) -> None:
    base.run("CREATE TABLE rows (id INTEGER PRIMARY KEY)")
    adapter = base.adapter(query_columns=["id"])

    assert found(adapter, where("id", "in", list(range(2_000)))) == []
    with pytest.raises(BadQuery, match="2000"):
        adapter.check_query(where("id", "in", list(range(2_001))))


# -- keys that name no row ----------------------------------------------------------


@pytest.mark.parametrize("declared", ["VARCHAR(9)", "INTEGER"])
def test_a_row_without_a_key_is_told_and_not_mistaken_for_another(
    base: Place, declared: str
) -> None:
    base.run(
        f"CREATE TABLE rows (id {declared} UNIQUE, kind INTEGER)",
        "INSERT INTO rows VALUES (NULL, 1)",
        "INSERT INTO rows VALUES (NULL, 1)",
    )
    adapter = base.adapter(query_columns=["kind", "id"])

    with pytest.raises(Hopeless, match="no key that can be named") as failure:
        found(adapter, where("kind", "=", 1))

    assert not failure.value.closes_target
    assert not failure.value.may_have_run
    assert found(adapter, {"where": [*where("id", "is_not_null")["where"]]}) == []


@pytest.mark.parametrize(
    ("declared", "stored"),
    [("INT", "1.5"), ("INT", "'abc'"), ("INT", "x'31'"), ("TEXT", "x'31'"), ("BLOB", "'31'")],
)
def test_a_row_whose_key_is_of_another_type_is_not_mistaken_for_another(
    lite: Place, declared: str, stored: str
) -> None:
    lite.run(
        f"CREATE TABLE rows (id {declared} PRIMARY KEY, kind INTEGER)",
        f"INSERT INTO rows VALUES ({stored}, 1)",
    )

    with pytest.raises(Hopeless, match="no key that can be named"):
        found(lite.adapter(query_columns=["kind"]), where("kind", "=", 1))


def test_a_text_that_is_none_is_told_without_its_bytes(lite: Place) -> None:
    lite.run(
        "CREATE TABLE rows (id TEXT PRIMARY KEY, kind INTEGER)",
        "INSERT INTO rows VALUES (CAST(x'53ff' AS TEXT), 1)",
    )

    with pytest.raises(Hopeless) as failure:
        found(lite.adapter(query_columns=["kind"]), where("kind", "=", 1))

    assert not failure.value.closes_target
    assert "'S" not in failure.value.reason


def test_a_date_beyond_the_calendar_is_told(tmp_path: Path) -> None:
    with place("postgresql", tmp_path) as base:
        base.run(
            "CREATE TABLE rows (id timestamp PRIMARY KEY, kind integer)",
            "INSERT INTO rows VALUES ('infinity', 1)",
        )

        with pytest.raises(Hopeless) as failure:
            found(base.adapter(query_columns=["kind"]), where("kind", "=", 1))

        assert not failure.value.closes_target
        assert not failure.value.may_have_run


# -- tables -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "declared",
    [
        "id VARCHAR(9) UNIQUE",
        "id TEXT COLLATE NOCASE NOT NULL UNIQUE",
        "id BIGINT, CONSTRAINT one UNIQUE (id)",
        '"id" TEXT PRIMARY KEY',
    ],
)
def test_a_unique_column_is_a_key_however_it_is_declared(lite: Place, declared: str) -> None:
    lite.run(f"CREATE TABLE rows ({declared})")

    assert lite.adapter().check(until=soon()).shown


@pytest.mark.parametrize(
    "index", ["ON rows (id)WHERE dead=0", "ON rows (lower(id))", "ON rows (id, dead)"]
)
def test_an_index_that_lets_a_key_stand_twice_makes_none(lite: Place, index: str) -> None:
    lite.run("CREATE TABLE rows (id TEXT, dead INTEGER)", f"CREATE UNIQUE INDEX one {index}")

    with pytest.raises(Hopeless, match="is not unique"):
        lite.adapter().check(until=soon())


def test_every_row_is_found_where_the_column_ignores_case(lite: Place) -> None:
    numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500)"
    lite.run(
        "CREATE TABLE rows (id TEXT COLLATE NOCASE, kind INTEGER)",
        "CREATE UNIQUE INDEX one ON rows (id COLLATE BINARY)",
        f"INSERT INTO rows {numbers} SELECT 'k' || i, 1 FROM n",
        f"INSERT INTO rows {numbers} SELECT 'K' || i, 1 FROM n",
        "INSERT INTO rows VALUES ('a', 1)",
    )

    assert len(set(found(lite.adapter(query_columns=["kind"]), where("kind", "=", 1)))) == 3_001


ODD = 'ro%s %(x)s :y "q" ; --'


def test_names_are_only_names(base: Place) -> None:
    quoted = '"' + ODD.replace('"', '""') + '"'
    base.run(f"CREATE TABLE {quoted} ({quoted} INTEGER PRIMARY KEY)")
    base.run(f"INSERT INTO {quoted} VALUES (1)")
    adapter = base.adapter(table=ODD, key=ODD, query_columns=[ODD])
    query = adapter.freeze(where(ODD, "=", 1), until=soon())

    assert adapter.check(until=soon()).shown
    assert found(adapter, query) == [1]
    reply = adapter.delete_found({"1": 1}, query, until=soon())
    assert reply.findings["1"].verdict == "deleted"


# -- whatever is asked ----------------------------------------------------------------

HOSTILE = st.sampled_from(["'; DROP TABLE rows; --", "1 OR 1=1", "%s", ":x", "\\", "", "id", "\0"])
VALUE = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | HOSTILE | st.text()
ONE = st.fixed_dictionaries(
    {
        "column": st.sampled_from(["id", "kind", "made"]) | HOSTILE,
        "op": st.sampled_from(["=", "<", "in", "is_null"]) | HOSTILE,
    },
    optional={"value": VALUE | st.lists(VALUE, max_size=3)},
)
AGE = st.fixed_dictionaries(
    {"column": st.sampled_from(["id", "kind", "made"]) | HOSTILE},
    optional={"age": st.sampled_from(["90d", "9999999w", "0d"]) | VALUE, "before": VALUE},
)
QUERY = st.fixed_dictionaries(
    {}, optional={"where": st.lists(ONE, max_size=3) | VALUE, "older_than": AGE | VALUE}
)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_whatever_is_asked_is_answered_or_refused(tmp_path: Path, kind: str) -> None:
    with place(kind, tmp_path) as base:
        base.run(
            "CREATE TABLE rows (id INTEGER PRIMARY KEY, kind VARCHAR(9), made TIMESTAMP)",
            "INSERT INTO rows VALUES (1, 'a', '2001-01-31 12:00:00')",
        )
        adapter = base.adapter(query_columns=["id", "kind", "made"])

        @given(QUERY)
        @settings(max_examples=150, deadline=None)
        def ask(query: dict[str, Any]) -> None:
            try:
                frozen = adapter.freeze(query, until=soon())
                assert set(found(adapter, query)) <= {1}
                reply = adapter.delete_found(by_key(adapter, [2, "x"]), frozen, until=soon())
            except BadQuery:
                return
            assert_sound(reply, ["2", "x"])

        ask()
        assert base.run("SELECT id FROM rows") == [(1,)]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_whatever_is_to_be_deleted_nothing_else_is(tmp_path: Path, kind: str) -> None:
    with place(kind, tmp_path) as base:
        base.run("CREATE TABLE rows (id VARCHAR(40) PRIMARY KEY)")
        adapter = base.adapter()

        @given(st.lists(st.text(max_size=9) | HOSTILE, max_size=5), HOSTILE | st.text(max_size=9))
        @settings(max_examples=150, deadline=None)
        def ask(texts: list[str], kept: str) -> None:
            kept = kept.replace("\0", "") + "!"
            mark = "?" if kind == "sqlite" else "%s"
            with base.connect() as own:
                own.execute("DELETE FROM rows")
                own.execute(f"INSERT INTO rows VALUES ({mark})", [kept])
                own.commit()
            sent = {text: text for text in texts if text not in {"", kept}}

            reply = adapter.delete(sent, until=soon()) if sent else None

            if reply is not None:
                assert_sound(reply, sent)
                assert set(reply.findings) == set(sent)
                assert {str(f.verdict) for f in reply.findings.values()} <= {"absent", "rejected"}
            assert base.run("SELECT id FROM rows") == [(kept,)]

        ask()
