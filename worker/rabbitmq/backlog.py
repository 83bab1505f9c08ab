"""How much waits in a queue and in its retry queues, and how much nobody will ever be given."""

import contextlib

import aio_pika
import aiormq

from penstock.worker.errors import TopologyError
from penstock.worker.rabbitmq.connection import open_channel, translated
from penstock.worker.rabbitmq.topology import DEAD_QUEUE, RETRY_SECONDS, retry_queue


async def pending(connection: aio_pika.RobustConnection, queue: str) -> int:
    """Messages that nobody has been given. Raises SourceUnavailable or TopologyError."""
    found = await ready(connection, queue)
    for seconds in RETRY_SECONDS:
        with contextlib.suppress(TopologyError):  # they may be missing
            found += await ready(connection, retry_queue(queue, seconds))
    return found


async def given_up(connection: aio_pika.RobustConnection) -> int:
    """Messages of any queue that the server itself took out: returned too often, too old, too many.
    Raises SourceUnavailable.
    """
    with contextlib.suppress(TopologyError):  # then they were dropped, or it is not ours to look
        return await ready(connection, DEAD_QUEUE)
    return 0


async def ready(connection: aio_pika.RobustConnection, queue: str) -> int:
    """How many messages wait in one queue. Raises SourceUnavailable or TopologyError."""
    with translated(f"queue {queue}"):
        try:
            async with open_channel(connection) as channel:
                found = await channel.queue_declare(queue, passive=True)
        except (aiormq.ChannelNotFoundEntity, aiormq.ChannelAccessRefused) as exc:
            raise TopologyError(f"queue {queue}: {exc}") from exc
    return int(found.message_count or 0)
