"""The sink of a replay: the ordinary transaction, and beside it what was known already."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import asyncpg
import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.schemas.event_type import EventType
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.plan import HistoryRows, Plan, by_type, find_stubs, fold_states
from penstock.worker.pipeline.ports import DeadLetter, Written
from penstock.worker.postgres.comparison import Comparison, Id, Known
from penstock.worker.postgres.due import DuePart
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.letters import LetterPart, LetterQuota
from penstock.worker.postgres.parts import Part
from penstock.worker.postgres.pool import borrowed
from penstock.worker.postgres.positions import PositionPart
from penstock.worker.postgres.recalled import Remembered
from penstock.worker.postgres.replays import Run, done_before, note, standing_of
from penstock.worker.postgres.sink import PostgresSink
from penstock.worker.postgres.state import StateWriter
from penstock.worker.postgres.transaction import Connection
from penstock.worker.replay.account import Account
from penstock.worker.replay.offsets import OffsetSet
from penstock.worker.replay.standing import Piece, Place, Standing

Outcomes = Sequence[Event | DeadLetter]

_ALL = LetterQuota(0)
"""Letters that come back are as many as there were."""

_ONCE_STORED = {"out_of_window", "period_detached"}
"""Reasons that say nothing about a message: it was stored in its time, or refused then."""


class ReplaySink(PostgresSink):
    """Writes batches of the replay ``run``, whose position is its own and whose account is kept in
    the same transaction. Dead letters are those of the live path, so one that is kept stays one.

    Events that are known are folded again into the tables ``rebuilt``, except for sums.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        catalogue: Catalogue,
        run: Run,
        *,
        worker_id: str,
        rebuilt: Collection[str] = (),
    ) -> None:
        super().__init__(pool, catalogue, worker_id=worker_id)
        self._comparison = Comparison(catalogue)
        self._again = {
            kind.name: again
            for kind in catalogue.types.values()
            if (again := _again(kind, rebuilt)).states
            or again.references
            or again.listed_references
        }
        self._state = StateWriter(self._types, catalogue, restated=rebuilt)
        self._parts = (
            partial(PositionPart, worker_id=worker_id, transport=run.transport),
            self._history.part,
            partial(_KnownPart, comparison=self._comparison, again=self._again),
            self._state.part,
            DuePart,
            partial(LetterPart, worker_id=worker_id, quota=_ALL),
            partial(_AccountPart, run=run, begun=OffsetSet()),
        )

    async def prepare(self) -> dict[str, timedelta | None]:
        kept = await super().prepare()
        with translated():
            await self._comparison.prepare(self._pool)
        return dict(kept)


class ComparingSink:
    """Writes nothing: finds out what a replay would do. ``account`` is the sum of all batches."""

    def __init__(self, pool: asyncpg.Pool, catalogue: Catalogue) -> None:
        self.account = Account()
        self._done = OffsetSet()
        self._standing = Standing()
        self._pool = pool
        self._comparison = Comparison(catalogue)

    async def prepare(self) -> None:
        """Learn the columns. Raises SinkUnavailable."""
        with translated():
            await self._comparison.prepare(self._pool)

    async def write(self, batch: Batch) -> Written:
        """Compare one batch. Raises SinkUnavailable, RowRejected."""
        plan = batch.plan
        with translated():
            async with borrowed(self._pool) as connection, connection.transaction(readonly=True):
                known = await self._comparison.known(connection, plan.events, plan.history)
        new = {(e.id, e.time) for e in plan.events} - known.stored - known.differing
        found, total = _account(self._uncounted(batch), new, known), self.account
        self.account = Account(
            inserted=total.inserted + found.inserted,
            present=total.present + found.present,
            differing=total.differing + found.differing,
            rejected=total.rejected + found.rejected,
            differing_ids=[*total.differing_ids, *found.differing_ids],
        )
        return Written(new=len(new), duplicate=found.present, letters=batch.letters)

    def _uncounted(self, batch: Batch) -> Outcomes:
        """Those that come for the first time. They count from now on."""
        if (piece := _piece(batch)) is not None:
            stood, self._standing = self._standing, self._standing.after(_places(batch), piece)
            return _not_in(stood, _places(batch), batch)
        new = _not_in(self._done, batch.messages.offsets, batch)
        for offset in batch.origin.offsets:
            self._done.add(offset)
        return new


class _Compared(Plan, frozen=True, kw_only=True):
    """What is left of a plan, which events of it were new, and what was known of the others."""

    inserted: Collection[Id]
    known: Known


