"""RabbitMQ as a broker of the worker: queues bound to the topic exchange of events."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime

import aio_pika

from penstock.worker.brokers.ports import Lent, Offsets, Waiting
from penstock.worker.brokers.scope import Scope
from penstock.worker.difference import Difference
from penstock.worker.errors import TopologyError
from penstock.worker.finding import Finding, Verdict
from penstock.worker.lifecycle import patiently
from penstock.worker.pipeline.budget import Budget, Share
from penstock.worker.pipeline.ports import Message
from penstock.worker.pipeline.source import Log, Span, WatchedSource
from penstock.worker.rabbitmq import topology
from penstock.worker.rabbitmq.backlog import given_up, pending
from penstock.worker.rabbitmq.client_source import StockRabbitMqSource, StockRabbitMqStreamSource
from penstock.worker.rabbitmq.connection import connect
from penstock.worker.rabbitmq.log import RabbitMqLog
from penstock.worker.rabbitmq.options import RabbitOptions
from penstock.worker.rabbitmq.sender import RabbitSender
from penstock.worker.rabbitmq.source import RabbitMqSource
from penstock.worker.rabbitmq.stream import RabbitMqStreamSource
from penstock.worker.rabbitmq.topology import QueuePlan
from penstock.worker.settings.keys import Settings


async def open_broker(scope: Scope) -> "RabbitMqBroker":
    """Over the scope's one connection to RabbitMQ. Raises SourceUnavailable, SettingsError."""
    connection = await scope.once(_connection)
    return RabbitMqBroker(connection, scope.settings, queue_plans(scope))


@asynccontextmanager
async def _connection(scope: Scope) -> AsyncIterator[aio_pika.RobustConnection]:
    options, name = options_of(scope.settings), f"penstock {scope.settings.worker_id}"
    connection = await patiently(lambda: connect(options, name=name), scope.settings.start_timeout)
    try:
        yield connection
    finally:
        await connection.close()


class RabbitMqBroker:
    """A `Broker` over one connection, which stays the caller's."""

    transport = RabbitMqSource.transport

    def __init__(
        self, connection: aio_pika.RobustConnection, settings: Settings, plans: list[QueuePlan]
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._options = options_of(settings)
        self._plans = plans

    async def provision(self, *, dry_run: bool) -> list[Difference]:
        return await topology.provision(self._connection, self._plans, dry_run=dry_run)

    async def check(self) -> list[Difference]:
        return await topology.check(self._connection, self._plans)

    async def examine(self) -> list[Finding]:
        count = await given_up(self._connection)
        return [_given_up(count)] if count else []

    async def waiting(self, stream: str, offsets: Offsets) -> Waiting:
        """AMQP does not tell how much other connections hold, nor how old a message is."""
        if self._settings.rabbitmq_queue_type != "stream":
            return Waiting(pending=await pending(self._connection, stream))
        _, committed = await offsets.resume(stream)
        share = Budget(self._settings.memory_limit, 1, self._settings.batch_bytes).share()
        reader = self._log(stream, Lent(share, offsets))
        return Waiting(pending=await reader.from_offset(committed or 0))

    async def settled(self, stream: str) -> None:
        """A queue has no offsets, and a stream queue is read on from where PostgreSQL has a gap."""

    async def again(self, stream: str, offsets: Sequence[int]) -> Sequence[Message]:  # noqa: ARG002
        return ()

    def source(self, stream: str, lent: Lent) -> AbstractAsyncContextManager[WatchedSource]:
        if self._settings.rabbitmq_queue_type == "stream":
            return self._log(stream, lent)
        return self._queue(stream, lent)

    def _queue(self, name: str, lent: Lent) -> RabbitMqSource:
        settings = self._settings
        kind = RabbitMqSource if settings.source_path == "fast" else StockRabbitMqSource
        return kind(
            self._connection,
            self._options,
            name,
            batch_size=settings.batch_size,
            batch_bytes=settings.batch_bytes,
            linger=settings.linger,
            in_flight=settings.in_flight,
            share=lent.share,
        )

    def _log(self, name: str, lent: Lent) -> RabbitMqStreamSource:
        settings, start = self._settings, self._settings.rabbitmq_stream_from
        fast = settings.source_path == "fast"
        kind = RabbitMqStreamSource if fast else StockRabbitMqStreamSource
        return kind(
            self._connection,
            self._options,
            name,
            offsets=lent.offsets,
            start=datetime.fromisoformat(start) if isinstance(start, str) else start,
            batch_size=settings.batch_size,
            batch_bytes=settings.batch_bytes,
            linger=settings.linger,
            in_flight=settings.in_flight,
            share=lent.share,
        )

    def log(self, stream: str, span: Span, share: Share) -> AbstractAsyncContextManager[Log]:
        settings = self._settings
        if settings.rabbitmq_queue_type != "stream":
            raise TopologyError(
                f"stream {stream}: rabbitmq_queue_type is {settings.rabbitmq_queue_type}, and only "
                "a stream keeps what was read; replay from NATS, from a file or --source postgres"
            )
        return RabbitMqLog(
            self._connection,
            self._options,
            stream,
            span,
            batch_size=settings.batch_size,
            batch_bytes=settings.batch_bytes,
            linger=settings.linger,
            in_flight=settings.in_flight,
            share=share,
        )

    @asynccontextmanager
    async def sender(self) -> AsyncIterator[RabbitSender]:
        sender = RabbitSender(self._connection, exchange=self._settings.rabbitmq_exchange)
        await sender.open()
        try:
            yield sender
        finally:
            await sender.close()


def _given_up(count: int) -> Finding:
    return Finding(
        Verdict.BAD,
        f"queue {topology.DEAD_QUEUE} holds {count} messages that RabbitMQ gave up: not stored",
        "the header x-death of each says why; publish them again once that is mended",
    )


def options_of(settings: Settings) -> RabbitOptions:
    """The part of the settings that a connection needs."""
    return RabbitOptions(
        url=settings.rabbitmq_url,
        user=settings.rabbitmq_user,
        password=settings.rabbitmq_password,
        tls_ca=settings.rabbitmq_tls_ca,
        tls_cert=settings.rabbitmq_tls_cert,
        tls_key=settings.rabbitmq_tls_key,
    )


def queue_plans(scope: Scope) -> list[QueuePlan]:
    """The queues that the settings and the catalogue ask for."""
    settings = scope.settings
    return [
        QueuePlan(
            name=name,
            subjects=scope.catalogue.streams[name],
            kind=settings.rabbitmq_queue_type,
            exchange=settings.rabbitmq_exchange,
            max_age=settings.stream_max_age,
            max_bytes=settings.stream_max_bytes,
        )
        for name in scope.streams
    ]
