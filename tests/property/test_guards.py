"""Guards in bytes are compared as the arrays that they stand for, however they are written."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock.worker.nats.kv.guard import is_ahead

elements = st.lists(st.integers(-(2**63), 2**63 - 1) | st.text(), max_size=6)
written = st.sampled_from([(", ", ": "), (",", ":"), (" ,\n", ":")])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[list[Any], list[Any]]:
    """Two guards of one view: mostly one is the other with a few elements changed."""
    one = draw(elements)
    other = [
        draw(st.just(each) | (st.integers() if isinstance(each, int) else st.text()))
        for each in one
    ]
    return one, draw(st.just(other) | elements)


def ahead(one: list[Any], other: list[Any]) -> bool:
    """The definition: greater, element by element; newer than what is not comparable."""
    try:
        return one > other
    except TypeError:
        return True


@given(both=pairs(), separators=st.tuples(written, written), escaped=st.booleans())
def test_bytes_decide_as_the_arrays_do(
    both: tuple[list[Any], list[Any]], separators: Any, *, escaped: bool
) -> None:
    one, other = both
    ours, theirs = (
        json.dumps(each, separators=how, ensure_ascii=escaped).encode()
        for each, how in zip(both, separators, strict=True)
    )
    assert is_ahead(ours, theirs) is ahead(one, other)
    assert is_ahead(ours, ours) is False