class _KnownPart(Part):
    """Compares what was known, and folds it again where that is wanted."""

    def __init__(self, batch: Batch, comparison: Comparison, again: dict[str, EventType]) -> None:
        self._batch = batch
        self._comparison = comparison
        self._again = again

    async def write(self, connection: Connection, fresh: Plan) -> Plan:
        plan, new = self._batch.plan, {(e.id, e.time) for e in fresh.events}
        history = [] if fresh is plan else [_without(rows, new) for rows in plan.history]
        known = await self._comparison.known(connection, fresh.events, history)
        inserted = new - known.stored - known.differing
        changes: dict[str, Any] = {"letters": _worth_keeping(fresh.letters)}
        if again := self._folded_again(plan.events, new):
            kinds = by_type([*fresh.events, *again])
            changes |= {"states": fold_states(kinds), "stubs": find_stubs(kinds)}
        kept = {name: getattr(fresh, name) for name in Plan.__struct_fields__}
        return _Compared(**{**kept, **changes}, inserted=inserted, known=known)

    def _folded_again(self, events: Sequence[Event], new: Collection[Id]) -> list[Event]:
        return [
            msgspec.structs.replace(e, kind=again)
            for e in events
            if (again := self._again.get(e.kind.name)) is not None and (e.id, e.time) not in new
        ]


class _AccountPart(Part):
    """The last part: others of the run wait for its row. A message that comes again after it was
    committed is not counted again; whether it was, this asks PostgreSQL of what is ``begun``: a
    commit may have succeeded without saying so.
    """

    def __init__(self, batch: Batch, run: Run, begun: OffsetSet) -> None:
        self._batch = batch
        self._run = run
        self._begun = begun

    async def write(self, connection: Connection, fresh: Plan) -> Plan:
        assert isinstance(fresh, _Compared)  # noqa: S101  (for mypy: an earlier part makes it)
        batch, standing = self._batch, None
        if (piece := _piece(batch)) is not None:
            stood = await standing_of(connection, self._run)
            standing = stood.after(_places(batch), piece)
            new = _not_in(stood, _places(batch), batch)
        else:
            done = await self._done_before(connection)
            new = _not_in(done, batch.messages.offsets, batch)
        account = _account(new, fresh.inserted, fresh.known)
        await note(connection, self._run, account, standing)
        return fresh

    async def _done_before(self, connection: Connection) -> OffsetSet:
        offsets = self._batch.origin.offsets
        done = OffsetSet()
        if any(offset in self._begun for offset in offsets):
            done = await done_before(connection, self._run, offsets)
        for offset in offsets:
            self._begun.add(offset)
        return done


def _again(kind: EventType, tables: Collection[str]) -> EventType:
    """The type as far as its events may be folded again: for these tables, without sums. Whoever
    refers to such a table makes a stub there, as the first time.
    """
    states = [
        msgspec.structs.replace(
            state, groups=tuple([pair for pair in state.groups if pair[0].kind != "add"])
        )
        for state in kind.states
        if state.table in tables
    ]
    return msgspec.structs.replace(
        kind,
        name=f"{kind.name} again",
        states=tuple(states),
        references=tuple([one for one in kind.references if states or one[0] in tables]),
        listed_references=tuple(
            [one for one in kind.listed_references if states or one[0] in tables]
        ),
    )


def _without(rows: HistoryRows, new: Collection[Id]) -> HistoryRows:
    at, when = rows.columns.index("event_id"), rows.columns.index("occurred_at")
    old = [record for record in rows.records if (record[at], record[when]) not in new]
    return msgspec.structs.replace(rows, records=old)


def _piece(batch: Batch) -> Piece | None:
    """What the messages were read with, in a source without offsets."""
    first = batch.messages[0]
    return first.piece if isinstance(first, Remembered) else None


def _places(batch: Batch) -> list[Place]:
    return [message.mark for message in batch.messages]


def _not_in(done: OffsetSet | Standing, places: Sequence[Any], batch: Batch) -> Outcomes:
    """What the messages at ``places`` were decoded to, without those that are done."""
    pairs = zip(places, batch.outcomes, strict=True)
    return [outcome for place, outcome in pairs if place is None or place not in done]


def _account(outcomes: Outcomes, inserted: Collection[Id], known: Known) -> Account:
    events = {(one.id, one.time) for one in outcomes if isinstance(one, Event)}
    new, differing = events & set(inserted), events & known.differing
    rejected = sum([not isinstance(one, Event) for one in outcomes])
    return Account(
        inserted=len(new),
        present=len(outcomes) - len(new) - len(differing) - rejected,
        differing=len(differing),
        rejected=rejected,
        differing_ids=sorted(event_id for event_id, _ in differing),
    )


def _worth_keeping(letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    return [letter for letter in letters if letter.reason not in _ONCE_STORED]
