"""Rows of a table: what holds for every adapter, and what holds for SQL alone."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from api_adapters.base import Adapter, Deadline, Item, Reply
from api_adapters.contract import AdapterContract, FreePace, assert_sound, by_key, soon
from api_adapters.errors import BadItem, BadQuery, CallFailed, Hopeless, Transient
from api_adapters.sql_table import SqlTable, SqlTableSettings
from tests.contract.adapters.sql_tables import Place, place


@pytest.fixture(params=["sqlite", "postgresql"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty database."""
    with place(request.param, tmp_path) as base:
        yield base


def verdicts(reply: Reply) -> dict[str, str]:
    return {key: finding.verdict.value for key, finding in reply.findings.items()}


def codes(reply: Reply) -> dict[str, str | None]:
    return {key: finding.code for key, finding in reply.findings.items()}


class SqlContract(AdapterContract):
    """What holds for a table whatever its key is."""

    table = "CREATE TABLE rows (id INTEGER PRIMARY KEY)"
    column: ClassVar[Any] = "id"
    rows: ClassVar[tuple[str, ...]] = ("1", "2", "3", "-4")

    @pytest.fixture
    def adapter(self, base: Place) -> Iterator[Adapter]:
        base.run(self.table, *(f"INSERT INTO rows VALUES ({row})" for row in self.rows))
        adapter = base.adapter(key=self.column)
        yield adapter
        adapter.close()

    @pytest.fixture
    def remaining(self, base: Place, adapter: Adapter) -> Callable[[], set[str]]:
        def ask() -> set[str]:
            names = [self.column] if isinstance(self.column, str) else self.column
            found = base.run(f"SELECT {', '.join(names)} FROM rows")
            return {adapter.key(self.item_of(row)) for row in found}

        return ask

    def item_of(self, row: tuple[Any, ...]) -> Item:
        item: Item = row[0] if isinstance(row[0], int) else str(row[0])
        return item

    def test_its_identity_names_settings_and_no_secret(self, adapter: Adapter) -> None:
        # An address may lie in a secret, of which the identity has the place alone.
        dumped = adapter._settings.model_dump(mode="json", include=set(adapter.identity))  # type: ignore[attr-defined]
        assert set(dumped) == set(adapter.identity)


class TestIntegers(SqlContract):
    bad_items: ClassVar[tuple[Item, ...]] = ({"id": 1}, "\ud800")
    same_items: ClassVar[tuple[tuple[Item, Item], ...]] = ((17, "17"), (-1, "-1"))

    @pytest.fixture
    def existing(self) -> list[Item]:
        return [1, "2", 3, "-4"]

    @pytest.fixture
    def missing(self) -> list[Item]:
        return [7, "8"]


class TestTexts(SqlContract):
    table = "CREATE TABLE rows (id VARCHAR(40) PRIMARY KEY)"
    rows = ("'a'", "'A'", "'17'", "' b '", "'it''s %s :x'", "'e\u0301'")

    @pytest.fixture
    def existing(self) -> list[Item]:
        return ["a", 17, " b ", "it's %s :x"]

    @pytest.fixture
    def missing(self) -> list[Item]:
        return ["b", "017", "ü'; DROP TABLE rows; --", "\u00e9", "a ", "') OR ('1'='1"]


class TestCompound(SqlContract):
    table = "CREATE TABLE rows (tenant INTEGER, name VARCHAR(9), PRIMARY KEY (tenant, name))"
    column: ClassVar[Any] = ["tenant", "name"]
    rows = ("1, 'a'", "1, 'b'", "2, 'a'", "2, '[\"'")
    bad_items: ClassVar[tuple[Item, ...]] = ("1", 1, {"tenant": 1}, {"tenant": [1], "name": "a"})
    same_items: ClassVar[tuple[tuple[Item, Item], ...]] = (
        ({"tenant": 1, "name": "a"}, {"name": "a", "tenant": "1"}),
    )

    @pytest.fixture
    def existing(self) -> list[Item]:
        return [{"tenant": 1, "name": "a"}, {"tenant": 1, "name": "b"}] + [
            {"tenant": 2, "name": name} for name in ("a", '["')
        ]

    @pytest.fixture
    def missing(self) -> list[Item]:
        return [{"tenant": 3, "name": "a"}, {"tenant": 2, "name": "b"}]

    def item_of(self, row: tuple[Any, ...]) -> Item:
        return {"tenant": row[0], "name": row[1]}


