"""Reads on RabbitMQ: one queue that all workers take requests from, answered by direct reply-to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiormq
import msgspec
import structlog
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from penstock.worker.errors import TopologyError
from penstock.worker.rabbitmq.connection import translated
from penstock.worker.rabbitmq.line import Answer, AnswerLine
from penstock.worker.rabbitmq.link import refused, watch_cancel
from penstock.worker.rabbitmq.options import RabbitOptions
from penstock.worker.rabbitmq.replies import asker
from penstock.worker.rabbitmq.shelter import unsheltered
from penstock.worker.rabbitmq.topology import READ_QUEUE
from penstock.worker.replay.choice import unescaped
from penstock.worker.sending.answering import ReadFailed, answered
from penstock.worker.sending.reads import SUBJECT, Answering

log = structlog.get_logger()

_TOKENS = 4
"""Of a routing key: two of the prefix, the read, the agent."""


@asynccontextmanager
async def serving(options: RabbitOptions, name: str, reads: Answering) -> AsyncIterator[None]:
    """Answer reads, if the queue is there and ours to read; otherwise the log says so."""
    service = _Service(reads)
    async with AsyncExitStack() as stack:
        try:
            service.line = await stack.enter_async_context(
                AnswerLine(options, name, service.listen)
            )
        except TopologyError as error:
            log.warning("reads_unserved", error=str(error))
        yield


class _Service:
    """Takes requests, a few at once, each acknowledged once it is answered."""

    def __init__(self, reads: Answering) -> None:
        self.line: AnswerLine | None = None
        self._reads = reads

    async def listen(self, connection: aiormq.Connection, lost: asyncio.Event) -> None:
        """Take requests over this connection. Raises SourceUnavailable, TopologyError."""
        with translated("RabbitMQ"), refused(READ_QUEUE):
            channel = await connection.channel(publisher_confirms=False)
            channel.closing.add_done_callback(lambda _: lost.set())
            watch_cancel(channel, lambda _: lost.set())
            await channel.basic_qos(prefetch_count=self._reads.at_once)
            await channel.basic_consume(READ_QUEUE, self._take)

    async def _take(self, message: DeliveredMessage) -> None:
        delivery = message.delivery
        if not isinstance(delivery, Basic.Deliver) or delivery.delivery_tag is None:
            return  # a consumer is given nothing else
        try:
            who = asker(unsheltered(message.header.properties, len(message.body)))
            if who is not None and self.line is not None:
                answer = await self._answer(delivery.routing_key or "", message.body)
                self.line.send([Answer(*who, answer)])
        finally:  # one that stays unacknowledged takes the place of another for good
            if not message.channel.is_closed:
                await message.channel.basic_ack(delivery.delivery_tag, wait=False)

    async def _answer(self, key: str, body: bytes) -> bytes:
        tokens = key.split(".")
        if len(tokens) != _TOKENS or not key.isascii():
            return _error(400, f"{key!r} is not {SUBJECT}.<read>.<agent>, escaped as in subjects")
        try:
            return await answered(self._reads, tokens[2], unescaped(tokens[3]), body)
        except ReadFailed as error:
            return _error(error.code, str(error))


def _error(code: int, text: str) -> bytes:
    return msgspec.json.encode({"error": {"code": code, "text": text}})
