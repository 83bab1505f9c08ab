"""Hand-written workers on nats-py: `fetch`, write the history, acknowledge."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import nats
from nats.errors import TimeoutError as NothingCame
from nats.js import JetStreamContext

from benchmarks.rival import Job
from benchmarks.rows import Record, insert, prepare_staging, stage, tables
from penstock.worker.postgres.pool import prepare_connection

_FETCH = 500
"""`executemany` gains nothing from larger batches."""
_FETCH_STAGED = 2_000
"""A merge gains from larger batches."""

Write = Callable[[Any, dict[str, list[Record]]], Awaitable[None]]


async def stock(job: Job) -> None:
    """`executemany ... ON CONFLICT DO NOTHING`."""
    await _drain(job, _FETCH, insert)


async def staged(job: Job) -> None:
    """COPY to a temporary table, then INSERT ... SELECT ... ON CONFLICT DO NOTHING."""
    await _drain(job, _FETCH_STAGED, stage, prepare_staging)


async def _nothing(_connection: asyncpg.Connection) -> None:
    """No staging tables."""


async def _drain(
    job: Job, fetch: int, write: Write, prepare: Callable[[Any], Awaitable[None]] = _nothing
) -> None:
    client = await nats.connect(job.nats_url)
    async with asyncio.TaskGroup() as group:
        for stream in job.streams:
            connection = await asyncpg.connect(job.dsn)
            await prepare_connection(connection)
            await prepare(connection)
            js = client.jetstream()
            group.create_task(_drain_stream(js, stream, job.durable, fetch, connection, write))


async def _drain_stream(
    js: JetStreamContext, stream: str, durable: str, fetch: int, connection: Any, write: Write
) -> None:
    subscription = await js.pull_subscribe_bind(durable, stream)
    while True:
        try:
            delivered = await subscription.fetch(fetch, timeout=1)
        except NothingCame:
            continue
        await write(connection, tables(message.data for message in delivered))
        for message in delivered:
            await message.ack()