# -- values ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "stored", "item", "unholdable"),
    [
        ("smallint", "7", 7, [40_000, "x", "007", "7.0", " 7", "٣"]),
        ("bigint", "9007199254740993", 9007199254740993, [2**63, -(2**63) - 1, "9" * 5_000]),
        ("varchar(3)", "'abc'", "abc", ["abcd", "a\0"]),
        ("char(3)", "'ab'", "ab", ["abcd", "ab "]),
        (
            "uuid",
            "'91c615e3-1040-4815-8ecb-039a18b756b5'",
            "91c615e3-1040-4815-8ecb-039a18b756b5",
            ["91C615E3-1040-4815-8ECB-039A18B756B5", "91c615e3104048158ecb039a18b756b5", 7],
        ),
        ("date", "'2026-01-31'", "2026-01-31", ["2026-02-31", "20260131", "today"]),
        ("timestamp", "'2026-01-31 12:00:00'", "2026-01-31T12:00:00", ["now", "2026-01-31"]),
        (
            "timestamptz",
            "'2026-01-31 12:00:00Z'",
            "2026-01-31T12:00:00+00:00",
            ["2026-01-31T13:00:00+01:00", "2026-01-31T12:00:00"],
        ),
        ("numeric(9,2)", "12.50", "12.5", ["12.50", "nan", "1e3", "x"]),
        ("bytea", r"'\x00ff'", "00ff", ["0", "00FF", "zz"]),
    ],
)
def test_postgresql_deletes_by_a_key_of_any_type(
    tmp_path: Path, declared: str, stored: str, item: Item, unholdable: list[Item]
) -> None:
    with place("postgresql", tmp_path) as base:
        base.run(
            f"CREATE TABLE rows (id {declared} PRIMARY KEY)", f"INSERT INTO rows VALUES ({stored})"
        )
        adapter = base.adapter(query_columns=["id"])
        (found,) = adapter.find({"where": [{"column": "id", "op": "is_not_null"}]}, until=soon())

        reply = adapter.delete(by_key(adapter, [item, *unholdable]), until=soon())

        assert found == item
        told = verdicts(reply)
        assert told.pop(adapter.key(item)) == "deleted"
        assert set(told.values()) == {"rejected"}
        assert len(told) == len(unholdable)
        adapter.close()


@pytest.mark.parametrize(
    ("declared", "stored", "item", "unholdable"),
    [
        ("INTEGER", "9007199254740993", 9007199254740993, ["x", "07", 2**63]),
        ("TEXT", "'a'", "a", []),
        ("DATE", "'2026-01-31'", "2026-01-31", []),
        ("DATETIME", "'2026-01-31 12:00:00'", "2026-01-31 12:00:00", []),
        ("BLOB", "x'00ff'", "00ff", ["0", "00FF"]),
    ],
)
def test_sqlite_deletes_by_a_key_of_any_type(
    tmp_path: Path, declared: str, stored: str, item: Item, unholdable: list[Item]
) -> None:
    with place("sqlite", tmp_path) as base:
        base.run(
            f"CREATE TABLE rows (id {declared} PRIMARY KEY)", f"INSERT INTO rows VALUES ({stored})"
        )
        adapter = base.adapter(query_columns=["id"])
        (found,) = adapter.find({"where": [{"column": "id", "op": "is_not_null"}]}, until=soon())

        told = verdicts(adapter.delete(by_key(adapter, [item, *unholdable]), until=soon()))

        assert found == item
        assert told.pop(adapter.key(item)) == "deleted"
        assert set(told.values()) <= {"rejected"}
        adapter.close()


def test_a_column_that_ignores_case_loses_only_what_was_named(tmp_path: Path) -> None:
    with place("sqlite", tmp_path) as base:
        base.run(
            "CREATE TABLE rows (id TEXT COLLATE NOCASE PRIMARY KEY)",
            "INSERT INTO rows VALUES ('a')",
        )
        adapter = base.adapter()

        assert verdicts(adapter.delete({"A": "A"}, until=soon())) == {"A": "absent"}
        assert base.run("SELECT id FROM rows") == [("a",)]
        adapter.close()


