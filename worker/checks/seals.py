"""The chain of seals over the audit history: what breaks it, and what was done to the rows.

A leaf is what a seal keeps of a row: when it was recorded, which event it is, when that happened,
and a digest of what it says. So a row that is gone has its name still, and one that says the same
at another time is known again.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from itertools import pairwise
from math import inf
from uuid import UUID

import msgspec

LEAF = 64
"""Bytes of a leaf."""

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""PostgreSQL counts the microseconds of a time from here."""


class Kind(StrEnum):
    """What was done."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"


class Seal(msgspec.Struct, frozen=True, gc=False):
    """A seal as it is stored. Times are texts in UTC, ``begins`` and ``ends`` the first two of them
    in microseconds. ``leaves`` is the digest of the leaves.
    """

    seal_id: int
    partition: str
    from_at: str | None
    to_at: str | None
    begins: int
    ends: int
    rows: int
    format: int
    leaves: bytes
    prev_digest: bytes | None
    digest: bytes
    sealed_at: str | None

    @property
    def true_digest(self) -> bytes:
        """The digest that it has to have."""
        said = (
            "penstock audit seal",
            *(str(self.format), str(self.seal_id), self.partition, self.from_at, self.to_at),
            *(str(self.rows), self.sealed_at),
            self.prev_digest.hex() if self.prev_digest else "",
            self.leaves.hex(),
        )
        return sha256("\n".join(part for part in said if part is not None).encode()).digest()


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it was sealed: a row, a seal itself, or a partition as a whole.
    ``seal_id`` is the seal that shows it.
    """

    seal_id: int
    what: str
    kind: Kind
    partition: str | None = None
    event_id: str | None = None
    occurred_at: str | None = None
    recorded_at: str | None = None
    about: str = ""

    def __str__(self) -> str:
        if self.what == "row":
            return f"row {self.event_id} of {self.occurred_at} was {self.kind}{self.about}"
        name = f" {self.partition}" if self.what == "partition" else ""
        return f"the {self.what}{name} was {self.kind}{self.about}"


class Placed(msgspec.Struct, frozen=True):
    """A leaf, and the seal that it belongs to."""

    seal_id: int
    partition: str
    leaf: bytes

    @property
    def event(self) -> bytes:
        """The event that the row is of."""
        return self.leaf[8:24]

    @property
    def says(self) -> bytes:
        """The digest of what the row says, its times aside."""
        return self.leaf[32:]

    def broken(self, kind: Kind, about: str = "") -> Broken:
        """What to say of its row."""
        return Broken(
            seal_id=self.seal_id,
            what="row",
            kind=kind,
            partition=self.partition,
            event_id=str(UUID(bytes=self.event)),
            occurred_at=_moment(self.leaf[24:32]),
            recorded_at=_moment(self.leaf[:8]),
            about=about,
        )


def recorded(leaf: bytes) -> int:
    """When the row was recorded, in microseconds, as in `Seal.ends`."""
    return int.from_bytes(leaf[:8], signed=True)


def _moment(sent: bytes) -> str:
    try:
        found = _EPOCH + timedelta(microseconds=int.from_bytes(sent, signed=True))
    except OverflowError:  # infinity, or a year that only PostgreSQL knows
        return "no time"
    return found.isoformat().replace("+00:00", "Z")


class Gap(msgspec.Struct, frozen=True):
    """Seals that are missing: the first, and the one after the last. Their rows were recorded
    between ``begins`` and ``ends``.
    """

    first: int
    end: int
    begins: float
    ends: int

    def broken(self) -> Broken:
        """What to say of it."""
        more = f", with those up to {self.end - 1}" if self.end > self.first + 1 else ""
        return _seal(self.first, Kind.REMOVED, more)


def gaps(seals: Sequence[Seal], *, whole: bool) -> Iterator[Gap]:
    """Where seals are missing. ``whole``: the first one has to be the first of the chain."""
    if seals and whole and seals[0].seal_id > 1:
        yield Gap(1, seals[0].seal_id, -inf, seals[0].ends)
    for one, other in pairwise(seals):
        if other.seal_id > one.seal_id + 1:
            # Those of one run may cover the same time, in several partitions.
            yield Gap(one.seal_id + 1, other.seal_id, one.begins, other.ends)


def changed_links(seals: Sequence[Seal]) -> Iterator[Broken]:
    """Seals that were changed, or made anew."""
    changed = {seal.seal_id for seal in seals if seal.digest != seal.true_digest}
    for seal_id in changed:
        yield _seal(seal_id, Kind.CHANGED)
    for one, other in pairwise(seals):
        follows = other.seal_id == one.seal_id + 1 and not changed & {one.seal_id, other.seal_id}
        if follows and other.prev_digest != one.digest:
            yield _seal(one.seal_id, Kind.CHANGED, f": {other.seal_id} continues another one")


def _seal(seal_id: int, kind: Kind, about: str = "") -> Broken:
    return Broken(seal_id=seal_id, what="seal", kind=kind, about=about)


def expected(seal_id: int, digest: str, there: str | None) -> Broken | None:
    """A seal that somebody knows the digest of, against the one that is there."""
    if there == digest:
        return None
    if there is None:
        return _seal(seal_id, Kind.REMOVED)
    return _seal(seal_id, Kind.CHANGED, f": it was {digest}, and is {there}")


def differing(sealed: bytes, stored: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """The leaves that are missing, and those that are too many."""
    if b"".join(stored) == sealed:
        return [], []
    were = Counter(sealed[at : at + LEAF] for at in range(0, len(sealed), LEAF))
    are = Counter(stored)
    return list((were - are).elements()), list((are - were).elements())


def explained(
    missing: Iterable[Placed], extra: Iterable[Placed], lost: Sequence[Gap]
) -> Iterator[Broken]:
    """What was done to the rows: one that is missing may be there with other words, or times. Of
    one that is too many nobody can tell where seals are ``lost``.
    """
    there = defaultdict[bytes, list[Placed]](list)
    for one in extra:
        there[one.event].append(one)
    for one in missing:
        yield _explained(one, there[one.event])
    for rest in there.values():
        for one in rest:
            if not any(gap.begins <= recorded(one.leaf) < gap.ends for gap in lost):
                yield one.broken(Kind.INSERTED)


def _explained(one: Placed, rows: list[Placed]) -> Broken:
    """What became of a row; takes what it has become from ``rows``, which are of its event."""
    if not rows:
        return one.broken(Kind.REMOVED)
    same = [n for n, row in enumerate(rows) if row.says == one.says]
    found = rows.pop(same[0] if same else 0)
    if not same:
        return one.broken(Kind.CHANGED)
    now = found.broken(Kind.REORDERED)
    about = f": it is one of {now.occurred_at} now, recorded at {now.recorded_at}"
    return one.broken(Kind.REORDERED, about)
