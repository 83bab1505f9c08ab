"""A bucket against the rows that it mirrors.

The bucket is read before the rows, so it can be behind a row that has just changed, and nothing
else. It catches up by a put, which gives the key another revision: a key that differs twice at one
revision, longer than workers may put it off, is wrong.

Mending keeps the order of the proof in `nats.kv.store`: revisions are read, then rows, then the
rows are put where the revisions still hold. A worker may have met the wrong value meanwhile and
taken it for newer than its row; so at last every mended key is brought up to its row once more.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from hashlib import blake2b
from typing import Protocol

import msgspec

from penstock.worker.checks.check import Suspect, Suspects
from penstock.worker.pipeline.mirror import Mirror
from penstock.worker.pipeline.ports import KvEntry, KvRow

_MEND = "`penstock verify --repair` writes it from PostgreSQL"
_NOBODYS = "keys without a row"
_CHUNK = 1_000
_UNKNOWN = b"[]"
"""The guard of a key that has no row."""


class Views(Protocol):
    """What the bucket should hold."""

    def whole(self) -> AsyncGenerator[list[KvRow]]:
        """All rows, in pieces. Raises SinkUnavailable."""


class Contents(Protocol):
    """What the bucket holds."""

    def entries(self) -> AsyncGenerator[KvEntry]:
        """Every key that is there; the last entry of a key counts. Raises StateStoreUnavailable."""

    async def size(self) -> int:
        """About how many keys there are. Raises StateStoreUnavailable."""

    async def revisions(self, keys: Sequence[str]) -> Mapping[str, int]:
        """The revisions of keys, deleted ones too; 0 where there is none."""

    async def overwrite(self, rows: Sequence[KvRow], revisions: Mapping[str, int]) -> None:
        """Put rows, whatever their keys hold, where the key still has its revision."""

    def fits(self, row: KvRow) -> Iterator[bytes]:
        """The values that may stand for a row that is there: its own, and a shortened one."""


class BucketCheck:
    """Every key has what its row says, and there is no other key.

    ``views`` adds to ``unshown`` what it cannot show: a key may seem to have no row then. With
    ``waits_for``, the rows themselves are wrong, and nothing is mended before they are right.
    ``lag`` is how long workers may put off a key.
    """

    steady = False
    seen = 0

    def __init__(
        self,
        name: str,
        contents: Contents,
        views: Views,
        mirror: Mirror,
        unshown: dict[str, str],
        waits_for: str = "",
        *,
        lag: float = 0.0,
    ) -> None:
        self.name = f"bucket {name}"
        self.lag = lag
        self._unshown = unshown
        self._waits_for = waits_for
        self._contents = contents
        self._views = views
        self._mirror = mirror

    async def size(self) -> int:
        """Every key, and the row of each."""
        return 2 * await self._contents.size()

    async def look(self, among: Collection[str] | None) -> AsyncGenerator[Suspect]:
        self._unshown.clear()
        held = await self._held()
        async with aclosing(self._views.whole()) as pieces:
            async for rows in pieces:
                self.seen += len(rows)
                for row in rows:
                    found = self._of_row(row, held.pop(row.key, None))
                    if found is not None and (among is None or row.key in among):
                        yield found
        for key, entry in held.items():
            if not self._unshown and (among is None or key in among):
                yield self._suspect(key, _NOBODYS, entry.revision)

    async def _held(self) -> dict[str, "_Held"]:
        self.seen, held = 0, dict[str, _Held]()
        async for entry in self._contents.entries():
            self.seen += 1
            held[entry.key] = _Held(entry.revision, entry.guard, _digest(entry.value))
        return held

    def _of_row(self, row: KvRow, entry: "_Held | None") -> Suspect | None:
        if entry is None:
            return None if row.value is None else self._suspect(row.key, "keys are missing", 0)
        if row.value is None:
            return self._suspect(row.key, "keys of deleted rows", entry.revision)
        if any(_digest(value) == entry.digest for value in self._contents.fits(row)):
            return None
        kind = "keys are behind their row" if _older(entry, row) else "keys have another value"
        return self._suspect(row.key, kind, entry.revision)

    def _suspect(self, key: str, what: str, revision: int) -> Suspect:
        if self._waits_for:
            remedy = f"the rows may be what is wrong: {self._waits_for} first, then verify again"
            return Suspect(key, what, remedy, str(revision))
        return Suspect(key, what, _MEND, str(revision), mendable=True)

    async def mend(self, wrong: Suspects) -> None:
        nobodys = {key for key, one in wrong.items() if one.what == _NOBODYS}
        revisions = dict[str, int]()
        for keys in _chunks(list(wrong)):
            revisions |= await self._contents.revisions(keys)
        async for rows in self._rows_of(wrong):
            await self._contents.overwrite(rows, revisions)
            nobodys -= {row.key for row in rows}
        for keys in _chunks(sorted(nobodys)):
            gone = [KvRow(key=key, guard=_UNKNOWN, value=None) for key in keys]
            await self._contents.overwrite(gone, revisions)
        self._mirror.forget()
        async for rows in self._rows_of(wrong):
            await self._mirror.put(rows)

    async def _rows_of(self, wrong: Suspects) -> AsyncIterator[Sequence[KvRow]]:
        async with aclosing(self._views.whole()) as pieces:
            async for rows in pieces:
                if found := [row for row in rows if row.key in wrong]:
                    yield found


class _Held(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of a key: a bucket may hold more than fits into memory."""

    revision: int
    guard: bytes
    digest: bytes


def _digest(value: bytes) -> bytes:
    return blake2b(value, digest_size=16).digest()


def _older(entry: _Held, row: KvRow) -> bool:
    try:
        older: bool = msgspec.json.decode(entry.guard) < msgspec.json.decode(row.guard)
    except TypeError:  # not a guard of ours
        return False
    return older


def _chunks(keys: Sequence[str]) -> Sequence[Sequence[str]]:
    return [keys[begin : begin + _CHUNK] for begin in range(0, len(keys), _CHUNK)]
