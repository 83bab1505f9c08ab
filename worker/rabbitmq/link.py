"""One connection with one consumer: what it delivered can be settled through it alone.

Every link is a generation of its own, so a delivery tag of an older one cannot reach a newer, and
closing the connection gives back to the queue whatever was not acknowledged.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import aiormq
import structlog
from aiormq.abc import AbstractChannel, DeliveredMessage

from penstock.worker.errors import Cause, TopologyError
from penstock.worker.rabbitmq.connection import (
    CONNECT_SECONDS,
    HEARTBEAT,
    Socket,
    close_quickly,
    translated,
)
from penstock.worker.rabbitmq.options import RabbitOptions
from penstock.worker.rabbitmq.wire import Deliveries, Delivery, acks, requeues

log = structlog.get_logger()

Receiver = Callable[[list[Delivery]], None]


class Link(Protocol):
    """A consumer on a connection of its own. ``lost`` is set once it will deliver nothing more.

    ``heard`` becomes True with whatever the server sends; it is for the owner to take back.
    """

    lost: asyncio.Event
    heard: bool

    async def open(
        self, queue: str, prefetch: int, arguments: Mapping[str, Any], receive: Receiver
    ) -> None:
        """Begin to hand deliveries to ``receive``, at most ``prefetch`` of them unsettled.

        Raises SourceUnavailable, or TopologyError if the server refuses.
        """

    async def ack(self, through: int | None, tags: Sequence[int]) -> None:
        """Settle all tags up to ``through``, and ``tags``. Without effect once lost."""

    async def requeue(self, tags: Sequence[int]) -> None:
        """Give these back to the queue at once. Without effect once lost."""

    def pause(self) -> None:
        """Leave what comes in the socket. Idempotent."""

    def resume(self) -> None:
        """Read on. Idempotent."""

    def keep_alive(self) -> None:
        """Say that silence is our own wish, while paused."""

    async def close(self) -> None:
        """End the connection, whatever its state. Idempotent."""


class FastLink:
    """The way past aiormq, which connects, logs in and keeps the heartbeat."""

    def __init__(self, options: RabbitOptions, name: str) -> None:
        self.lost = asyncio.Event()
        self.heard = False
        self._deliveries = Deliveries()
        self._socket = Socket(self._tap)
        self._connection = aiormq.Connection(
            options.address(name), context=options.tls(), transport_factory=self._socket
        )
        self._name = name
        self._where = options.redacted
        self._channel = 0
        self._fed = 0.0

    async def open(
        self, queue: str, prefetch: int, arguments: Mapping[str, Any], receive: Receiver
    ) -> None:
        with translated(f"RabbitMQ at {self._where}"), refused(queue):
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._connection.connect()
                channel = await self._connection.channel(publisher_confirms=False)
                self._connection.closing.add_done_callback(self._ended)
                channel.closing.add_done_callback(self._ended)
                watch_cancel(channel, self._ended)
                await channel.basic_qos(prefetch_count=prefetch)
                self._channel = int(channel.number)
                self._deliveries.watch(self._channel, receive)
                await channel.basic_consume(
                    queue, _taken_before, consumer_tag=self._name, arguments=dict(arguments)
                )

    async def ack(self, through: int | None, tags: Sequence[int]) -> None:
        if not self.lost.is_set():
            self._socket.write(acks(self._channel, through, tags))

    async def requeue(self, tags: Sequence[int]) -> None:
        if not self.lost.is_set():
            self._socket.write(requeues(self._channel, tags))

    def pause(self) -> None:
        if self._socket.transport is not None:
            self._socket.transport.pause_reading()

    def resume(self) -> None:
        if self._socket.transport is not None and not self._socket.transport.is_closing():
            self._socket.transport.resume_reading()

    def keep_alive(self) -> None:
        self._socket.feed(HEARTBEAT)

    async def close(self) -> None:
        self.lost.set()
        self.resume()
        await close_quickly(self._connection, self._socket)

    def _ended(self, _: object) -> None:
        self.lost.set()

    def _tap(self, data: bytes) -> bytes:
        """Show aiormq a heartbeat now and then: it takes a connection that only delivers for dead.

        A server that sends messages sends no heartbeats.
        """
        self.heard = True
        try:
            rest = self._deliveries.feed(data)
        except Exception:  # a defect of ours must not leave a connection that reads nothing
            log.exception("deliveries_unreadable", connection=self._name)
            self.lost.set()
            return b""
        if self._deliveries.broken:  # who sent that says nothing more that could be understood
            self.lost.set()
        now = asyncio.get_running_loop().time()
        if not rest and now - self._fed > 1.0:
            rest = HEARTBEAT
        if rest:
            self._fed = now
        return rest


@contextlib.contextmanager
def refused(queue: str) -> Iterator[None]:
    """Turn a refusal by the server, which another attempt would not change, into TopologyError."""
    try:
        yield
    except aiormq.ChannelNotFoundEntity as exc:
        text = f"queue {queue}: {exc}; `penstock provision` creates it"
        raise TopologyError(text, cause=Cause.MISSING) from exc
    except (aiormq.ChannelAccessRefused, aiormq.ChannelPreconditionFailed) as exc:
        raise TopologyError(f"queue {queue}: {exc}") from exc


async def _taken_before(_: DeliveredMessage) -> None:
    """No delivery of this consumer comes as far as aiormq."""


def watch_cancel(channel: AbstractChannel, ended: Callable[[object], None]) -> None:
    """Call ``ended`` when the server cancels the consumer, as it does when the queue is deleted."""
    channel.on_consumer_cancel_callbacks.add(ended)
