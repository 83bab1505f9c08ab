"""Periodic work: partitions ahead of time, counts of letters, comparing buckets with PostgreSQL."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Protocol

import msgspec
import structlog

from penstock.worker.errors import PenstockError
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.mirror import Mirror
from penstock.worker.pipeline.ports import KvRow

log = structlog.get_logger()

_LETTERS_SECONDS = 10.0
_MAINTAIN_SECONDS = 600.0
_POLICY_SECONDS = 10.0
"""How soon a change of `partitions.policy` takes effect."""

_RETENTION_SECONDS = 120.0


Kept = Mapping[str, timedelta | None]
"""How long each table keeps rows; None is for ever."""


class Policy(msgspec.Struct, frozen=True):
    """What `partitions.policy` says of a table, as far as workers go by it."""

    table: str
    interval: str
    premake: int
    retention: timedelta | None


class Database(Protocol):
    """What upkeep needs from PostgreSQL."""

    async def policies(self) -> Sequence[Policy]:
        """How tables are partitioned now."""

    async def maintain(self) -> None:
        """Create partitions ahead of time; tidy the records of positions, crashes and workers."""


class Letters(Protocol):
    """The dead letters that are kept."""

    async def open(self) -> Mapping[str, int]:
        """How many wait for somebody, by status. Raises SinkUnavailable."""


class Retention(Protocol):
    """What takes old partitions out of their tables."""

    def round(self) -> AsyncGenerator[str]:
        """Do what is due, unless another process is at it; says what was done."""


class Views(Protocol):
    """What the buckets should hold."""

    def all(self) -> AsyncGenerator[list[KvRow]]:
        """All rows in pieces; none if another replica is reading them now."""


async def later(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do ``work`` after that many seconds."""
    await asyncio.sleep(seconds)
    await work()


async def keep_partitions(
    database: Database, kept: Callable[[Kept], None], every: float = _POLICY_SECONDS
) -> None:
    """Maintain partitions until cancelled. ``kept`` is told how long tables keep rows, whenever
    that has changed; policies are looked at ``every`` so many seconds.
    """
    known: Sequence[Policy] = ()
    due = 0.0
    while True:
        try:
            policies = await database.policies()
            if policies != known or time.monotonic() >= due:
                kept({policy.table: policy.retention for policy in policies})
                await database.maintain()
                known, due = policies, time.monotonic() + _MAINTAIN_SECONDS
        except PenstockError as error:
            log.warning("maintenance_failed", error=str(error))
        await asyncio.sleep(every)


async def keep_retention(retention: Retention) -> None:
    """Take old partitions out of their tables when it is this worker's turn, until cancelled. What
    keeps failing in the same way is told once.
    """
    told = ""
    while True:
        try:
            async with aclosing(retention.round()) as steps:
                async for step in steps:
                    log.info("retention_step", step=step)
            told = ""
        except PenstockError as error:
            if str(error) != told:
                told = str(error)
                log.warning("retention_failed", error=told)
        await asyncio.sleep(_RETENTION_SECONDS)


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
