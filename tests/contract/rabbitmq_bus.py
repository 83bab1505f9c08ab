"""RabbitMQ in the contract suite."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import aio_pika
import aiormq
from pamqp.commands import Basic

from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.budget import Share
from penstock.worker.pipeline.ports import Message
from penstock.worker.pipeline.source import WatchedSource
from penstock.worker.rabbitmq import topology
from penstock.worker.rabbitmq.client_source import StockRabbitMqSource, StockRabbitMqStreamSource
from penstock.worker.rabbitmq.connection import connect, open_channel
from penstock.worker.rabbitmq.options import RabbitOptions, ReadingOptions
from penstock.worker.rabbitmq.source import RabbitMqSource
from penstock.worker.rabbitmq.stream import RabbitMqStreamSource
from tests.contract.features import Features
from tests.support.waiting import PATIENCE, until

ATTRIBUTES = {"cloudEvents:type": "tasks.created", "content-type": "application/json"}


class Committed:
    """Offsets as PostgreSQL keeps them: of every batch that was committed."""

    def __init__(self) -> None:
        self._held: set[int] = set()
        self._begins: int | None = None

    def add(self, messages: Sequence[Message]) -> None:
        self._held.update(m.offset for m in messages if m.offset is not None)

    async def resume(self, stream: str) -> tuple[str, int | None]:
        assert stream
        if self._begins is None:
            return "", None
        following = self._begins
        while following in self._held:
            following += 1
        return "", following

    async def anchor(self, stream: str, epoch: str, first: int) -> None:
        assert stream, f"{epoch}: {first}"
        self._begins = first if self._begins is None else min(first, self._begins)

    async def begin(self, stream: str) -> None:
        assert stream

    async def end(self, stream: str) -> None:
        assert stream

    async def skip(self, stream: str, epoch: str, first: int, after: int) -> None:
        raise AssertionError(f"{stream} {epoch}: nothing was lost from {first} to {after}")


class _Committing(RabbitMqStreamSource):
    """Commits what it acknowledges first, as the pipeline does."""

    committed: Committed

    async def ack(self, batch: Batch) -> None:
        self.committed.add(batch.messages)
        await super().ack(batch)


class _StockCommitting(_Committing, StockRabbitMqStreamSource):
    """Likewise."""


async def _routed(put: Callable[[], Awaitable[object]]) -> bool:
    """False while a server finds no queue, as a busy one does for a moment after its start."""
    try:
        await put()
    except aiormq.exceptions.PublishError as error:
        if not isinstance(error.frame, Basic.Return):
            raise
        return False
    return True


class RabbitMqBus:
    """One empty queue with its exchange; every source has connections of its own."""

    def __init__(
        self,
        features: Features,
        url: str,
        stack: AsyncExitStack,
        ack_wait: float,  # noqa: ARG002  (it waits as long as the connection lives)
    ) -> None:
        self.features = features
        self._options = RabbitOptions(url=url, heartbeat=1)
        self._stack = stack
        self._committed = Committed()
        self._sources: list[WatchedSource] = []
        self._connections: dict[int, aio_pika.RobustConnection] = {}
        name = f"contract-{uuid4().hex[:8]}"
        self._plan = topology.QueuePlan(
            name=name,
            subjects=("c.>",),
            kind=features.kind,  # type: ignore[arg-type]  # a field of all brokers' features
            exchange=f"{name}-events",
        )

    async def open(self) -> None:
        self._admin = await self._connect()
        await topology.provision(self._admin, [self._plan])

    async def remove(self) -> None:
        """Leave nothing behind on a server that stays."""
        async with aiormq.connect(self._options.url) as connection:
            channel = await connection.channel()
            for seconds in topology.RETRY_SECONDS:
                await channel.queue_delete(topology.retry_queue(self._plan.name, seconds))
            await channel.queue_delete(self._plan.name)
            for exchange in (self._plan.exchange, topology.dead_exchange(self._plan.exchange)):
                await channel.exchange_delete(exchange)

    async def remake(self) -> None:
        """Not at once: RabbitMQ 3.10 attaches a consumer of a deleted quorum queue to a new one of
        that name, without telling it, and takes its old acknowledgements for new messages.
        """
        async with open_channel(self._admin) as channel:
            await channel.queue_delete(self._plan.name)
        await until(self._noticed)
        await topology.provision(self._admin, [self._plan])

    async def _noticed(self) -> bool:
        return not any(source.healthy for source in self._sources)

    async def publish(self, bodies: Sequence[bytes], headers: dict[str, str] | None = None) -> None:
        properties = Basic.Properties(
            headers={k: v for k, v in (headers or {}).items() if k != "content-type"} or None,
            content_type=(headers or {}).get("content-type"),
            delivery_mode=2,
            timestamp=datetime.now(UTC),
        )
        async with asyncio.timeout(PATIENCE):
            await self._admin.connected.wait()
        async with open_channel(self._admin, confirms=True) as channel:
            for number, body in enumerate(bodies):
                put = partial(
                    channel.basic_publish,
                    body,
                    exchange=self._plan.exchange,
                    routing_key=f"c.{number}",
                    properties=properties,
                    mandatory=True,
                )
                await until(partial(_routed, put))

    async def ready(self, source: WatchedSource) -> WatchedSource:
        return await self._stack.enter_async_context(source)

    async def open_source(self, share: Share | None = None, **options: Any) -> WatchedSource:
        connection = await self._connect()
        given: dict[str, Any] = {"batch_size": 100, "batch_bytes": 1 << 20, "linger": 0.02}
        reading = ReadingOptions(**given | options)
        more = {"offsets": self._committed} if self.features.kind == "stream" else {}
        name = self._plan.name
        source = self.features.make(connection, self._options, name, reading, share, **more)
        if isinstance(source, _Committing):
            source.committed = self._committed
        self._connections[id(source)] = connection
        self._sources.append(source)
        return source

    async def cut(self, source: WatchedSource) -> None:
        assert isinstance(source, RabbitMqSource)
        await self._connections[id(source)].close()
        assert source._link is not None
        await source._link.close()

    async def deafen(self, source: WatchedSource) -> None:
        assert isinstance(source, RabbitMqSource)
        assert source._link is not None
        source._link._socket.transport.pause_reading()  # type: ignore[attr-defined]  # of both links

    async def _connect(self) -> aio_pika.RobustConnection:
        connection = await connect(self._options, name="contract")
        self._stack.push_async_callback(connection.close)
        return connection


def _features(name: str, make: type[RabbitMqSource], kind: str, **more: Any) -> Features:
    return Features(
        name=f"rabbitmq-{name}",
        make=make,
        bus=RabbitMqBus,
        address="rabbit_address",
        server="shaky_rabbit",
        kind=kind,
        names_epochs=False,
        attributes=ATTRIBUTES,
        overshoot=1 << 20,  # what one read of the socket gives
        **{"first_offset": None, **more},
    )


STREAM_FEATURES = {"first_offset": 0, "shares": False, "counts_deliveries": False}
WAYS = (
    _features("quorum", RabbitMqSource, "quorum"),
    _features("quorum-stock", StockRabbitMqSource, "quorum"),
    _features("classic", RabbitMqSource, "classic"),
    _features("stream", _Committing, "stream", **STREAM_FEATURES),
    _features("stream-stock", _StockCommitting, "stream", **STREAM_FEATURES),
)
