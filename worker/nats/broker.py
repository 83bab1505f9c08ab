"""NATS as a broker for the worker: streams, each with a durable pull consumer."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from uuid import uuid4

from nats.aio.client import Client

from penstock.worker.brokers.ports import Copy, GivenUp, Lent, Offsets, Waiting
from penstock.worker.brokers.scope import Scope
from penstock.worker.difference import Difference
from penstock.worker.errors import PenstockError
from penstock.worker.finding import Finding
from penstock.worker.nats import stored, topology
from penstock.worker.nats.api import Consumer
from penstock.worker.nats.bus import shared_bus
from penstock.worker.nats.client_source import ClientJetStreamSource
from penstock.worker.nats.examine import version
from penstock.worker.nats.log import JetStreamLog
from penstock.worker.nats.options import ReadingOptions
from penstock.worker.nats.receipts import ReceiptInbox
from penstock.worker.nats.replies import NatsReplies
from penstock.worker.nats.resend import headers_with, resend
from penstock.worker.nats.rights import findings, of_outbox, of_reads, of_receipts, of_stream
from penstock.worker.nats.sender import NatsSender
from penstock.worker.nats.service import serving
from penstock.worker.nats.source import JetStreamSource
from penstock.worker.nats.topology import ConsumerPlan, StreamPlan
from penstock.worker.outbox.told import TOLD
from penstock.worker.pipeline.budget import Share
from penstock.worker.pipeline.ports import Message, Settled
from penstock.worker.pipeline.source import Log, Span, WatchedSource
from penstock.worker.sending.ports import Outlet
from penstock.worker.sending.reads import Answering
from penstock.worker.settings.keys import Settings

_REPLAY = "penstock-replay"
"""How the names of consumers begin that read again."""


async def open_broker(scope: Scope) -> "NatsBroker":
    """The broker, over the scope's one connection to NATS. Raises SourceUnavailable."""
    return NatsBroker(await shared_bus(scope), scope.settings, stream_plans(scope))


class NatsBroker:
    """A `Broker` over a connection that the caller owns."""

    transport = JetStreamSource.transport
    keeps = True

    def __init__(self, nc: Client, settings: Settings, plans: list[StreamPlan]) -> None:
        self._nc = nc
        self._settings = settings
        self._plans = plans
        self._consumer = ConsumerPlan(
            durable=settings.consumer,
            ack_wait=settings.ack_wait,
            max_ack_pending=settings.max_ack_pending,
        )

    async def provision(self, *, dry_run: bool) -> list[Difference]:
        return await topology.provision(self._nc, self._plans, self._consumer, dry_run=dry_run)

    async def check(self) -> list[Difference]:
        return await topology.check(self._nc, self._plans, self._consumer)

    async def examine(self) -> list[Finding]:
        durable = self._consumer.durable
        needed = [subject for plan in self._plans for subject in of_stream(plan.name, durable)]
        found = [version(self._nc), *await findings(self._nc, "reading the streams", needed)]
        if self._settings.receipts:
            inboxes = of_receipts(self._settings.nats_inboxes)
            found += await findings(self._nc, "sending receipts", inboxes)
        if self._settings.reads:
            found += await findings(self._nc, "answering reads", (), heard=of_reads())
        if self._settings.outbox and self._settings.brokers[0] == "nats":
            found += await findings(self._nc, "sending from the outbox", of_outbox(TOLD))
        return found

    async def waiting(self, stream: str, offsets: Offsets) -> Waiting:  # noqa: ARG002  (NATS has its own)
        return await Consumer(self._nc, stream, self._consumer.durable).waiting()

    async def settled(self, stream: str) -> Settled:
        return await stored.settled(self._nc, stream, self._consumer.durable)

    async def again(self, stream: str, offsets: Sequence[int]) -> Sequence[Message]:
        return await stored.again(self._nc, stream, offsets)

    def source(self, stream: str, lent: Lent) -> AbstractAsyncContextManager[WatchedSource]:
        fast = self._settings.source_path == "fast"
        kind = JetStreamSource if fast else ClientJetStreamSource
        return kind(self._nc, stream, self._reading(self._settings.consumer), lent.share)

    def log(self, stream: str, span: Span, share: Share) -> AbstractAsyncContextManager[Log]:
        return JetStreamLog(
            self._nc, stream, span, self._reading(f"{_REPLAY}-{uuid4().hex}"), share
        )

    def _reading(self, durable: str) -> ReadingOptions:
        settings = self._settings
        return ReadingOptions(
            durable=durable,
            batch_size=settings.batch_size,
            batch_bytes=settings.batch_bytes,
            linger=settings.linger,
            ack_wait=settings.ack_wait,
            heartbeat=settings.heartbeat,
        )

    @asynccontextmanager
    async def outlet(self) -> AsyncIterator[Outlet]:
        sender, receipts = NatsSender(self._nc), ReceiptInbox(self._nc)
        await sender.open()
        try:
            yield Outlet(sender, receipts=receipts)
        finally:
            receipts.close()
            await sender.close()

    @asynccontextmanager
    async def replies(self) -> AsyncIterator[NatsReplies]:
        yield NatsReplies(self._nc, self._settings.nats_inboxes)

    def serving(self, reads: Answering) -> AbstractAsyncContextManager[None]:
        return serving(self._nc, reads)

    async def given_up(self) -> GivenUp | None:
        """Nothing: without a limit of deliveries, JetStream gives up no message."""
        return None

    async def resend(self, copies: Sequence[Copy]) -> list[PenstockError | None]:
        return await resend(self._nc, copies)

    def headers_with(self, headers: bytes, changes: Mapping[str, str]) -> bytes:
        return headers_with(headers, changes)


def stream_plans(scope: Scope) -> list[StreamPlan]:
    """The streams that the settings and the catalogue ask for."""
    settings = scope.settings
    return [
        StreamPlan(
            name=name,
            subjects=scope.catalogue.streams[name],
            replicas=settings.stream_replicas,
            max_age=settings.stream_max_age,
            max_bytes=settings.stream_max_bytes,
        )
        for name in scope.streams
    ]
