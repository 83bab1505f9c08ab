"""What the snapshot of a checkpoint holds, if `penstock state restore` is to read it.

An event has a largest size, an agent's state has none. So a checkpoint is one or more
`AgentCheckpointed` events with the same checkpoint_id, each with a part of the keys. A value stays
the JSON that it is: nothing decodes it on the way, so no digit of a number is lost.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Literal

import msgspec
from msgspec import Raw

NULL = Raw(b"null")


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a key holds. The names are those of the bucket's documents: sequence and time of the
    change, value, expiry, the checksum that the agent gave.
    """

    version: int = msgspec.field(name="v", default=0)
    changed_at: datetime | None = msgspec.field(name="t", default=None)
    value: Raw = msgspec.field(name="val", default=NULL)
    expires_at: datetime | None = msgspec.field(name="exp", default=None)
    checksum: str | None = msgspec.field(name="sum", default=None)

    def same_as(self, other: "Value") -> bool:
        """Whether both say the same, whichever change said so."""
        return (compact(self.value), self.expires_at, self.checksum) == (
            compact(other.value),
            other.expires_at,
            other.checksum,
        )


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Part number ``part``, from 1, of ``parts``. Nothing has a default: a snapshot of an agent's
    own must not pass for an empty one of ours, which a restore would delete every key for.
    """

    format: Literal["penstock.state"]
    part: int
    parts: int
    keys: dict[str, Value]


decode = msgspec.json.Decoder(Snapshot).decode


def compact(value: Raw) -> Raw:
    """The same JSON without blanks between its tokens."""
    return Raw(msgspec.json.format(bytes(value), indent=-1))


def snapshots(keys: Mapping[str, Value], room: int) -> list[Snapshot]:
    """The keys in parts of about ``room`` bytes of JSON; a larger value is a part of its own."""
    shares = list(_shares(keys, room)) or [{}]
    return [
        Snapshot(format="penstock.state", part=number, parts=len(shares), keys=share)
        for number, share in enumerate(shares, 1)
    ]


def _shares(keys: Mapping[str, Value], room: int) -> Iterator[dict[str, Value]]:
    share: dict[str, Value] = {}
    left = room
    for key, value in keys.items():
        size = len(msgspec.json.encode({key: value}))
        if share and size > left:
            yield share
            share, left = {}, room
        share[key] = value
        left -= size
    if share:
        yield share


def joined(parts: Iterable[Snapshot]) -> dict[str, Value] | None:
    """The keys of all parts; None if one is missing."""
    numbered = {found.part: found for found in parts}
    if any(set(numbered) != set(range(1, found.parts + 1)) for found in numbered.values()):
        return None
    return {key: value for found in numbered.values() for key, value in found.keys.items()}