@given(item=st.text() | st.integers())
@settings(max_examples=100)
def test_no_item_is_altered_on_its_way_into_a_key(item: str | int) -> None:
    adapter = SqlTable(
        SqlTableSettings(adapter="sql_table", url="sqlite:///x", table="t", key=["id"]),
        pace=FreePace(),
    )
    try:
        assert adapter.key(item) == str(item)
    except BadItem:
        assert item == "" or len(str(item)) > 4_000 or not str(item).isprintable()


# -- rows that are kept -----------------------------------------------------------

PARENTS = "CREATE TABLE rows (id INTEGER PRIMARY KEY)"
CHILDREN = "CREATE TABLE children (row INTEGER NOT NULL REFERENCES rows (id) {rule})"
HUNDRED = [f"INSERT INTO rows VALUES ({number})" for number in range(100)]


@pytest.mark.parametrize("rule", ["", "ON DELETE RESTRICT", "DEFERRABLE INITIALLY DEFERRED"])
def test_a_protected_row_is_denied_and_the_others_are_deleted(base: Place, rule: str) -> None:
    kept = (3, 50, 51)
    children = [f"INSERT INTO children VALUES ({number})" for number in kept]
    base.run(PARENTS, CHILDREN.format(rule=rule).replace(" row ", ' "row" '), *HUNDRED, *children)
    adapter = base.adapter()

    reply = adapter.delete(by_key(adapter, range(100)), until=soon(60))

    assert {key for key, code in codes(reply).items() if code == "foreign_key"} == set(
        map(str, kept)
    )
    assert list(verdicts(reply).values()).count("deleted") == 97
    assert base.run("SELECT id FROM rows ORDER BY id") == [(number,) for number in kept]
    adapter.close()


@pytest.mark.parametrize("code", ["P0001", "P0004", "45000", "27000", "38000", "MY001"])
def test_whatever_a_trigger_raises_takes_nobody_along(tmp_path: Path, code: str) -> None:
    with place("postgresql", tmp_path) as base:
        raising(base, code)

        reply = base.adapter().delete({"1": 1, "2": 2, "3": 3}, until=soon())

        assert codes(reply) == {"1": None, "2": "trigger", "3": None}
        assert verdicts(reply)["2"] == "denied"


def test_a_value_that_a_trigger_cannot_reckon_with_takes_nobody_along(tmp_path: Path) -> None:
    with place("postgresql", tmp_path) as base:
        raising(base, "22012")

        reply = base.adapter().delete({"1": 1, "2": 2, "3": 3}, until=soon())

        assert verdicts(reply) == {"1": "deleted", "2": "rejected", "3": "deleted"}


@pytest.mark.parametrize(
    ("code", "kind", "may_have_run", "closes"),
    [
        # As a replica says it, whoever reads from it.
        ("25006", Hopeless, False, True),
        ("42501", Hopeless, False, False),
        # As a proxy before the database says that it lost it.
        ("08006", Transient, True, None),
        ("40001", Transient, False, None),
        ("57014", Transient, False, None),
        ("XX001", Hopeless, False, False),
    ],
)
def test_an_error_is_sorted_by_its_class(
    tmp_path: Path,
    code: str,
    kind: type[CallFailed],
    closes: bool | None,  # noqa: FBT001 - a column of the table
    *,
    may_have_run: bool,
) -> None:
    with place("postgresql", tmp_path) as base:
        raising(base, code)

        with pytest.raises(kind) as failure:
            base.adapter().delete({"2": 2}, until=soon())

        assert failure.value.may_have_run is may_have_run
        assert getattr(failure.value, "closes_target", None) is closes


def raising(base: Place, code: str) -> None:
    """A table of which the row 2 raises an error when it is deleted."""
    base.run(
        PARENTS,
        *HUNDRED[:4],
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF OLD.id = 2"
        f" THEN RAISE 'no' USING ERRCODE = '{code}'; END IF; RETURN OLD; END$$",
        "CREATE TRIGGER keep BEFORE DELETE ON rows FOR EACH ROW EXECUTE FUNCTION keep()",
    )


