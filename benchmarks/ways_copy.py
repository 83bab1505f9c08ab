"""PostgreSQL's limit: binary COPY of prepared rows from memory into the same tables."""

import asyncio

import asyncpg

from benchmarks.rival import Job, mark
from benchmarks.rows import copy as copy_rows
from benchmarks.rows import tables
from benchmarks.workloads import WORKLOADS
from penstock.worker.postgres.pool import prepare_connection

_BATCH = 2_000


async def copy(job: Job) -> None:
    """One transaction for every 2,000 events."""
    made = [one.body for one in WORKLOADS[job.workload].make(job.count)]
    batches = [tables(made[start : start + _BATCH]) for start in range(0, job.count, _BATCH)]
    connection = await asyncpg.connect(job.dsn)
    await prepare_connection(connection)
    mark("begin")
    for batch in batches:
        async with connection.transaction():
            for table, records in batch.items():
                await copy_rows(connection, table, records)
    mark("end")
    await asyncio.Event().wait()
