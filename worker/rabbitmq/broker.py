"""RabbitMQ as a broker of the worker: queues bound to the topic exchange of events."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime

import aio_pika

from penstock.worker.brokers.ports import Copy, GivenUp, Lent, Offsets, Waiting
from penstock.worker.brokers.scope import Scope
from penstock.worker.difference import Difference
from penstock.worker.errors import PenstockError, TopologyError
from penstock.worker.finding import Finding, Verdict
from penstock.worker.lifecycle import patiently
from penstock.worker.pipeline.budget import Budget, Share
from penstock.worker.pipeline.ports import Message, Settled
from penstock.worker.pipeline.source import Span, WatchedSource
from penstock.worker.rabbitmq import dead_queue, rights, topology
from penstock.worker.rabbitmq.backlog import given_up, pending
from penstock.worker.rabbitmq.client_source import StockRabbitMqSource, StockRabbitMqStreamSource
from penstock.worker.rabbitmq.connection import connect
from penstock.worker.rabbitmq.dead_queue import DeadQueueSource
from penstock.worker.rabbitmq.line import AnswerLine
from penstock.worker.rabbitmq.log import RabbitMqLog, picked
from penstock.worker.rabbitmq.options import RabbitOptions, ReadingOptions
from penstock.worker.rabbitmq.replies import RabbitReplies
from penstock.worker.rabbitmq.resend import headers_with, resend
from penstock.worker.rabbitmq.rights import Needed
from penstock.worker.rabbitmq.sender import RabbitSender
from penstock.worker.rabbitmq.service import serving
from penstock.worker.rabbitmq.source import RabbitMqSource
from penstock.worker.rabbitmq.stream import RabbitMqStreamSource
from penstock.worker.rabbitmq.topology import QueuePlan
from penstock.worker.sending.ports import Outlet
from penstock.worker.sending.reads import Answering
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
        self._reading = ReadingOptions(
            batch_size=settings.batch_size,
            batch_bytes=settings.batch_bytes,
            linger=settings.linger,
            in_flight=settings.in_flight,
        )

    @property
    def keeps(self) -> bool:
        return self._settings.rabbitmq_queue_type == "stream"

    async def provision(self, *, dry_run: bool) -> list[Difference]:
        return await topology.provision(self._connection, self._plans, dry_run=dry_run)

    async def check(self) -> list[Difference]:
        return await topology.check(self._connection, self._plans)

    async def examine(self) -> list[Finding]:
        sends = self._settings.outbox and self._settings.brokers[0] == "rabbitmq"
        outlet = self._settings.rabbitmq_exchange if sends else None
        found = await rights.findings(self._connection, self._needed(), outlet)
        count = await given_up(self._connection)
        return [*found, _given_up(count)] if count else found

    def _needed(self) -> Iterator[Needed]:
        for plan in self._plans:
            yield Needed(plan.name, "its events are not stored")
        if self._settings.reads:
            yield Needed(
                topology.READ_QUEUE, "agents that read get no answer (or set reads = false)"
            )
        if not self.keeps:
            without = "what RabbitMQ gives up becomes no dead letter"
            yield Needed(topology.DEAD_QUEUE, without, Verdict.NOTE)

    async def waiting(self, stream: str, offsets: Offsets) -> Waiting:
        """AMQP does not tell how much other connections hold, nor how old a message is."""
        if not self.keeps:
            return Waiting(pending=await pending(self._connection, stream))
        _, committed = await offsets.resume(stream)
        reader = self._log(stream, Lent(self._share(), offsets))
        return Waiting(pending=await reader.from_offset(committed or 0))

    async def settled(self, stream: str) -> Settled | None:
        """Queues other than stream queues have no offsets."""
        return await self.log(stream, Span(), self._share()).settled() if self.keeps else None

    async def again(self, stream: str, offsets: Sequence[int]) -> Sequence[Message]:
        span = Span(from_offset=min(offsets), to_offset=max(offsets))
        async with self.log(stream, span, self._share()) as log:
            return await picked(log, offsets)

    def _share(self) -> Share:
        """Of memory, for a reader beside the worker's."""
        return Budget(self._settings.memory_limit, 1, self._settings.batch_bytes).share()

    def source(self, stream: str, lent: Lent) -> AbstractAsyncContextManager[WatchedSource]:
        if stream == topology.DEAD_QUEUE:
            return self._queue(DeadQueueSource, stream, lent)
        if self.keeps:
            return self._log(stream, lent)
        fast = self._settings.source_path == "fast"
        return self._queue(RabbitMqSource if fast else StockRabbitMqSource, stream, lent)

    def _queue(self, kind: type[RabbitMqSource], name: str, lent: Lent) -> RabbitMqSource:
        return kind(self._connection, self._options, name, self._reading, lent.share)

    def _log(self, name: str, lent: Lent) -> RabbitMqStreamSource:
        start = self._settings.rabbitmq_stream_from
        fast = self._settings.source_path == "fast"
        kind = RabbitMqStreamSource if fast else StockRabbitMqStreamSource
        return kind(
            self._connection,
            self._options,
            name,
            self._reading,
            lent.share,
            offsets=lent.offsets,
            start=datetime.fromisoformat(start) if isinstance(start, str) else start,
        )

    def log(self, stream: str, span: Span, share: Share) -> RabbitMqLog:
        if not self.keeps:
            kind = self._settings.rabbitmq_queue_type
            raise TopologyError(
                f"stream {stream}: rabbitmq_queue_type is {kind}, and only "
                "a stream keeps what was read; replay from NATS, from a file or --source postgres"
            )
        return RabbitMqLog(self._connection, self._options, stream, span, self._reading, share)

    @asynccontextmanager
    async def outlet(self) -> AsyncIterator[Outlet]:
        sender = RabbitSender(self._connection, exchange=self._settings.rabbitmq_exchange)
        await sender.open()
        try:
            yield Outlet(sender, receipts=sender.receipts)
        finally:
            await sender.close()

    @asynccontextmanager
    async def replies(self) -> AsyncIterator[RabbitReplies]:
        name = f"penstock {self._settings.worker_id} receipts"
        async with AnswerLine(self._options, name) as line:
            yield RabbitReplies(line)

    def serving(self, reads: Answering) -> AbstractAsyncContextManager[None]:
        return serving(self._options, f"penstock {self._settings.worker_id} reads", reads)

    async def given_up(self) -> GivenUp | None:
        """The queue that the work queues' dead letters go to, unless it is not there."""
        if self.keeps:
            return None
        there = await dead_queue.is_there(self._connection)
        return GivenUp(topology.DEAD_QUEUE, dead_queue.Judge()) if there else None

    async def resend(self, copies: Sequence[Copy]) -> list[PenstockError | None]:
        return await resend(self._connection, self._settings.rabbitmq_exchange, copies)

    def headers_with(self, headers: bytes, changes: Mapping[str, str]) -> bytes:
        return headers_with(headers, changes)


def _given_up(count: int) -> Finding:
    return Finding(
        Verdict.BAD,
        f"queue {topology.DEAD_QUEUE} holds {count} messages that RabbitMQ gave up: not stored",
        "a worker that may read this queue keeps them as dead letters; see docs/dead-letters.md",
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