def test_a_row_that_a_trigger_keeps_is_denied(base: Place) -> None:
    base.run(PARENTS, *HUNDRED[:4])
    if base.kind == "sqlite":
        base.run(
            "CREATE TRIGGER keep BEFORE DELETE ON rows WHEN OLD.id = 2"
            " BEGIN SELECT RAISE(IGNORE); END",
            "CREATE TRIGGER refuse BEFORE DELETE ON rows WHEN OLD.id = 3"
            " BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
    else:
        base.run(
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
            " IF OLD.id = 2 THEN RETURN NULL; END IF;"
            " IF OLD.id = 3 THEN RAISE EXCEPTION 'no'; END IF; RETURN OLD; END$$",
            "CREATE TRIGGER keep BEFORE DELETE ON rows FOR EACH ROW EXECUTE FUNCTION keep()",
        )
    adapter = base.adapter()

    reply = adapter.delete(by_key(adapter, [0, 1, 2, 3, 9]), until=soon())

    refused = "constraint" if base.kind == "sqlite" else "trigger"
    assert codes(reply) == {"0": None, "1": None, "2": "kept_by_trigger", "3": refused, "9": None}
    assert verdicts(reply)["9"] == "absent"
    assert base.run("SELECT id FROM rows ORDER BY id") == [(2,), (3,)]
    adapter.close()


# -- what is wrong with the target --------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"table": "nowhere"}, "is not there"),
        ({"key": "no"}, "has no column no"),
        ({"key": "loose"}, "is not unique"),
        ({"query_columns": ["no"]}, "has no column no"),
    ],
)
def test_a_table_that_is_not_as_configured_closes_the_target(
    base: Place, changes: dict[str, Any], said: str
) -> None:
    base.run("CREATE TABLE rows (id INTEGER PRIMARY KEY, loose INTEGER)")
    adapter = base.adapter(**changes)

    for ask in (adapter.check, lambda until: adapter.delete({"1": 1}, until=until)):
        with pytest.raises(Hopeless, match=said) as failure:
            ask(until=soon())
        assert failure.value.closes_target
        assert not failure.value.may_have_run
    adapter.close()


def test_a_part_of_a_compound_key_is_no_key(base: Place) -> None:
    base.run("CREATE TABLE rows (id INTEGER, other INTEGER, PRIMARY KEY (id, other))")

    with pytest.raises(Hopeless, match="is not unique"):
        base.adapter().check(until=soon())


def test_a_partial_index_makes_no_key(base: Place) -> None:
    base.run(
        "CREATE TABLE rows (id INTEGER, dead INTEGER)",
        "CREATE UNIQUE INDEX one ON rows (id) WHERE dead = 0",
    )

    with pytest.raises(Hopeless, match="is not unique"):
        base.adapter().check(until=soon())


def test_a_missing_right_is_told_by_the_check(tmp_path: Path) -> None:
    with place("postgresql", tmp_path) as base:
        role = base.url.rsplit("/", 1)[-1].split("?")[0] + "_reader"
        base.run(
            PARENTS, HUNDRED[0], f"CREATE ROLE {role} LOGIN", f"GRANT SELECT ON rows TO {role}"
        )
        adapter = base.adapter(url=base.url.replace("postgres@", f"{role}@"))

        for ask in (adapter.check, lambda until: adapter.delete({"0": 0}, until=until)):
            with pytest.raises(Hopeless, match="permission denied"):
                ask(until=soon())
        adapter.close()
        base.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    adapter = SqlTable(
        SqlTableSettings(
            adapter="sql_table", url=f"sqlite:///{tmp_path / 'no'}", table="t", key=["id"]
        ),
        pace=FreePace(),
    )

    with pytest.raises(Hopeless) as failure:
        adapter.check(until=soon())
    assert failure.value.closes_target
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    ["postgresql://me:secret@db/x", "mysql://db/x", "sqlite://", "sqlite:///:memory:", "db", 7],
)
def test_an_address_with_a_password_or_of_another_kind_is_refused(url: Any) -> None:
    with pytest.raises(ValidationError) as refusal:
        SqlTableSettings.model_validate(
            {"adapter": "sql_table", "url": url, "table": "t", "key": "id"}
        )
    assert "secret@" not in str(refusal.value.errors(include_input=False))


