"""The brokers as tests use them: settings for a worker, and publishing of bytes."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import aio_pika
import nats

Sent = tuple[str, bytes, Mapping[str, str]]
"""Subject, body and headers."""

_CHUNK = 2_000


class Carrier(Protocol):
    """A broker that carries events to a worker."""

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings that a worker needs for this broker."""

    @property
    def numbered(self) -> bool:
        """True if messages have offsets that outlive the connection."""

    async def publish(self, messages: Sequence[Sent]) -> None:
        """Publish messages for the worker, in this order, and await confirmation."""


class Nats:
    """JetStream, without message ids, so that the stream does not remove duplicates."""

    settings: Mapping[str, str] = {}
    numbered = True

    def __init__(self, url: str) -> None:
        self._url = url

    async def publish(self, messages: Sequence[Sent]) -> None:
        async with await nats.connect(self._url) as nc:
            js = nc.jetstream(publish_async_max_pending=_CHUNK)
            for part in _chunks(messages):
                waiting = [
                    await js.publish_async(subject, body, headers=dict(headers) or None)
                    for subject, body, headers in part
                ]
                await asyncio.gather(*waiting)


class RabbitMq:
    """The topic exchange, with confirms."""

    numbered = False

    def __init__(self, url: str) -> None:
        self._url = url
        self.settings = {"brokers": "rabbitmq", "rabbitmq_url": url}

    async def publish(self, messages: Sequence[Sent]) -> None:
        async with self._exchange() as exchange:
            for part in _chunks(messages):
                await asyncio.gather(
                    *[
                        exchange.publish(_amqp(body, headers), subject)
                        for subject, body, headers in part
                    ]
                )

    @asynccontextmanager
    async def _exchange(self) -> AsyncIterator[aio_pika.abc.AbstractExchange]:
        connection = await aio_pika.connect(self._url)
        async with connection:
            yield await (await connection.channel()).get_exchange("events")


class Both:
    """Both brokers; every message goes over each."""

    numbered = True

    def __init__(self, nats_url: str, rabbit_url: str) -> None:
        self._carriers = (Nats(nats_url), RabbitMq(rabbit_url))
        self.settings = {"brokers": "nats,rabbitmq", "rabbitmq_url": rabbit_url}

    async def publish(self, messages: Sequence[Sent]) -> None:
        await asyncio.gather(*[carrier.publish(messages) for carrier in self._carriers])


def _chunks(messages: Sequence[Sent]) -> list[Sequence[Sent]]:
    return [messages[at : at + _CHUNK] for at in range(0, len(messages), _CHUNK)]


def _amqp(body: bytes, headers: Mapping[str, str]) -> aio_pika.Message:
    """CloudEvents attributes get the AMQP prefix; content type and message id are properties. A
    message without an id gets one from aiormq: no two are equal.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    content_type, message_id = lowered.pop("content-type", None), lowered.pop("message-id", None)
    attributes = {
        f"cloudEvents:{name[3:]}" if name.startswith("ce-") else name: value
        for name, value in lowered.items()
    }
    return aio_pika.Message(
        body,
        headers=dict(attributes),
        content_type=content_type,
        message_id=message_id,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )
