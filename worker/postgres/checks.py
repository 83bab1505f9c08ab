"""What `penstock verify` asks of PostgreSQL alone."""

from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from datetime import datetime

import asyncpg

from penstock.schemas.catalogue import Catalogue
from penstock.worker.checks.check import Check, Suspect, Suspects
from penstock.worker.errors import SinkUnavailable
from penstock.worker.finding import Verdict
from penstock.worker.postgres import agent_stats
from penstock.worker.postgres.against_history import Contradiction, contradictions, read_for
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.overview import overview
from penstock.worker.postgres.pool import borrowed
from penstock.worker.postgres.statements import quoted
from penstock.worker.postgres.sums import expected_sums, mend_sums, sum_columns, summed_for
from penstock.worker.postgres.tables import rows_about

_STUBS = """
SELECT t.{key}::text FROM {table} AS t
WHERE t.is_stub AND t.updated_at < now() - interval '1 hour'
ORDER BY t.updated_at
"""
_TWINS = """
SELECT h.event_id::text, min(h.occurred_at), max(h.occurred_at) FROM {table} AS h
WHERE $1::timestamptz IS NULL OR h.event_id IN (
    SELECT late.event_id FROM {table} AS late WHERE late.occurred_at >= $1
)
GROUP BY h.event_id HAVING min(h.occurred_at) <> max(h.occurred_at)
"""


def rebuild(catalogue: Catalogue, table: str, sources: Sequence[str]) -> str:
    """The commands that make the rows of a table again: one for each stream of their events, from
    ``sources``, which are brokers that keep what was read, or from the histories if there is none.
    """
    kinds = [kind for kind in catalogue.types.values() if table in kind.tables]
    streams = sorted({kind.stream for kind in kinds})
    named = [f"--source {source} " for source in sources] if len(sources) > 1 else [""]
    parts = [f"{source}--stream {stream}" for source in named for stream in streams]
    commands = [
        f"`penstock replay {part} --rebuild {table}`"
        for part in (parts if sources else ["--source postgres"])
    ]
    return " and ".join(commands)


