"""Snapshots in parts, without a digit lost."""

import msgspec
import pytest
from msgspec import Raw

from penstock.schemas.checkpoints import Value, decode, joined, snapshots

EXACT = Raw(b'{"a": [1.00, 1000000000000000000000000000000000000000001, "\\u00e9 : "]}')
KEYS = {f"k{n}": Value(version=n, value=EXACT) for n in range(10)}


@pytest.mark.parametrize("room", [1, 100, 250, 10**6])
def test_parts_hold_every_key_once_and_as_it_was(room: int) -> None:
    parts = snapshots(KEYS, room)
    sent = [decode(msgspec.json.encode(part)) for part in parts]
    found = joined(sent)
    assert found is not None
    assert found.keys() == KEYS.keys()
    assert all(found[key].same_as(KEYS[key]) for key in KEYS)
    assert all(len(msgspec.json.encode(part.keys)) <= room or len(part.keys) == 1 for part in parts)
    if len(sent) > 1:
        assert joined(sent[1:]) is None


def test_no_keys_are_one_part() -> None:
    (empty,) = snapshots({}, 100)
    assert joined([decode(msgspec.json.encode(empty))]) == {}


def test_a_snapshot_of_an_agents_own_is_none_of_ours() -> None:
    for own in (b"{}", b'{"keys": {}}', b"null", b'{"plan": 1}'):
        with pytest.raises(msgspec.ValidationError):
            decode(own)


def test_the_same_value_may_be_written_differently() -> None:
    assert Value(value=Raw(b'{"a":1}')).same_as(Value(value=Raw(b'{"a": 1}'), version=7))
    assert not Value(value=Raw(b"1.0")).same_as(Value(value=Raw(b"1.00")))
