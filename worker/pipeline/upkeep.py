"""What has to happen now and then: partitions ahead of time, a bucket that holds what it should."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

import structlog

from penstock.worker.errors import PenstockError
from penstock.worker.pipeline.ports import KvRow, StateStore

log = structlog.get_logger()

_PARTITION_SECONDS = 600.0


class Store(StateStore, Protocol):
    """A bucket whose cache can be dropped, so that the next put looks at what is really there."""

    def forget(self) -> None:
        """Drop what is remembered of the bucket."""


class Database(Protocol):
    """What upkeep asks of PostgreSQL."""

    async def maintain(self) -> None:
        """Create partitions ahead of time and tidy the ledger of positions."""

    def hydrated(self, agent: str | None) -> AsyncGenerator[list[KvRow]]:
        """All rows of the KV views in chunks; none if another replica is reading them now."""


async def keep_partitions(database: Database) -> None:
    """Maintain partitions until cancelled."""
    while True:
        try:
            await database.maintain()
        except PenstockError as error:
            log.warning("maintenance_failed", error=str(error))
        await asyncio.sleep(_PARTITION_SECONDS)


async def hydrate(database: Database, store: Store, agent: str | None = None) -> tuple[int, int]:
    """Bring the bucket as far as PostgreSQL is. Returns keys looked at and keys written."""
    seen = written = 0
    store.forget()
    async with aclosing(database.hydrated(agent)) as chunks:
        async for rows in chunks:
            seen += len(rows)
            written += await store.put(rows)
    return seen, written


async def keep_hydrated(database: Database, store: Store, due: asyncio.Event, every: float) -> None:
    """Compare the bucket with PostgreSQL at start, whenever ``due`` is set, and ``every`` seconds.

    ``due`` is set after a reconnect and when the bucket is found missing: its stream may have lost
    what it acknowledged, PostgreSQL has not.
    """
    while True:
        due.clear()
        try:
            seen, written = await hydrate(database, store)
            log.info("bucket_reconciled", keys=seen, written=written)
        except PenstockError as error:
            log.warning("reconcile_failed", error=str(error))
            await asyncio.sleep(5.0)
            continue
        try:
            await asyncio.wait_for(due.wait(), every)
        except TimeoutError:
            continue
