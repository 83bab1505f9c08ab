"""Reads over RabbitMQ, as who asks sees them."""

import asyncio

import aio_pika
import aiormq
import msgspec
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from penstock.schemas.identity import escape
from penstock.worker.errors import SourceUnavailable
from penstock.worker.rabbitmq.connection import open_channel, translated
from penstock.worker.rabbitmq.properties import LONGEST_KEY
from penstock.worker.rabbitmq.receipts import REPLY_TO
from penstock.worker.sending.reads import (
    PATIENCE_SECONDS,
    SUBJECT,
    Asked,
    Page,
    ReadRefused,
    ReadUnavailable,
)

_UNAVAILABLE = 500


class _Error(msgspec.Struct, frozen=True):
    code: int
    text: str


class _Answer(msgspec.Struct, frozen=True):
    items: list[msgspec.Raw] = []
    next: str | None = None
    error: _Error | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class RabbitReading:
    """Asks over one connection, with a channel for each question."""

    def __init__(self, connection: aio_pika.RobustConnection, exchange: str) -> None:
        self._connection = connection
        self._exchange = exchange

    async def ask(self, name: str, agent: str, asked: Asked) -> Page:
        """See `Reading.ask`."""
        what = f"{name} of agent {agent!r}"
        key = f"{SUBJECT}.{name}.{escape(agent)}"
        if (length := len(key.encode())) > LONGEST_KEY:
            text = f"{length} bytes of routing key, escaped, and RabbitMQ takes {LONGEST_KEY}"
            raise ReadRefused(400, f"{what}: {text}")
        try:
            with translated(what):
                body = await self._answer(key, asked)
        except aiormq.PublishError as error:
            text = f"{what}: no worker takes reads; is one running, with `reads` on?"
            raise ReadUnavailable(text) from error
        except SourceUnavailable as error:
            raise ReadUnavailable(str(error)) from error
        return _page(body, what)

    async def _answer(self, key: str, asked: Asked) -> bytes:
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def take(message: DeliveredMessage) -> None:
            if not answered.done():
                answered.set_result(message.body)

        async with open_channel(self._connection, confirms=True) as channel:
            await channel.basic_consume(REPLY_TO, take, no_ack=True)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await channel.basic_publish(
                    msgspec.json.encode(asked),
                    exchange=self._exchange,
                    routing_key=key,
                    mandatory=True,
                    properties=Basic.Properties(reply_to=REPLY_TO, correlation_id="1"),
                )
                return await answered


def _page(body: bytes, what: str) -> Page:
    """Raises ReadRefused, ReadUnavailable."""
    try:
        answer = _decode(body)
    except msgspec.MsgspecError as error:
        raise ReadUnavailable(f"{what}: the answer is not one of a worker: {error}") from error
    if answer.error is None:
        return Page(answer.items, answer.next)
    text = f"{what}: {answer.error.text}"
    if answer.error.code >= _UNAVAILABLE:
        raise ReadUnavailable(text)
    raise ReadRefused(answer.error.code, text)
