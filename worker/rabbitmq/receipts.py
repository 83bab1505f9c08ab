"""Receipts on RabbitMQ, as who publishes sees them: direct reply-to on the publishing channel."""

import aiormq
from aiormq.abc import DeliveredMessage

from penstock.worker.rabbitmq.properties import CORRELATION_ID, cut
from penstock.worker.rabbitmq.shelter import unsheltered
from penstock.worker.sending.receipts import Awaited, Waiting

REPLY_TO = "amq.rabbitmq.reply-to"
"""The server writes the address of the channel in its place. Receipts of what a channel published
cannot come over another: those that are under way when it ends are lost.
"""


class ReplyQueue:
    """Receives the receipts of whatever is published on a channel after `listen`."""

    def __init__(self) -> None:
        self._waiting = Waiting()
        self._channel: aiormq.Channel | None = None

    async def expect(self) -> Awaited:
        """See `Receipts.expect`."""
        return Awaited(*self._waiting.add())

    async def listen(self, channel: aiormq.Channel) -> None:
        """Receive what comes to this channel. Raises aiormq's errors."""
        if channel is not self._channel:
            await channel.basic_consume(REPLY_TO, self._receive, no_ack=True)
            self._channel = channel

    def close(self) -> None:
        """Whoever still waits is told that no more comes."""
        self._waiting.close()

    async def _receive(self, message: DeliveredMessage) -> None:
        properties, _ = cut(unsheltered(message.header.properties, len(message.body)))
        token = properties.get(CORRELATION_ID, b"\0")[1:].decode("utf-8", "replace")
        self._waiting.take(token, message.body)
