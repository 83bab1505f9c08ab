"""Periodic work: partitions ahead of time, counts of letters, comparing buckets with PostgreSQL."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Protocol

import structlog

from penstock.worker.errors import PenstockError
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.mirror import Mirror
from penstock.worker.pipeline.ports import KvRow

log = structlog.get_logger()

_PARTITION_SECONDS = 600.0
_LETTERS_SECONDS = 10.0


class Database(Protocol):
    """What upkeep needs from PostgreSQL."""

    async def maintain(self) -> None:
        """Create partitions ahead of time; tidy the records of positions, crashes and workers."""


class Letters(Protocol):
    """The dead letters that are kept."""

    async def open(self) -> Mapping[str, int]:
        """How many wait for somebody, by status. Raises SinkUnavailable."""


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


async def watch_letters(letters: Letters, metrics: Metrics) -> None:
    """Tell how many letters are open, until cancelled."""
    while True:
        try:
            for status, count in (await letters.open()).items():
                metrics.letters(status, count)
        except PenstockError as error:
            log.debug("letters_unknown", error=str(error))
        await asyncio.sleep(_LETTERS_SECONDS)


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
