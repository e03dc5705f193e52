"""Hostile items from files, by the command line, and what it writes of them."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.integration.hostile_tables import HALF, Deployment, standing


@dataclass(frozen=True)
class Form:
    """A form of file."""

    options: tuple[str, ...]
    #: Whether a text can be said in it at all.
    can_say: Callable[[str], bool]
    write: Callable[[list[str]], str]


def as_json_lines(texts: list[str]) -> str:
    # Half of a pair can only be said by its number.
    lines = [json.dumps(text, ensure_ascii=bool(HALF.search(text))) for text in texts]
    return "\n".join(lines)


def as_csv(texts: list[str]) -> str:
    out = io.StringIO(newline="")
    rows = [["name", "id"], *(["a, b", text] for text in texts)]
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows(rows)
    return out.getvalue()


FORMS = {
    "jsonl": Form(("--format", "jsonl"), lambda text: True, as_json_lines),
    "csv": Form(
        ("--column", "id"), lambda text: bool(text.strip()) and not HALF.search(text), as_csv
    ),
    "plain": Form(
        (),
        lambda text: bool(text.strip()) and not HALF.search(text) and not re.search("\n|\r$", text),
        "\n".join,
    ),
}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("rows")
    tables = ["rows", "rows_arguments", *(f"rows_{form}" for form in FORMS)]
    with standing("sqlite", directory, texts=tables) as deployment:
        yield deployment


@pytest.mark.parametrize("name", FORMS)
def test_a_file_asks_for_exactly_what_stands_there(deployment: Deployment, name: str) -> None:
    form = FORMS[name]
    asked = [text for text in deployment.asked() if form.can_say(text)]
    file = deployment.service.directory / f"items.{name}"
    file.write_bytes(form.write(asked).encode())

    ended = deployment.run("submit", f"rows_{name}", "--from", str(file), *form.options)

    assert (ended.code, ended.err) == (0, "")
    exactly_these_are_gone(deployment, f"rows_{name}", asked, job=ended.out.strip())


def test_an_argument_asks_for_exactly_what_stands_there(deployment: Deployment) -> None:
    # The system knows no argument with a zero byte; a byte that is no UTF-8 is half a pair.
    asked = [text for text in deployment.asked() if "\0" not in text and not HALF.search(text)]

    ended = deployment.run("submit", "rows_arguments", "--", *asked, "\udcff")

    assert (ended.code, ended.err) == (0, "")
    asked = [*asked, "\udcff"]
    exactly_these_are_gone(deployment, "rows_arguments", asked, job=ended.out.strip())


def exactly_these_are_gone(
    deployment: Deployment, table: str, asked: list[str], *, job: str
) -> None:
    """Every text came back as it was asked for, and those that were there are gone."""
    outcomes = deployment.outcomes(job)
    there = set(deployment.tables.texts)
    assert [json.dumps(one.item) for one in outcomes] == [json.dumps(text) for text in asked]
    assert {one.item for one in outcomes if one.verdict == "deleted"} == there.intersection(asked)
    assert deployment.tables.left(table) == sorted(there.difference(asked))


@dataclass(frozen=True)
class Job:
    """A job of hostile texts, and of values that are no items."""

    id: str
    items: list[object]


NO_ITEMS = [True, None, ["=1"], 1.5, {"a": "=1\x1b[2J"}, -5, 10**4_000]


@pytest.fixture(scope="module")
def job(deployment: Deployment) -> Job:
    items = [*deployment.asked(), *NO_ITEMS]
    with deployment.service.client() as client:
        id_ = client.submit("rows", items)
        client.wait(id_)
    return Job(id_, items)


def test_json_lines_give_every_item_back_as_it_was_given(deployment: Deployment, job: Job) -> None:
    ended = deployment.run("results", job.id, "--format", "jsonl")

    lines = ended.out.split("\n")[:-1]
    assert ended.out.isascii()
    told = [json.dumps(json.loads(line)["item"]) for line in lines]
    assert told == [json.dumps(item) for item in job.items]


def test_csv_holds_every_item_and_no_formula(deployment: Deployment, job: Job) -> None:
    path = deployment.service.directory / "results.csv"

    ended = deployment.run("results", job.id, "--format", "csv", "--output", str(path))

    assert ended.code == 0, ended.err
    with path.open(encoding="utf-8", newline="") as file:
        cells = [row[1] for row in csv.reader(file)][1:]
    told = [cell_of(item) for item in job.items]
    assert [one.removeprefix("'") for one in cells] == [one.removeprefix("'") for one in told]
    assert [
        cell for cell in cells if re.match("[\\s\0\ufeff]*[=+@\uff1d\uff0b\uff20-]", cell)
    ] == []


def cell_of(item: object) -> str:
    """An item in CSV, before it is guarded."""
    match item:
        case None:
            return ""
        case str():
            return item.encode("utf-8", "backslashreplace").decode()
        case _:
            return json.dumps(item, separators=(",", ":"))


def test_a_table_holds_no_character_that_steers_a_terminal(
    deployment: Deployment, job: Job
) -> None:
    ended = deployment.run("results", job.id, "--format", "table")

    lines = ended.out.split("\n")
    assert len(lines) == len(job.items) + 2
    assert [ascii(line) for line in lines if not line.isprintable()] == []
