"""One call in several requests."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from api_adapters.base import Finding, Reply, Verdict
from api_adapters.errors import Refused
from api_adapters.parting import cut_by_length, in_parts

DELETED = Finding(Verdict.DELETED)


@given(st.lists(st.text(min_size=1, max_size=9)), st.integers(1, 30))
def test_parts_rejoin_to_the_whole_and_fit(keys: list[str], most: int) -> None:
    parts = list(cut_by_length(keys, most=most))

    assert [key for part in parts for key in part] == keys
    assert all(len(part) == 1 or len(",".join(part)) <= most for part in parts)


def test_after_a_failure_the_rest_is_unsent() -> None:
    def delete(part: Sequence[str]) -> Reply:
        if "c" in part:
            raise Refused("no")
        return Reply(dict.fromkeys(part, DELETED))

    reply = in_parts([["a", "b"], ["c"], ["d"], ["e"]], delete)

    assert set(reply.findings) == {"a", "b"}
    assert reply.unsent == {"d", "e"}
    assert isinstance(reply.error, Refused)


def test_a_failure_within_a_part_ends_the_call_too() -> None:
    failed = Reply({"a": DELETED}, unsent=frozenset("b"), error=Refused("no"))

    reply = in_parts([["a", "b"], ["c"]], lambda part: failed)

    assert (reply.unsent, reply.error) == ({"b", "c"}, failed.error)
