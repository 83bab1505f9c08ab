"""Counts and latencies, from PostgreSQL and the bucket."""

from collections.abc import Mapping
from typing import Any

import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.worker.nats.kv.entries import bucket_entries

_NUMBERED = """
SELECT coalesce(sum(upper(one) - lower(one)), 0)::bigint FROM (
    SELECT unnest(range_agg(seqs)) AS one FROM bus.position GROUP BY transport, stream, epoch
) AS ranges
"""
"""Messages of streams that committed batches have settled; redeliveries count once."""

_LETTERS = "SELECT reason, count(*) FROM bus.dead_letter GROUP BY reason ORDER BY 2 DESC, 1"
_KV_ROWS = "SELECT count(*) FROM agents.kv WHERE live"
_MESSAGES = """
SELECT count(created_event) + count(delivered_at) FROM messages.message
"""
"""Messages have no history: each event about a message sets a column of its row."""

_EMITTED = "SELECT count(*), count(waiting_id) FROM bus.outbox"

_LATENCY = """
SELECT percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY
    extract(epoch FROM pg_xact_commit_timestamp(xmin) - occurred_at) * 1000)
FROM {table} WHERE occurred_at > now() - make_interval(secs => $1)
"""
"""In ms, from the event's time (when it was published) to the commit of its row."""


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """Counts at one moment. ``settled`` is the sum of stored, duplicates and dead letters;
    ``emitted`` are those among them that the database itself sent.
    """

    settled: int
    emitted: int
    stored: int
    dead_letters: Mapping[str, int]
    kv_rows: int
    p50_ms: float
    p99_ms: float

    @property
    def rejected(self) -> int:
        """Dead letters, for all reasons together."""
        return sum(self.dead_letters.values())

    @property
    def duplicates(self) -> int:
        """Messages that were settled without a trace, because their event was stored already."""
        return self.settled - self.stored - self.rejected


class Ledger:
    """Counts in one database, which needs ``track_commit_timestamp``."""

    def __init__(self, pool: Any, catalogue: Catalogue) -> None:
        self._pool = pool
        self._tables = catalogue.tables
        histories = {kind.history.table for kind in catalogue.types.values() if kind.history}
        parts = [f"SELECT event_id, occurred_at, xmin FROM {name}" for name in sorted(histories)]  # noqa: S608  (names of the catalogue)
        self._histories = f"({' UNION ALL '.join(parts)}) AS histories"

    async def numbered(self) -> int:
        """Messages with an offset that committed batches have settled."""
        return int(await self._pool.fetchval(_NUMBERED))

    async def latency(self, seconds: float) -> tuple[float, float]:
        """Median and 99th percentile, in ms, of the events of the last ``seconds``."""
        found = await self._pool.fetchval(_LATENCY.format(table=self._histories), seconds)
        return (found[0], found[1]) if found else (0.0, 0.0)

    async def emitted(self) -> tuple[int, int]:
        """Events that the database sent, and how many of them wait to be published."""
        sent, waiting = await self._pool.fetchrow(_EMITTED)
        return sent, waiting

    async def count(self, settled: int, seconds: float, unlogged: int) -> Counted:
        """Count everything else, given ``settled``, and how many of them leave no row behind that
        could be counted; latency is over the last ``seconds``.
        """
        events = f"SELECT count(DISTINCT event_id) FROM {self._histories}"  # noqa: S608  (as above)
        stored = await self._pool.fetchval(events) + await self._pool.fetchval(_MESSAGES)
        emitted, _ = await self.emitted()
        p50, p99 = await self.latency(seconds)
        return Counted(
            settled=settled,
            emitted=emitted,
            stored=stored + unlogged,
            dead_letters=dict(await self._pool.fetch(_LETTERS)),
            kv_rows=await self._pool.fetchval(_KV_ROWS),
            p50_ms=p50,
            p99_ms=p99,
        )

    async def holds(self, query: str) -> bool:
        """Whether what a query asks is so."""
        return bool(await self._pool.fetchval(query))

    async def ask(self, query: str) -> list[dict[str, Any]]:
        """The rows of a query, by the names of its columns."""
        return [dict(row) for row in await self._pool.fetch(query)]

    async def tables(self) -> dict[str, int]:
        """The number of rows of every table that is not empty."""
        counts = {
            name: await self._pool.fetchval(f"SELECT count(*) FROM {name}")  # noqa: S608  (as above)
            for name in (*self._tables, "bus.dead_letter")
        }
        return {name: count for name, count in counts.items() if count}


async def kv_keys(nc: Any, bucket: str) -> int:
    """The number of keys in the bucket."""
    return len({entry.key async for entry in bucket_entries(nc, bucket, 10.0)})