def test_an_address_may_lie_in_a_secret(base: Place, tmp_path: Path) -> None:
    base.run(PARENTS, HUNDRED[0])
    (tmp_path / "url").write_text(base.url + "\n")
    adapter = base.adapter(url={"file": str(tmp_path / "url")})

    assert verdicts(adapter.delete({"0": 0}, until=soon())) == {"0": "deleted"}
    adapter.close()


def test_every_request_passes_the_pace(base: Place) -> None:
    base.run(PARENTS, *HUNDRED[:2])
    adapter = base.adapter()
    pace = adapter._pace
    assert isinstance(pace, FreePace)

    adapter.check(until=soon())
    assert pace.entered == 2
    adapter.probe({"0": 0}, until=soon())
    assert pace.entered == 3
    adapter.delete({"0": 0}, until=soon())
    assert pace.entered == 4
    # Where fewer were there than were named, they are named again, to be told.
    adapter.delete({"1": 1, "7": 7}, until=soon())
    assert pace.entered == (6 if base.kind == "postgresql" else 5)


# -- faults that pass ------------------------------------------------------------------


def test_nobody_there_has_done_nothing() -> None:
    adapter = SqlTable(
        SqlTableSettings(
            adapter="sql_table", url="postgresql://me@127.0.0.1:1/x", table="t", key=["id"]
        ),
        pace=FreePace(),
    )

    with pytest.raises(Transient) as failure:
        adapter.check(until=soon())
    assert not failure.value.may_have_run


def test_a_lost_connection_may_have_done_it(tmp_path: Path) -> None:
    with place("postgresql", tmp_path) as base:
        base.run(PARENTS, *HUNDRED[:2])
        adapter = base.adapter()
        adapter.check(until=soon())
        with base.connect() as blocker:
            blocker.execute("SELECT * FROM rows WHERE id = 0 FOR UPDATE")
            killer = threading.Thread(target=kill_the_deletion, args=[base])
            killer.start()

            with pytest.raises(Transient) as failure:
                adapter.delete({"0": 0}, until=soon())

            killer.join()
        assert failure.value.may_have_run
        assert verdicts(adapter.delete({"0": 0}, until=soon())) == {"0": "deleted"}
        adapter.close()


def kill_the_deletion(base: Place) -> None:
    """End the session that waits for a row."""
    killed = False
    while not killed:
        killed = bool(
            base.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND query LIKE 'DELETE%'"
            )
        )


def test_an_idle_connection_that_had_ended_has_done_nothing(tmp_path: Path) -> None:
    with place("postgresql", tmp_path) as base:
        base.run(PARENTS, *HUNDRED[:2])
        adapter = base.adapter()
        adapter.check(until=soon())
        base.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE '%sql_table'"
        )

        with pytest.raises(Transient) as failure:
            adapter.delete({"0": 0}, until=soon())
        assert not failure.value.may_have_run
        assert verdicts(adapter.delete({"0": 0}, until=soon())) == {"0": "deleted"}
        adapter.close()


def test_a_statement_ends_at_the_deadline(base: Place) -> None:
    base.run(PARENTS, *HUNDRED[:2])
    adapter = base.adapter()
    adapter.check(until=soon())
    blocker = base.connect()
    blocker.cursor().execute("DELETE FROM rows WHERE id = 0")

    until = Deadline(timedelta(seconds=1))
    with pytest.raises(Transient) as failure:
        adapter.delete({"0": 0}, until=until)

    assert -1 < until.seconds_left < 0.3
    assert not failure.value.may_have_run
    blocker.rollback()
    blocker.close()
    assert verdicts(adapter.delete({"0": 0}, until=soon())) == {"0": "deleted"}
    adapter.close()


# -- queries --------------------------------------------------------------------------


