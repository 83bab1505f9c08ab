"""RabbitMQ through aio-pika's own consumer: the fallback, slow but with no tricks.

It costs many times the CPU a message, and what it holds is bounded by count alone.
"""

import asyncio
import contextlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from aiormq.abc import AbstractChannel

from penstock.worker.rabbitmq.connection import (
    CONNECT_SECONDS,
    FAILURES,
    Socket,
    close_quickly,
    translated,
)
from penstock.worker.rabbitmq.link import Link, Receiver, refused, watch_cancel
from penstock.worker.rabbitmq.options import RabbitOptions
from penstock.worker.rabbitmq.shelter import Shelter, unsheltered
from penstock.worker.rabbitmq.source import RabbitMqSource
from penstock.worker.rabbitmq.stream import RabbitMqStreamSource
from penstock.worker.rabbitmq.wire import Delivery


class StockLink:
    """A connection of aio-pika with a callback for each message."""

    def __init__(self, options: RabbitOptions, name: str) -> None:
        self.lost = asyncio.Event()
        self.heard = False
        self._shelter = Shelter()
        self._socket = Socket(self._listen)
        self._connection = aio_pika.Connection(options.address(name), ssl_context=options.tls())
        self._connection.kwargs["transport_factory"] = self._socket
        self._name = name
        self._where = options.redacted
        self._channel: AbstractChannel | None = None

    async def open(
        self, queue: str, prefetch: int, arguments: Mapping[str, Any], receive: Receiver
    ) -> None:
        async def callback(message: AbstractIncomingMessage) -> None:
            receive([_delivery(message)])

        with translated(f"RabbitMQ at {self._where}"), refused(queue):
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._connection.connect()
                channel = self._connection.channel(publisher_confirms=False)
                await channel.initialize()
                await channel.set_qos(prefetch_count=prefetch)
                self._channel = await channel.get_underlay_channel()
                self._channel.closing.add_done_callback(self._ended)
                watch_cancel(self._channel, self._ended)
                found = await channel.get_queue(queue)
                await found.consume(callback, arguments=dict(arguments), consumer_tag=self._name)

    async def ack(self, through: int | None, tags: Sequence[int]) -> None:
        with contextlib.suppress(*FAILURES):
            for tag in tags:
                await self._alive().basic_ack(tag, wait=False)
            if through is not None:
                await self._alive().basic_ack(through, multiple=True)

    async def requeue(self, tags: Sequence[int]) -> None:
        with contextlib.suppress(*FAILURES):
            for tag in tags:
                await self._alive().basic_nack(tag, requeue=True)

    def _alive(self) -> AbstractChannel:
        if self._channel is None or self.lost.is_set():
            raise ConnectionError("the link is lost")
        return self._channel

    def pause(self) -> None:
        """aio-pika has already read it."""

    def resume(self) -> None:
        """Nothing was paused."""

    def keep_alive(self) -> None:
        """Nothing was paused."""

    async def close(self) -> None:
        self.lost.set()
        await close_quickly(self._connection, self._socket)

    def _ended(self, _: object) -> None:
        self.lost.set()

    def _listen(self, data: bytes) -> bytes:
        self.heard = True
        return self._shelter.feed(data)


def _delivery(message: AbstractIncomingMessage) -> Delivery:
    """As it stood on the wire, but for the consumer's tag."""
    exchange, key = (message.exchange or "").encode(), (message.routing_key or "").encode()
    method = struct.pack(
        f">4xxQBB{len(exchange)}sB{len(key)}s",
        message.delivery_tag or 0,
        bool(message.redelivered),
        len(exchange),
        exchange,
        len(key),
        key,
    )
    return method, unsheltered(message.properties, len(message.body)), message.body


class StockRabbitMqSource(RabbitMqSource):
    """As its parent, read by aio-pika."""

    def _make_link(self, name: str) -> Link:
        return StockLink(self._options, name)


class StockRabbitMqStreamSource(RabbitMqStreamSource):
    """As its parent, read by aio-pika."""

    def _make_link(self, name: str) -> Link:
        return StockLink(self._options, name)