class StateCheck:
    """Rows are as far as the events of their history; see `postgres.against_history`."""

    steady = True
    seen = 0
    lag = 0.0

    def __init__(
        self,
        pool: asyncpg.Pool,
        catalogue: Catalogue,
        table: str,
        since: datetime | None,
        sources: Sequence[str],
    ) -> None:
        self.name = f"rows of {table}"
        self.table = table
        self._pool = pool
        self._catalogue = catalogue
        self._since = since
        self._sources = sources

    async def size(self) -> int:
        if self._since is not None:  # nobody knows how many that are
            return 0
        return await _rows(self._pool, read_for(self._catalogue, self.table))

    async def look(self, among: Collection[str] | None) -> AsyncGenerator[Suspect]:
        self.seen, named = 0, set[str]()
        with translated():
            async with (
                borrowed(self._pool) as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                async for one in contradictions(
                    connection, self._catalogue, self.table, self._since, self._count
                ):
                    if one.key not in named and (among is None or one.key in among):
                        named.add(one.key)
                        yield self._suspect(one)

    def _count(self, events: int) -> None:
        self.seen += events

    def _suspect(self, found: Contradiction) -> Suspect:
        if found.columns is None:
            what = "are missing, and their events are stored"
        else:
            what = f"do not say what their events said: {', '.join(found.columns)}"
        how = rebuild(self._catalogue, self.table, self._sources)
        return Suspect(found.key, what, f"{how} makes them from their events")

    async def mend(self, wrong: Suspects) -> None:
        """A replay does."""


class SumCheck:
    """Columns under ``add`` are the sums of their events."""

    steady = True
    seen = 0
    lag = 0.0

    def __init__(self, pool: asyncpg.Pool, catalogue: Catalogue, table: str) -> None:
        self.name = f"sums of {table}"
        self.table = table
        self._pool = pool
        self._catalogue = catalogue
        self._keys: dict[str, tuple[str, ...]] = {}

    async def size(self) -> int:
        return await _rows(self._pool, summed_for(self._catalogue, self.table))

    def _count(self, events: int) -> None:
        self.seen += events

    async def look(self, among: Collection[str] | None) -> AsyncGenerator[Suspect]:
        self.seen = 0
        keys = None if among is None else [self._keys[name] for name in among]
        async with borrowed(self._pool) as connection:
            try:
                found = await expected_sums(
                    connection, self._catalogue, self.table, keys, self._count
                )
            except SinkUnavailable as error:  # a part of the history is no longer there
                what, _, remedy = str(error).partition("; ")
                yield Suspect(self.table, what, remedy, verdict=Verdict.NOTE)
                return
        self._keys = {", ".join(wrong.key): wrong.key for wrong in found if not wrong.missing}
        for name in self._keys:  # of a row that is missing, everything is
            if among is None or name in among:
                yield Suspect(
                    name,
                    "are not the sums of their events",
                    "`penstock verify --repair` computes them again from the history",
                    mendable=True,
                )

    async def mend(self, wrong: Suspects) -> None:
        keys = [self._keys[name] for name, one in wrong.items() if one.mendable]
        async with borrowed(self._pool) as connection:
            await mend_sums(connection, self._catalogue, self.table, keys)


class StatsCheck:
    """The agents' statistics are those of their tasks."""

    steady = True
    lag = 0.0
    name = "statistics of agents"

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def look(self, among: Collection[str] | None) -> AsyncGenerator[Suspect]:
        with translated():
            found = await agent_stats.wrong(self._pool)
        for agent in found:
            if among is None or agent in among:
                yield Suspect(
                    agent,
                    "are not the sums over their tasks",
                    "`penstock verify --repair` computes them again from tasks.task",
                    mendable=True,
                )

    async def mend(self, wrong: Suspects) -> None:
        with translated():
            await agent_stats.mend(self._pool, sorted(wrong))


class TwinCheck:
    """No event id is stored with two times."""

    steady = True
    lag = 0.0

    def __init__(self, pool: asyncpg.Pool, table: str, since: datetime | None) -> None:
        self.name = f"event ids in {table}"
        self._pool = pool
        self._query = _TWINS.format(table=quoted(table))
        self._since = since

    async def look(self, among: Collection[str] | None) -> AsyncGenerator[Suspect]:
        with translated():
            found = await self._pool.fetch(self._query, self._since)
        for event_id, _, _ in found:
            if among is None or event_id in among:
                yield Suspect(
                    event_id,
                    "are stored with two times, and count twice",
                    "their producer sends an event again with another time: it must keep id and "
                    "time together. See operations.md, Two events under one id",
                )

    async def mend(self, wrong: Suspects) -> None:
        """Which of the two is right, nobody here knows."""


class PartitionCheck:
    """The partitions of this period and the next are there, and those that are over are gone."""

    steady = True
    lag = 0.0
    name = "partitions"

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def look(self, among: Collection[str] | None) -> AsyncGenerator[Suspect]:
        for due in (await overview(self._pool)).partitions:
            if among is not None and due.table not in among:
                continue
            if due.overdue:
                yield Suspect(
                    due.table,
                    "lack a partition for this period or the next",
                    "`penstock verify --repair` makes it; a worker does every ten minutes",
                    mendable=True,
                )
            elif due.expired:
                yield Suspect(
                    due.table,
                    "hold partitions with rows older than partitions.policy keeps",
                    "see docs/operations.md, A partition is missing",
                    verdict=Verdict.NOTE,
                )

    async def mend(self, wrong: Suspects) -> None:  # noqa: ARG002  (it makes all that are due)
        with translated():
            await self._pool.execute("SELECT partitions.maintain()")


class StubCheck:
    """Rows that others refer to have had an event of their own, after an hour at the latest."""

    steady = True
    lag = 0.0

    def __init__(self, pool: asyncpg.Pool, table: str, key: str) -> None:
        self.name = f"stubs in {table}"
        self._pool = pool
        self._query = _STUBS.format(table=quoted(table), key=quoted(key))

    async def look(self, among: Collection[str] | None) -> AsyncGenerator[Suspect]:
        with translated():
            found = await self._pool.fetch(self._query)
        for (key,) in found:
            if among is None or key in among:
                yield Suspect(
                    key,
                    "exist only because others refer to them",
                    "see whether whoever they stand for sends its own events, and whether these "
                    "are among the dead letters",
                    verdict=Verdict.NOTE,
                )

    async def mend(self, wrong: Suspects) -> None:
        """Only their own events can."""


async def _rows(pool: asyncpg.Pool, tables: Iterable[str]) -> int:
    with translated():
        return await rows_about(pool, [quoted(table) for table in tables])


def of_tables(
    pool: asyncpg.Pool, catalogue: Catalogue, since: datetime | None, sources: Sequence[str]
) -> Sequence[Check]:
    """All of them, those first that others build on; ``sources`` as `rebuild` takes them."""
    tables = sorted(catalogue.keys, key=lambda table: (catalogue.depths[table], table))
    histories = [table for table in catalogue.tables if table not in catalogue.keys]
    parents = {ref.table for kind in catalogue.types.values() for ref in kind.spec.refs}
    return [
        PartitionCheck(pool),
        *(StateCheck(pool, catalogue, table, since, sources) for table in tables),
        *(SumCheck(pool, catalogue, table) for table in tables if sum_columns(catalogue, table)),
        StatsCheck(pool),
        *(TwinCheck(pool, table, since) for table in histories),
        *(StubCheck(pool, table, catalogue.keys[table][0]) for table in sorted(parents)),
    ]
