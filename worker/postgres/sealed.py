"""One look at the audit history: is it as it was sealed, and if not, what was done to it."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from uuid import UUID

import msgspec

from penstock.worker.checks.seals import (
    Broken,
    Gap,
    Kind,
    Placed,
    Seal,
    changed_links,
    differing,
    expected,
    explained,
    gaps,
    recorded,
)
from penstock.worker.postgres.life import Life
from penstock.worker.postgres.seals import NEWEST, SealedHistory

_CHUNK = 20_000
"""About how many rows are looked at together."""

_MOST = 100_000
"""So many rows that are not as they were are enough; the others are not looked at."""


class Gone(msgspec.Struct, frozen=True):
    """A partition that retention has dropped: its seals are there, and no row."""

    partition: str
    seals: int
    rows: int


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. ``broken`` is in the order of the chain, and not all if there is ``more``.
    Rows that were recorded before ``until`` are sealed, and so many are ``waiting``. ``last`` is
    the last seal with its digest. ``foreign`` counts seals that the history tells of and that are
    older than its chain.
    """

    intact: bool
    seals: int
    rows: int
    until: str | None
    waiting: int
    last: str | None
    broken: Sequence[Broken]
    more: bool
    gone: Sequence[Gone]
    foreign: int


class SealExamination:
    """The chain and all rows that it covers, or those of the seals made since a moment.

    ``seen`` is how many rows it has gone through.
    """

    def __init__(
        self, history: SealedHistory, seals: Sequence[Seal], since: datetime | None
    ) -> None:
        """``seals`` are those of the chain since then."""
        self._history = history
        self._seals = seals
        self._since = since
        self._ends = list(accumulate((seal.ends for seal in seals), max))
        self._lost: list[Gap] = list(gaps(seals, whole=since is None))
        self._broken: list[Broken] = [gap.broken() for gap in self._lost]
        self._gone: list[Gone] = []
        self._missing: list[Placed] = []
        self._extra: list[Placed] = []
        self.seen = 0

    async def examined(self, known: Mapping[int, str]) -> Examined:
        """Look at everything. ``known`` are digests that somebody kept, by the number of the seal.

        Raises SinkUnavailable.
        """
        history, last = self._history, self._seals[-1] if self._seals else None
        self._broken += changed_links(self._seals)
        there = await history.digests(list(known))
        self._compare(known, there)
        foreign = await self._told()
        if last is not None:
            await self._rows(last)
        broken = sorted(set(self._broken), key=_place)
        return Examined(
            intact=not broken,
            seals=len(self._seals),
            rows=self.seen,
            until=last.to_at if last else None,
            waiting=await history.waiting(),
            last=f"{last.seal_id}:{last.digest.hex()}" if last else None,
            broken=broken,
            more=self._enough,
            gone=self._gone,
            foreign=foreign,
        )

    def _compare(self, known: Mapping[int, str], there: Mapping[int, str]) -> None:
        for seal_id, digest in known.items():
            found = expected(seal_id, digest, there.get(seal_id))
            if found and not any(gap.first <= seal_id < gap.end for gap in self._lost):
                self._broken.append(found)

    async def _told(self) -> int:
        """The history tells of every seal by an event. What it tells of and is not there was taken
        away; unless it is older than the chain, as in a database that was filled again from the
        streams. Returns how many these are.
        """
        begun = self._seals[0].sealed_at if self._seals and self._since is None else None
        unknown = await self._history.unknown(self._since)
        later = {number: digest for number, digest, at in unknown if begun is None or at >= begun}
        self._compare(later, await self._history.digests(list(later)))
        return len(unknown) - len(later)

    @property
    def _enough(self) -> bool:
        return len(self._missing) + len(self._extra) >= _MOST

    async def _rows(self, last: Seal) -> None:
        before = await self._history.before(self._seals[0])
        chains = defaultdict[str, list[Seal]](list)
        for seal in self._seals:
            chains[seal.partition].append(seal)
        partitions = await self._history.partitions()
        for name in {**chains, **partitions}:
            await self._partition(name, partitions.get(name), chains[name], before)
        await self._later(last, [life.relation for life in partitions.values() if life.relation])
        self._broken += explained(self._missing, self._extra, self._lost)

    async def _partition(
        self, name: str, life: Life | None, seals: Sequence[Seal], before: int | None
    ) -> None:
        if life is not None and life.relation is not None:
            await self._there(name, life.relation, seals, before)
        elif life is not None:
            if seals:
                self._gone.append(Gone(name, len(seals), sum(seal.rows for seal in seals)))
        else:
            first = seals[0].seal_id
            lost = Broken(seal_id=first, what="partition", kind=Kind.REMOVED, partition=name)
            self._broken.append(lost)

    async def _there(
        self, name: str, relation: str, seals: Sequence[Seal], before: int | None
    ) -> None:
        for chunk in _chunks(seals):
            if self._enough:
                return
            await self._chunk(relation, chunk, before)
            before = chunk[-1].seal_id
        # Nor was any row recorded after its last seal, and before the end of the chain.
        upto = self._seals[-1].seal_id
        for leaf in await self._history.stored(relation, NEWEST, before, upto, _MOST):
            place = min(bisect_right(self._ends, recorded(leaf)), len(self._ends) - 1)
            self._extra.append(Placed(self._seals[place].seal_id, name, leaf))

    async def _chunk(self, relation: str, seals: Sequence[Seal], before: int | None) -> None:
        """The rows of seals of one partition that follow each other, and those between them."""
        upto, form = seals[-1].seal_id, seals[0].format
        most = sum(seal.rows for seal in seals) + _MOST
        stored = await self._history.stored(relation, form, before, upto, most)
        leaves = await self._history.leaves(seals)
        begin = 0
        for seal in seals:
            end = begin
            while end < len(stored) and (seal is seals[-1] or recorded(stored[end]) < seal.ends):
                end += 1
            missing, extra = differing(leaves[seal.seal_id], stored[begin:end])
            self._missing += (Placed(seal.seal_id, seal.partition, leaf) for leaf in missing)
            self._extra += (Placed(seal.seal_id, seal.partition, leaf) for leaf in extra)
            self.seen += seal.rows
            begin = end

    async def _later(self, last: Seal, relations: Sequence[str]) -> None:
        """A row that is missing may have been moved to where nothing is sealed yet."""
        events = [UUID(bytes=one.event) for one in self._missing]
        for relation in relations if events else ():
            for leaf in await self._history.later(relation, NEWEST, last, events):
                self._extra.append(Placed(last.seal_id, "", leaf))


def _place(broken: Broken) -> tuple[int, bool, str, str]:
    """Where it stands in the chain: a seal before its rows."""
    row = broken.what == "row"
    return broken.seal_id, row, broken.recorded_at or "", broken.event_id or ""


def _chunks(seals: Sequence[Seal]) -> list[list[Seal]]:
    found: list[list[Seal]] = []
    rows = 0
    for seal in seals:
        rows += seal.rows
        if not found or rows > _CHUNK or found[-1][-1].format != seal.format:
            found.append([])
            rows = seal.rows
        found[-1].append(seal)
    return found
