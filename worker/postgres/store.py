"""PostgreSQL as a worker uses it, checked and ready."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.worker import migrate
from penstock.worker.postgres.due import PostgresDue
from penstock.worker.postgres.jobs import PostgresJobs
from penstock.worker.postgres.mappings import check_mappings
from penstock.worker.postgres.pool import database
from penstock.worker.postgres.retention import PostgresRetention
from penstock.worker.postgres.sink import PostgresSink
from penstock.worker.postgres.upkeep import PostgresUpkeep
from penstock.worker.settings.keys import Settings


class Store(msgspec.Struct, frozen=True):
    """One pool, and what writes and keeps house through it."""

    pool: asyncpg.Pool
    sink: PostgresSink
    upkeep: PostgresUpkeep
    retention: PostgresRetention
    due: PostgresDue
    jobs: PostgresJobs


@asynccontextmanager
async def opened(settings: Settings, catalogue: Catalogue) -> AsyncIterator[Store]:
    """With a schema that fits, and partitions for the time being.

    Raises MigrationError if the schema does not fit the catalogue or the settings, and
    SinkUnavailable.
    """
    await migrate.require(
        settings.postgres_dsn,
        settings.event_packages,
        apply=settings.migrate,
        patience=settings.start_timeout,
    )
    async with database(settings) as pool:
        await check_mappings(pool, catalogue)
        retention = PostgresRetention(settings, catalogue)
        await retention.check(pool)
        sink = PostgresSink(
            pool, catalogue, worker_id=settings.worker_id, letters_max=settings.letters_max
        )
        upkeep = PostgresUpkeep(
            pool,
            outbox_keep=timedelta(seconds=settings.outbox_keep) if settings.outbox else None,
            letters_keep=timedelta(seconds=settings.letters_keep),
        )
        await upkeep.maintain()
        due, jobs = PostgresDue(pool), PostgresJobs(pool, settings)
        yield Store(pool, sink, upkeep, retention, due, jobs)
