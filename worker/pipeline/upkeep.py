"""Periodic work: creating partitions ahead of time, comparing buckets with PostgreSQL."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

import structlog

from penstock.worker.errors import PenstockError
from penstock.worker.pipeline.mirror import Mirror
from penstock.worker.pipeline.ports import KvRow

log = structlog.get_logger()

_PARTITION_SECONDS = 600.0


class Database(Protocol):
    """What upkeep needs from PostgreSQL."""

    async def maintain(self) -> None:
        """Create partitions ahead of time; tidy the records of positions, crashes and workers."""


class Views(Protocol):
    """What the buckets should hold."""

    def all(self) -> AsyncGenerator[list[KvRow]]:
        """All rows in pieces; none if another replica is reading them now."""


async def keep_partitions(database: Database) -> None:
    """Maintain partitions until cancelled."""
    while True:
        try:
            await database.maintain()
        except PenstockError as error:
            log.warning("maintenance_failed", error=str(error))
        await asyncio.sleep(_PARTITION_SECONDS)


async def hydrate(found: AsyncGenerator[list[KvRow]], mirror: Mirror) -> tuple[int, int]:
    """Bring the buckets up to the rows. Returns how many keys were compared and written."""
    seen = written = 0
    mirror.forget()
    async with aclosing(found) as pieces:
        async for rows in pieces:
            seen += len(rows)
            written += await mirror.put(rows)
    return seen, written


async def keep_hydrated(views: Views, mirror: Mirror, due: asyncio.Event, every: float) -> None:
    """Compare the buckets with PostgreSQL at start, whenever ``due`` is set, and every ``every``
    seconds.

    ``due`` is set after a reconnect and when a bucket was missing: the bucket's stream may have
    lost what it had acknowledged, while PostgreSQL has not.
    """
    while True:
        due.clear()
        try:
            seen, written = await hydrate(views.all(), mirror)
            log.info("bucket_reconciled", keys=seen, written=written)
        except PenstockError as error:
            log.warning("reconcile_failed", error=str(error))
            await asyncio.sleep(5.0)
            continue
        try:
            await asyncio.wait_for(due.wait(), every)
        except TimeoutError:
            continue
