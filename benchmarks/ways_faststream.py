"""A worker on FastStream with ``batch=True``, as in its documentation.

Its own decoding (JSON to a dict, then to the handler's types) is replaced by msgspec. That is in
FastStream's favour, because it avoids the dict.
"""

import asyncio
from typing import Any

import asyncpg
from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, PullSub

from benchmarks.rival import Job
from benchmarks.rows import insert, tables
from penstock.schemas.streams import STREAMS
from penstock.worker.postgres.pool import prepare_connection

_BATCH = 500
_COLLECT_SECONDS = 0.1
"""How long a batch that is not full waits; draining a backlog waits only once, at its end."""


async def faststream(job: Job) -> None:
    """`executemany ... ON CONFLICT DO NOTHING`, then FastStream acknowledges."""
    pool = await asyncpg.create_pool(job.dsn, min_size=1, init=prepare_connection)

    async def store(bodies: list[bytes]) -> None:
        async with pool.acquire() as connection:
            await insert(connection, tables(bodies))

    broker = NatsBroker(job.nats_url, logger=None, apply_types=False)
    for stream in job.streams:
        subscribe = broker.subscriber(
            f"{STREAMS[stream][0]}.>",
            stream=JStream(stream, declare=False),
            durable=job.durable,
            pull_sub=PullSub(batch_size=_BATCH, timeout=_COLLECT_SECONDS, batch=True),
            ack_policy=AckPolicy.NACK_ON_ERROR,
            decoder=_bodies,
        )
        subscribe(store)
    await broker.start()
    await asyncio.Event().wait()


async def _bodies(message: Any) -> Any:
    return message.body
