"""The rules of the page that no linter knows: sizes, names, docstrings, what stays out."""

import ast
import doctest
import importlib
import pkgutil
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import api_adapters
import worker

ROOT = Path(__file__).parents[2]
LONGEST = 300
#: Longer modules, each with its reason.
LONGER = {
    "worker/client.py": "one file that applications copy",
    "worker/deleting.py": "one pipeline: call, judge, record",
    "worker/tasks.py": "every task and what follows it, the one edge to Celery",
    "worker/store/base.py": "the port: mostly its promises in words",
    "worker/store/memory.py": "the port's twin: a short method for each of its many",
    "worker/store/sql.py": "the port on SQL: a short method for each of its many",
    "worker/store/reading.py": "every statement that only reads",
    "worker/store/recording.py": "the record, whose statements are read together",
    "worker/store/tables.py": "every table, read side by side",
    "worker/store/memory_rows.py": "the twin's tables, read side by side",
    "api_adapters/bas_ip.py": "one vendor, one file",
}
FORBIDDEN_NAMES = {"util", "utils", "helper", "helpers", "common", "manager", "handler", "service"}
#: Programs, the script that alembic runs, and the tasks, which doctest would have made.
WITHOUT_EXAMPLES = {"api_adapters.fakes.__main__", "worker.store.migrations.env", "worker.tasks"}


def sources() -> list[Path]:
    return [
        path
        for package in ("worker", "api_adapters")
        for path in sorted((ROOT / package).rglob("*.py"))
    ]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tracked() -> list[Path]:
    """Every file that is, or is to be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("this is no checkout")
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_no_module_is_long_without_a_reason() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in sources()}

    assert {n: long for n, long in lengths.items() if long > LONGEST and n not in LONGER} == {}
    assert set(LONGER) <= set(lengths), "a reason for a module that is not there"


def test_a_name_says_what_is_in_the_file() -> None:
    assert [name_of(p) for p in sources() if p.stem.removesuffix("s") in FORBIDDEN_NAMES] == []
    assert [name_of(p) for p in sources() if p.stem in FORBIDDEN_NAMES] == []


def undocumented(path: Path) -> Iterator[str]:
    """The module, its public classes and its public functions that have no docstring."""
    tree = ast.parse(path.read_text())
    if tree.body and not ast.get_docstring(tree):
        yield name_of(path)
    for node in tree.body:
        is_named = isinstance(node, ast.FunctionDef | ast.ClassDef)
        if is_named and not node.name.startswith("_") and not ast.get_docstring(node):
            yield f"{name_of(path)}:{node.lineno} {node.name}"


def test_whatever_is_public_has_a_docstring() -> None:
    migrations = ROOT / "worker" / "store" / "migrations" / "versions"
    written = [path for path in sources() if migrations not in path.parents]

    assert [one for path in written for one in undocumented(path)] == []


def test_the_rules_do_as_their_examples_say() -> None:
    failed, tried = [], 0
    for package in (api_adapters, worker):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name not in WITHOUT_EXAMPLES:
                done = doctest.testmod(importlib.import_module(found.name))
                tried += done.attempted
                failed += [found.name] * bool(done.failed)

    assert failed == []
    assert tried > 20


#: What must not be published, each spelled so that this file does not hold it.
LEFT_OUT = {
    "a note to ourselves": rb"\b(?:TO" + rb"DO|FIX" + rb"ME|XX" + rb"X)\b",
    "a path of this machine": rb"(?<![\w./])/(?:wo" + rb"rk|ro" + rb"ot|home/[a-z]+|Us" + rb"ers)/",
    "a host of a registry": rb"files\.python" + rb"hosted|py" + rb"pi\.org|--ind" + rb"ex-url"
    rb"|artifact" + rb"ory|reg" + rb"istry\.npm",
    "a conflict": rb"^(?:<<<<<" + rb"<< |>>>>>" + rb">> )",
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_nothing_is_published_that_is_not_for_others(what: str) -> None:
    pattern = re.compile(LEFT_OUT[what], re.MULTILINE)

    found = {name_of(path): pattern.search(path.read_bytes()) for path in tracked()}

    assert {name: match.group() for name, match in found.items() if match} == {}


def test_every_pin_of_the_lock_file_has_its_hashes() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith((" ", "#"))]

    assert pins
    assert [pin for pin in pins if "==" not in pin or not pin.endswith("\\")] == []
    assert all(
        re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", li) for li in lines if li[:1] == " "
    )