@pytest.fixture
def dated(base: Place) -> Iterator[SqlTable]:
    """2,500 rows, every other one of them old."""
    base.run(
        "CREATE TABLE rows (id INTEGER PRIMARY KEY, kind VARCHAR(9), made TIMESTAMP, secret TEXT)",
        "INSERT INTO rows WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
        " WHERE i < 2500) SELECT i, CASE WHEN i < 11 THEN 'few' ELSE 'it''s' END,"
        + (
            " datetime('now', '-' || CASE i % 2 WHEN 0 THEN 100 ELSE 10 END || ' days'), 'x' FROM n"
            if base.kind == "sqlite"
            else " now() - (CASE i % 2 WHEN 0 THEN 100 ELSE 10 END) * interval '1 day', 'x' FROM n"
        ),
    )
    adapter = base.adapter(query_columns=["id", "kind", "made"])
    yield adapter
    adapter.close()


OLD = {"older_than": {"column": "made", "age": "90d"}}


def test_old_rows_are_found_page_by_page(dated: SqlTable) -> None:
    assert list(dated.find(OLD, until=soon())) == list(range(2, 2501, 2))


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ({"column": "kind", "op": "=", "value": "few"}, 10),
        ({"column": "kind", "op": "=", "value": "it's"}, 2490),
        ({"column": "kind", "op": "=", "value": "' OR 1=1-"}, 0),
        ({"column": "kind", "op": "!=", "value": "few"}, 2490),
        ({"column": "id", "op": "<=", "value": 5}, 5),
        ({"column": "id", "op": "in", "value": [1, "2", 9999]}, 2),
        ({"column": "made", "op": "is_null"}, 0),
    ],
)
def test_a_condition_finds_its_rows(dated: SqlTable, where: dict[str, Any], count: int) -> None:
    assert len(list(dated.find({"where": [where]}, until=soon()))) == count


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"where": []},
        {"where": [{"column": "secret", "op": "=", "value": "x"}]},
        {"where": [{"column": "id", "op": "= 1 OR 1", "value": 1}]},
        {"where": [{"column": "id", "op": "in", "value": []}]},
        {"where": [{"column": "id", "op": "=", "value": None}]},
        {"older_than": {"column": "made"}},
        {"older_than": {"column": "made", "age": "-1d"}},
        {"sql": "1=1"},
        {"where": "1=1"},
    ],
)
def test_a_query_that_narrows_nothing_or_names_more_is_refused(
    dated: SqlTable, query: dict[str, Any]
) -> None:
    with pytest.raises(BadQuery):
        dated.check_query(query)
    with pytest.raises(BadQuery):
        list(dated.find(query, until=soon()))


@pytest.mark.parametrize(
    "query",
    [
        {"where": [{"column": "id", "op": "=", "value": "x"}]},
        {"where": [{"column": "id", "op": "=", "value": True}]},
        {"older_than": {"column": "id", "age": "1d"}},
    ],
)
def test_a_value_of_another_type_is_refused(dated: SqlTable, query: dict[str, Any]) -> None:
    with pytest.raises(BadQuery):
        list(dated.find(query, until=soon()))


def test_an_age_is_reckoned_once(dated: SqlTable) -> None:
    frozen = dated.freeze(OLD, until=soon())

    assert set(frozen["older_than"]) == {"column", "before"}
    assert dated.freeze(frozen, until=soon()) == frozen
    assert list(dated.find(frozen, until=soon())) == list(range(2, 2501, 2))


def test_a_row_that_no_longer_matches_is_denied(dated: SqlTable, base: Place) -> None:
    frozen = dated.freeze(OLD, until=soon())
    base.run(
        "UPDATE rows SET made = CURRENT_TIMESTAMP WHERE id = 2", "DELETE FROM rows WHERE id = 6"
    )
    base.run("UPDATE rows SET made = NULL WHERE id = 8")

    reply = dated.delete_found(by_key(dated, [2, 4, 6, 8]), frozen, until=soon())

    assert_sound(reply, ["2", "4", "6", "8"])
    assert verdicts(reply) == {"2": "denied", "4": "deleted", "6": "absent", "8": "denied"}
    assert codes(reply)["2"] == codes(reply)["8"] == "no_longer_matches"
