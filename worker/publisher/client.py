"""`Publisher`: typed events in, confirmations out."""

import asyncio
from contextlib import AsyncExitStack
from typing import Self, Unpack

from nats.aio.client import Client

from penstock.schemas.event import EventData
from penstock.schemas.identity import event_uuid
from penstock.worker.errors import StateStoreUnavailable
from penstock.worker.nats.connection import NatsOptions, connect
from penstock.worker.publisher.encoding import Attributes, encode, now, subject_of, uuid7
from penstock.worker.publisher.nats import Sender
from penstock.worker.publisher.outgoing import Confirmation
from penstock.worker.publisher.rabbitmq import RabbitSender
from penstock.worker.publisher.state import StateValue, read_state
from penstock.worker.publisher.unconfirmed import Limits
from penstock.worker.rabbitmq import connection as rabbitmq_connection
from penstock.worker.rabbitmq.connection import RabbitOptions
from penstock.worker.rabbitmq.topology import EXCHANGE

KV_BUCKET = "AGENT_STATE"


class Publisher:
    """A connection for publishing events and, on NATS, for reading one's own state.

    ``server`` is ``nats://`` or ``tls://``, or ``amqp://`` or ``amqps://`` for RabbitMQ, where
    events go to ``exchange`` and a confirmation has no sequence. ``atomic`` and ``bucket`` are of
    NATS alone.

    ``source`` names the producer, as ``/agents/a-7``; ``actor`` and ``project`` go with every event
    that does not name its own. At most ``max_pending`` events and ``max_pending_bytes`` bytes are
    unconfirmed: when the broker is away, publishing waits and nothing is dropped. An event that was
    not confirmed is sent again under the same id until it is, or until ``give_up`` seconds have
    passed. Leaving the context waits for all confirmations; leaving it cancelled does not.
    """

    def __init__(
        self,
        server: str | NatsOptions | RabbitOptions = "nats://127.0.0.1:4222",
        *,
        source: str,
        actor: str | None = None,
        project: str | None = None,
        max_pending: int = 10_000,
        max_pending_bytes: int = 64 * 1024 * 1024,
        give_up: float | None = None,
        atomic: bool = True,
        bucket: str = KV_BUCKET,
        exchange: str = EXCHANGE,
    ) -> None:
        self._options = _options(server) if isinstance(server, str) else server
        self._source = source
        self._actor = actor
        self._project = project
        self._limits = Limits(
            max_pending=max_pending, max_pending_bytes=max_pending_bytes, give_up=give_up
        )
        self._atomic = atomic
        self._bucket = bucket
        self._exchange = exchange
        self._nc: Client | None = None
        self._sender: Sender | RabbitSender | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Connect. Raises SourceUnavailable."""
        self._sender = await self._connected()
        await self._sender.open()
        return self

    async def _connected(self) -> Sender | RabbitSender:
        options, name = self._options, f"publisher {self._source}"
        if isinstance(options, RabbitOptions):
            connection = await rabbitmq_connection.connect(options, name=name)
            self._stack.push_async_callback(connection.close)
            return RabbitSender(connection, exchange=self._exchange, **self._limits)
        self._nc = await connect(options, name=name)
        self._stack.push_async_callback(self._nc.close)
        return Sender(self._nc, atomic=self._atomic, **self._limits)

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: object
    ) -> None:
        sender = self._opened()
        try:
            if kind is None or issubclass(kind, Exception):
                await sender.flush()
        finally:
            await sender.close()
            await self._stack.aclose()
            self._sender = self._nc = None

    async def publish(self, event: EventData, **attributes: Unpack[Attributes]) -> Confirmation:
        """Publish and wait until the stream has it.

        Raises EventInvalid before anything is sent, PublishRefused if no stream will ever take it,
        PublishFailed after ``give_up`` or if the connection ends for good.
        """
        return await (await self.publish_soon(event, **attributes))

    async def publish_soon(
        self, event: EventData, **attributes: Unpack[Attributes]
    ) -> asyncio.Future[Confirmation]:
        """Publish and wait only for room; the future gives what `publish` returns or raises.

        Raises EventInvalid.
        """
        attributes.setdefault("id", uuid7())
        attributes.setdefault("time", now())
        attributes.setdefault("source", self._source)
        attributes.setdefault("actor", self._actor)
        attributes.setdefault("project", self._project)
        payload = encode(event, **attributes)
        # Ids of two producers may be alike; the stream would drop one of them as a duplicate.
        msg_id = event_uuid(attributes["source"], attributes["id"])
        return await self.send(subject_of(event), payload, msg_id)

    async def send(self, subject: str, payload: bytes, msg_id: str) -> asyncio.Future[Confirmation]:
        """Publish bytes as they stand. See `Sender.send`."""
        return await self._opened().send(subject, payload, msg_id)

    async def flush(self) -> None:
        """Wait until nothing is unconfirmed. What was refused is in its own future."""
        await self._opened().flush()

    async def state(self, agent_id: str, key: str) -> StateValue:
        """The value that the agent last set under ``key``, as far as the worker has written it.

        Raises StateMissing, or StateStoreUnavailable.
        """
        return await read_state(self._bus(), self._bucket, agent_id, key)

    async def status(self, agent_id: str) -> StateValue:
        """The agent's status: name, type, status and last heartbeat. Raises as `state` does."""
        return await read_state(self._bus(), self._bucket, agent_id, None)

    def _opened(self) -> Sender | RabbitSender:
        if self._sender is None:
            raise RuntimeError("the Publisher is not open: use `async with Publisher(...)`")
        return self._sender

    def _bus(self) -> Client:
        """The connection that state is read over. Raises StateStoreUnavailable on RabbitMQ."""
        self._opened()
        if self._nc is None:
            raise StateStoreUnavailable(
                "state is kept in NATS, and this Publisher is connected to RabbitMQ: open another "
                'with Publisher("nats://...") to read it'
            )
        return self._nc


def _options(url: str) -> NatsOptions | RabbitOptions:
    if url.startswith(("amqp://", "amqps://")):
        return RabbitOptions(url=url)
    return NatsOptions(url=url)
