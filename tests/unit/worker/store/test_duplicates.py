"""Whether a print stands twice is told of large parts too."""

from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import new_job
from worker.admitting import admit
from worker.store import duplicates
from worker.store.migrations import prepare
from worker.store.sql import SqlStore


@given(st.lists(st.integers(0, 2**64 - 1)), st.integers(1, 5))
def test_prints_are_compared_as_one_whatever_is_in_memory_at_once(
    prints: list[int], at_once: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(duplicates, "AT_ONCE", at_once)

        assert duplicates.are_distinct(array("Q", prints)) == (len(set(prints)) == len(prints))


def test_one_print_of_many_that_stands_twice_is_seen() -> None:
    many = array("Q", range(0, 2**63, 2**63 // (3 * duplicates.AT_ONCE)))

    assert duplicates.are_distinct(many)
    assert not duplicates.are_distinct(many + array("Q", [many[-1]]))


def test_of_keys_that_ascend_no_print_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(duplicates, "_doubled")
    url = f"sqlite:///{tmp_path / 'store.sqlite3'}"
    prepare(url)
    store = SqlStore(url)
    job = store.open(new_job(chunk_items=3)).id
    for number, items in enumerate(([8, 9, 10], [11, 200])):
        store.append(
            job,
            admit(
                items,
                target="crm",
                key_of=str,
                keys_of=lambda some: list(map(str, some)),
                number=number,
                chunk_items=3,
            ),
        )
    store.seal(job, 2)

    assert store.drop_duplicates(job).items == 5
    store.close()
