"""The PostgreSQL sink: one transaction per batch.

The state changes of an event count only in the transaction that stored its history.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import asyncpg

from penstock.schemas.catalogue import Catalogue
from penstock.worker.errors import PartitionMissing, RowRejected
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.plan import Plan
from penstock.worker.pipeline.ports import Written
from penstock.worker.postgres import statements
from penstock.worker.postgres.due import DuePart
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.history import HistoryWriter
from penstock.worker.postgres.letters import LetterPart, LetterQuota
from penstock.worker.postgres.parts import MakePart
from penstock.worker.postgres.pool import borrowed, writers
from penstock.worker.postgres.positions import PositionPart
from penstock.worker.postgres.state import StateWriter
from penstock.worker.postgres.transaction import transaction

_NO_PARENT = "23503"


class PostgresSink:
    """Writes batches. ``Unavailable`` means try again; `RowRejected` that a row is at fault;
    `NoRoomForLetters` that ``letters_max`` dead letters are open (0: as many as come).

    So many write at once that the pool keeps connections for everything else; the others queue,
    first come, first served. Waiting for the turn is no sign that PostgreSQL is away.
    """

    def __init__(
        self, pool: asyncpg.Pool, catalogue: Catalogue, *, worker_id: str, letters_max: int = 0
    ) -> None:
        self._pool = pool
        self._turns = asyncio.Semaphore(writers(pool))
        self._tables = catalogue.tables
        self._types: dict[str, dict[str, str]] = {}
        self._policies: dict[str, str] = {}
        self._history = HistoryWriter(self._types)
        self._state = StateWriter(self._types, catalogue)
        self._parts: Sequence[MakePart] = (
            partial(PositionPart, worker_id=worker_id),
            self._history.part,
            self._state.part,
            DuePart,
            partial(LetterPart, worker_id=worker_id, quota=LetterQuota(letters_max)),
        )

    async def prepare(self) -> Mapping[str, timedelta | None]:
        """Learn the tables' columns and partitions. Returns how long each table keeps rows."""
        with translated():
            columns = await self._pool.fetch(statements.COLUMNS, self._tables)
            policies = await self._pool.fetch(statements.POLICIES)
        for relation, name, kind in columns:
            self._types.setdefault(relation, {})[name] = kind
        self._policies = {relation: column for relation, column, _ in policies}
        return {relation: retention for relation, _, retention in policies}

    async def write(self, batch: Batch) -> Written:
        """Commit one batch. A period without a partition gets one, and the batch is tried again;
        so it is if a parent was not there that had been before, in another database maybe.
        """
        async with self._turns:
            fresh = await self._stored(batch)
        new = len(fresh.events)
        duplicate = len(batch) - new - len(fresh.letters)
        return Written(
            new=new,
            duplicate=duplicate,
            letters=fresh.letters,
            events=fresh.events,
            refused=batch.letters,
        )

    async def _stored(self, batch: Batch) -> Plan:
        mended: set[str] = set()
        while True:
            try:
                return await self._transaction(batch)
            except PartitionMissing as error:
                if "partitions" in mended:
                    raise RowRejected("23514", f"no partition can be made: {error}") from error
                await self._make_partitions(batch.plan)
                mended.add("partitions")
            except RowRejected as error:
                if error.code != _NO_PARENT or "parents" in mended or not self._state.forget():
                    raise
                mended.add("parents")

    async def _transaction(self, batch: Batch) -> Plan:
        """Commit all parts, or none. Returns what of the plan was new."""
        parts = [make(batch) for make in self._parts]
        opening = [statement for part in parts for statement in part.opening]
        fresh = batch.plan
        with translated():
            async with (
                borrowed(self._pool) as connection,
                transaction(connection, *opening),
            ):
                for part in parts:
                    fresh = await part.write(connection, fresh)
        for part in parts:
            part.committed()
        return fresh

    async def _make_partitions(self, plan: Plan) -> None:
        """Create what the batch needs, outside its transaction, for others to use at once."""
        with translated():
            for relation, column in self._policies.items():
                schema, name = relation.split(".")
                for moment in _moments(plan, relation, column):
                    await self._pool.execute(
                        "SELECT partitions.ensure_for($1, $2, $3)", schema, name, moment
                    )


def _moments(plan: Plan, relation: str, column: str) -> list[datetime]:
    """One moment of every UTC day that the batch writes to ``relation``."""
    times = plan.times(relation, column)
    return sorted({moment.astimezone(UTC).date(): moment for moment in times}.values())
