"""Hand-written workers on aio-pika: a callback for every delivery."""

import asyncio

import aio_pika
import asyncpg
from aio_pika.abc import AbstractIncomingMessage

from benchmarks.rival import Job, mark
from benchmarks.rows import insert, tables
from penstock.worker.postgres.pool import prepare_connection

_PREFETCH = 1_000
_BATCH = 500
_FLUSH_SECONDS = 0.1


class _Buffer:
    """Collects deliveries; when full, or after a while, writes and acknowledges them together."""

    def __init__(self, connection: asyncpg.Connection, count: int) -> None:
        self._connection = connection
        self._waiting: list[AbstractIncomingMessage] = []
        self._left = count
        self._writing = asyncio.Lock()

    async def take(self, message: AbstractIncomingMessage) -> None:
        """The callback of a delivery."""
        self._waiting.append(message)
        if len(self._waiting) >= _BATCH:
            await self.flush()

    async def flush(self) -> None:
        """Write and acknowledge what waits."""
        async with self._writing:
            batch, self._waiting = self._waiting, []
            if not batch:
                return
            await insert(self._connection, tables(message.body for message in batch))
            await batch[-1].ack(multiple=True)
            self._left -= len(batch)
            if self._left == 0:
                mark("end")


async def callback(job: Job) -> None:
    """Batches of 500 by `executemany ... ON CONFLICT DO NOTHING`."""
    connection = await asyncpg.connect(job.dsn)
    await prepare_connection(connection)
    buffer = _Buffer(connection, job.count)
    queue = await _queue(job)
    mark("begin")
    await queue.consume(buffer.take)
    while True:
        await asyncio.sleep(_FLUSH_SECONDS)
        await buffer.flush()


async def consume(job: Job) -> None:
    """No database: every 500th delivery acknowledges all before it."""
    left = job.count
    queue = await _queue(job)
    done = asyncio.Event()

    async def take(message: AbstractIncomingMessage) -> None:
        nonlocal left
        left -= 1
        if left % _BATCH == 0:
            await message.ack(multiple=True)
        if left == 0:
            done.set()

    mark("begin")
    await queue.consume(take)
    await done.wait()
    mark("end")
    await asyncio.Event().wait()


async def _queue(job: Job) -> aio_pika.abc.AbstractQueue:
    connection = await aio_pika.connect_robust(job.rabbitmq_url)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=_PREFETCH)
    return await channel.get_queue(job.durable)
