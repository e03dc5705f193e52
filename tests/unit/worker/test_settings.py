"""Reading deletions.toml."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from api_adapters.base import Adapter, Checked, Deadline, Item, Limits, Pace, Reply
from api_adapters.errors import BadSettings
from api_adapters.settings import HttpSettings, Secret, TargetSettings
from worker.errors import BadConfiguration
from worker.failing import Tolerance
from worker.settings import Configuration, find_configuration, load_configuration
from worker.template import TEMPLATE


class PlainSettings(HttpSettings):
    token: Secret
    oauth: dict[str, Secret] | None = None
    key: str | list[str] = "id"
    probe: Literal["query", "path"] = "query"


class Plain(Adapter):
    Settings: ClassVar[type[TargetSettings]] = PlainSettings
    limits = Limits(max_items_per_call=100, max_in_flight=2, requests_per_second=5.0)
    identity: ClassVar[tuple[str, ...]] = ("base_url", "key")

    def __init__(self, settings: Any, *, pace: Pace) -> None:
        raise NotImplementedError

    def key(self, item: Item) -> str:
        raise NotImplementedError

    def delete(self, items: Mapping[str, Item], *, until: Deadline) -> Reply:
        raise NotImplementedError

    def check(self, *, until: Deadline) -> Checked:
        raise NotImplementedError


class SqlSettings(TargetSettings):
    url: Secret | str


class Sql(Plain):
    Settings = SqlSettings
    identity = ("url",)


class TwoAdapters:
    """Knows two adapters, as the registry knows the installed ones."""

    def load(self, name: str) -> type[Adapter]:
        known: dict[str, type[Adapter]] = {"plain": Plain, "sql": Sql}
        if name not in known:
            raise BadSettings(f"names adapter {name!r}; installed: plain, sql")
        return known[name]

    def installed(self) -> list[str]:
        return ["plain", "sql"]


Load = Callable[[str], Configuration]

CRM = """
[targets.crm]
adapter = "plain"
base_url = "https://crm.example.com/prefix/"
token = { env = "CRM_TOKEN" }
"""


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str) -> Configuration:
        path = tmp_path / "deletions.toml"
        path.write_text(text, encoding="utf-8")
        return load_configuration(path, adapters=TwoAdapters())

    return load


@pytest.fixture
def faults(load: Load) -> Callable[[str], tuple[str, ...]]:
    def faults(text: str) -> tuple[str, ...]:
        with pytest.raises(BadConfiguration) as caught:
            load(text)
        return caught.value.faults

    return faults


Faults = Callable[[str], tuple[str, ...]]


def test_the_template_is_a_valid_configuration(tmp_path: Path) -> None:
    path = tmp_path / "deletions.toml"
    path.write_text(TEMPLATE)

    found = load_configuration(path)

    assert list(found.targets) == ["practice"]
    assert found.targets["practice"].address == "http://127.0.0.1:8411/api/v1"


def test_every_example_of_the_template_is_toml_of_a_known_section(tmp_path: Path) -> None:
    lines = [
        line.removeprefix("# ") if line.startswith("# [") else line for line in TEMPLATE.split("\n")
    ]
    path = tmp_path / "deletions.toml"
    path.write_text("\n".join(lines))

    with pytest.raises(BadConfiguration) as caught:
        load_configuration(path)

    assert not [fault for fault in caught.value.faults if "unknown section" in fault]


def test_an_empty_file_has_the_defaults(load: Load) -> None:
    found = load("")

    assert found.store.retain_for == timedelta(days=30)
    assert found.targets == {}


def test_forever_has_to_be_written_out(load: Load, faults: Faults) -> None:
    assert load('[store]\nretain_for = "forever"').store.retain_for is None
    assert faults("[store]\nretain_for = 0") == (
        (
            'store.retain_for: expected a duration such as "30s", "5m", "6h", "90d" or "2w", '
            'or "forever"'
        ),
    )


def test_targets_stand_in_the_order_of_the_file(load: Load) -> None:
    found = load(CRM.replace("crm", "b") + CRM.replace("crm", "a") + CRM)

    assert list(found.targets) == ["b", "a", "crm"]


def test_a_target_overlays_the_limits_of_its_adapter(load: Load) -> None:
    target = load(CRM + 'max_items_per_call = 7\ntimeout = "5s"\nmax_attempts = 2').targets["crm"]

    assert target.limits == Limits(
        max_items_per_call=7,
        max_in_flight=2,
        requests_per_second=5.0,
        timeout=timedelta(seconds=5),
    )
    assert target.max_attempts == 2


def test_found_items_have_a_brake_unasked_and_given_items_have_none(load: Load) -> None:
    plain = load(CRM).targets["crm"]
    own = load(CRM + "max_items = 20000").targets["crm"]

    assert (plain.max_given_items, plain.max_found_items) == (None, 10_000)
    assert (own.max_given_items, own.max_found_items) == (20_000, 20_000)


def test_a_target_has_the_brakes_that_it_says(load: Load) -> None:
    plain = load(CRM).targets["crm"]
    own = load(
        CRM + 'protect = ["admin-*", "root"]\nmax_failures = 1\nfailures_after = 10'
    ).targets["crm"]

    assert (plain.settings.protect, plain.tolerance) == ((), Tolerance(0.5, 1_000))
    assert (own.settings.protect, own.tolerance) == (("admin-*", "root"), Tolerance(1.0, 10))
    assert own.fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('protect = "admin-*"', "protect: expected a list"),
        ("protect = [7]", "protect.0: expected text in quotes"),
        ('protect = [""]', "protect.0: expected text that is not empty"),
        ("max_failures = 0", "max_failures: expected a value greater than 0"),
        ("max_failures = 1.5", "max_failures: expected a value less than or equal to 1"),
        ("failures_after = 0", "failures_after: expected a value greater than or equal to 1"),
    ],
)
def test_a_wrong_brake_is_told(faults: Faults, line: str, expected: str) -> None:
    assert faults(CRM + line) == (f"targets.crm.{expected}",)


def test_a_target_keeps_items_as_long_as_it_says_itself(load: Load) -> None:
    found = load('[store]\nretain_for = "forever"' + CRM + 'retain_for = "7d"')

    assert found.retention_of("crm") == timedelta(days=7)
    assert found.retention_of("another") is None


def test_pace_and_credentials_leave_the_fingerprint_alone(load: Load) -> None:
    one = load(CRM).targets["crm"].fingerprint
    two = load(CRM.replace("CRM_TOKEN", "OTHER") + "max_in_flight = 9").targets["crm"].fingerprint

    assert one == two
    assert len(bytes.fromhex(one)) == 16


def test_what_is_deleted_changes_the_fingerprint(load: Load) -> None:
    fingerprints = {
        load(CRM + line).targets["crm"].fingerprint
        for line in ("", 'key = "other"', 'key = ["id", "other"]')
    }
    fingerprints.add(load(CRM.replace("/prefix/", "")).targets["crm"].fingerprint)

    assert len(fingerprints) == 4


def test_a_rotated_password_in_an_address_leaves_the_fingerprint_alone(load: Load) -> None:
    sql = '[targets.t]\nadapter = "sql"\nurl = "postgresql://me:{}@db/shop"'

    one, two = (load(sql.format(word)).targets["t"] for word in ("old", "n:e@w"))

    assert one.fingerprint == two.fingerprint
    assert one.address == "postgresql://db/shop"


def test_a_secret_address_is_told_by_its_place(load: Load) -> None:
    target = load('[targets.t]\nadapter = "sql"\nurl = { env = "SHOP_URL" }').targets["t"]

    assert target.address == "the address in SHOP_URL"


def test_relative_paths_are_beside_the_file(load: Load, tmp_path: Path) -> None:
    crm = CRM.replace('{ env = "CRM_TOKEN" }', '{ file = "crm.token" }')
    found = load(crm + '[targets.t]\nadapter = "sql"\nurl = "sqlite:///shop.db"')

    crm_settings = found.targets["crm"].settings
    assert isinstance(crm_settings, PlainSettings)
    assert crm_settings.token.file == str(tmp_path / "crm.token")
    assert found.targets["t"].address == f"sqlite:///{tmp_path}/shop.db"


def test_all_faults_are_told_at_once(faults: Faults) -> None:
    text = """
    [stores]
    [store]
    retain_for = "soon"
    keep = 1
    [targets.crm]
    adapter = "plain"
    base_url = "ftp://crm"
    tokn = { env = "CRM_TOKEN" }
    key = 3
    probe = "both"
    max_in_flight = 0
    [targets.old]
    adapter = "nimbel"
    [purges.nightly]
    target = "crn"
    query = {}
    cron = "15 3 * *"
    timezone = "Mars/Olympus"
    overlap = "wait"
    [notify.crm]
    task = ""
    """

    assert faults(text) == (
        "stores: unknown section; did you mean store?",
        (
            'store.retain_for: expected a duration such as "30s", "5m", "6h", "90d" or "2w", '
            'or "forever"'
        ),
        "store.keep: unknown key; expected one of retain_for",
        "targets.crm.max_in_flight: expected a value greater than or equal to 1",
        (
            'targets.crm.base_url: expected an address such as "https://host/prefix", '
            "without user, query or fragment"
        ),
        "targets.crm.token: is missing",
        "targets.crm.key: expected text in quotes, or expected a list",
        "targets.crm.probe: expected 'query' or 'path'",
        "targets.crm.tokn: unknown key; did you mean token?",
        "targets.old.adapter: target 'old' names adapter 'nimbel'; installed: plain, sql",
        "purges.nightly.target: expected a target of this file: crm, old",
        "purges.nightly.query: expected a query that asks for something, it is empty",
        (
            "purges.nightly.cron: expected five fields, minute hour day month weekday, "
            'such as "15 3 * * *"'
        ),
        'purges.nightly.timezone: expected a time zone such as "Europe/Berlin" or "UTC"',
        "purges.nightly.overlap: expected 'skip' or 'queue'",
        "notify.crm.task: expected text that is not empty",
        "notify.crm.queue: is missing",
    )


@pytest.mark.parametrize(
    "line",
    [
        'token = "hunter2"',
        'token = { env = "A", file = "hunter2" }',
        'token = { value = "hunter2" }',
        'token = ["hunter2"]',
        'password = "hunter2"',
        'token = { env = "A" }\noauth = { client_secret = "hunter2" }',
        'token = { env = "A" }\nproxy = "http://me:hunter2@proxy"',
    ],
)
def test_a_literal_secret_is_refused_and_never_shown(faults: Faults, line: str) -> None:
    found = faults(CRM.replace('token = { env = "CRM_TOKEN" }', line))

    assert found
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize("schedule", ["", 'cron = "0 3 * * *"\nevery = "6h"'])
def test_a_purge_has_exactly_one_schedule(faults: Faults, schedule: str) -> None:
    text = f'{CRM}[purges.nightly]\ntarget = "crm"\nquery = {{ a = 1 }}\n{schedule}'

    assert faults(text) == (
        'purges.nightly: expected exactly one of cron = "15 3 * * *" and every = "6h"',
    )


def test_a_purge_has_its_defaults(load: Load) -> None:
    text = CRM + '[purges.nightly]\ntarget = "crm"\nquery = { age = "90d" }\nevery = "6h"'

    purge = load(text).purges["nightly"]

    assert (purge.every, purge.cron, purge.timezone) == (timedelta(hours=6), None, "UTC")
    assert (purge.catch_up, purge.overlap, purge.enabled, purge.trusted) == (
        "last",
        "skip",
        True,
        False,
    )


@pytest.mark.parametrize("value", ["2030-01-31", "[2030-01-31T00:00:00Z]", "inf", "{ b = nan }"])
def test_a_query_is_what_json_can_hold(faults: Faults, value: str) -> None:
    found = faults(
        f'{CRM}[purges.nightly]\ntarget = "crm"\nevery = "6h"\nquery = {{ a = {value} }}'
    )

    assert len(found) == 1
    assert found[0].startswith("purges.nightly.query: expected ")


@pytest.mark.parametrize("name", ["a b", "ü", "a" * 65, ""])
def test_names_are_short_and_plain(faults: Faults, name: str) -> None:
    found = faults(CRM.replace("targets.crm", f'targets."{name}"'))

    assert found[0].endswith("expected a name of 1 to 64 letters, digits and _ . -")


@pytest.mark.parametrize("text", ["targets = 1", "[targets]\ncrm = 1", "[[targets.crm]]", "x = 1"])
def test_what_is_no_table_is_a_fault(faults: Faults, text: str) -> None:
    assert len(faults(text)) == 1


def test_a_target_without_adapter_is_told_which_there_are(faults: Faults) -> None:
    assert faults("[targets.crm]") == (
        "targets.crm.adapter: expected the name of an adapter; installed: plain, sql",
    )


def test_a_fault_of_the_syntax_has_its_line(faults: Faults) -> None:
    (fault,) = faults(CRM + "timeout = = 3")

    assert "not TOML" in fault
    assert "line 6" in fault


def test_a_file_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    path = tmp_path / "deletions.toml"
    path.write_bytes(b'[store]\nretain_for = "\xff"')

    with pytest.raises(BadConfiguration, match="expected UTF-8, byte 22"):
        load_configuration(path, adapters=TwoAdapters())


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadConfiguration, match="cannot be read"):
        load_configuration(tmp_path / name, adapters=TwoAdapters())


def test_the_option_counts_before_the_variable_before_the_directory(tmp_path: Path) -> None:
    (tmp_path / "deletions.toml").touch()
    environ = {"DELETIONS_CONFIG": "variable.toml"}

    found = (
        find_configuration(Path("option.toml"), environ, tmp_path),
        find_configuration(None, environ, tmp_path),
        find_configuration(None, {"DELETIONS_CONFIG": ""}, tmp_path),
    )

    assert [path.name for path in found] == ["option.toml", "variable.toml", "deletions.toml"]
    assert all(path.is_absolute() for path in found)


def test_a_directory_without_configuration_is_told_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="deletions init"):
        find_configuration(None, {}, tmp_path)


def test_a_key_is_told_by_the_name_that_the_file_uses(tmp_path: Path) -> None:
    file = tmp_path / "deletions.toml"
    file.write_text(
        '[targets.t]\nadapter = "sql_table"\nurl = "sqlite:///x"\n'
        'table = "t"\nkey = "id"\nschem = "s"\n'
    )

    with pytest.raises(BadConfiguration) as caught:
        load_configuration(file)

    assert caught.value.faults == ("targets.t.schem: unknown key; did you mean schema?",)
