"""Giving messages back for later: a copy goes to a queue that returns it after its time."""

import asyncio
from collections.abc import Sequence
from typing import Any

import aio_pika
import structlog
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic

from penstock.worker.errors import SourceUnavailable
from penstock.worker.rabbitmq.connection import ANSWER_SECONDS, open_channel, translated
from penstock.worker.rabbitmq.message import (
    DELIVERIES_HEADER,
    PROPERTIES_HEADER,
    SUBJECT_HEADER,
    RabbitMqMessage,
)
from penstock.worker.rabbitmq.topology import RETRY_SECONDS, retry_queue

log = structlog.get_logger()

_AT_ONCE = 200
_FRAME_ROOM = 1024
"""More than a copy adds to the frame with its properties, of which there can be only one."""


class Retries:
    """The retry queues of one queue.

    They are filled over a connection that consumes nothing: a server short of memory stops reading
    from connections that publish, and must still get our acknowledgements.
    """

    def __init__(self, connection: aio_pika.RobustConnection, queue: str) -> None:
        self._connection = connection
        self._queue = queue

    async def put(self, messages: Sequence[RabbitMqMessage], delay: float) -> list[RabbitMqMessage]:
        """Store copies that come back after ``delay`` seconds, or a little later.

        Returns the messages whose copies the server has confirmed; never raises for the others.
        """
        seconds = next((step for step in RETRY_SECONDS if step >= delay), RETRY_SECONDS[-1])
        stored: list[RabbitMqMessage] = []
        try:
            with translated(f"retry queue of {self._queue}"):
                async with open_channel(self._connection, confirms=True) as channel:
                    most = channel.connection.connection_tune.frame_max - _FRAME_ROOM
                    fitting = [one for one in messages if len(one.header) < most]
                    for first in range(0, len(fitting), _AT_ONCE):
                        part = fitting[first : first + _AT_ONCE]
                        stored += await self._publish(channel, part, seconds)
        except SourceUnavailable as error:
            log.warning("retry_kept_here", source=self._queue, error=str(error))
        return stored

    async def _publish(
        self, channel: AbstractChannel, messages: Sequence[RabbitMqMessage], seconds: int
    ) -> list[RabbitMqMessage]:
        key = retry_queue(self._queue, seconds)
        outcomes = await asyncio.gather(
            *(
                channel.basic_publish(
                    message.body,
                    routing_key=key,
                    properties=copied(message),
                    mandatory=True,
                    timeout=ANSWER_SECONDS,
                )
                for message in messages
            ),
            return_exceptions=True,
        )
        pairs = zip(messages, outcomes, strict=True)
        return [message for message, outcome in pairs if isinstance(outcome, Basic.Ack)]


def copied(message: RabbitMqMessage) -> Basic.Properties:
    """Properties of our own that carry those of the original, as bytes: nothing in them can keep
    the copy from arriving, or be lost because it cannot be read.
    """
    headers: dict[str, Any] = {
        SUBJECT_HEADER: message.subject,
        DELIVERIES_HEADER: message.deliveries,
        PROPERTIES_HEADER: bytearray(message.raw_headers),
    }
    return Basic.Properties(headers=headers, delivery_mode=2)
