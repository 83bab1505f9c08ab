"""`Publisher`: typed events in, confirmations out."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any, Literal, Self, Unpack, overload

from penstock.schemas.event import EventData
from penstock.schemas.identity import event_uuid
from penstock.worker.brokers import registry
from penstock.worker.errors import StateStoreUnavailable
from penstock.worker.publisher import states
from penstock.worker.publisher.asking import ask
from penstock.worker.publisher.encoding import Attributes, encode, now, subject_of, uuid7
from penstock.worker.publisher.opening import open_outlet
from penstock.worker.publisher.reading import Reader
from penstock.worker.sending.outgoing import Confirmation, PublishFailed
from penstock.worker.sending.ports import (
    EXCHANGE,
    KV_BUCKET,
    Outlet,
    Sender,
    Sending,
    Server,
    StateReader,
)
from penstock.worker.sending.reads import ReadUnavailable
from penstock.worker.sending.receipts import Receipt
from penstock.worker.sending.state import StateValue
from penstock.worker.sending.unconfirmed import Limits

RECEIPT_SECONDS = 30.0


class Publisher:
    """A connection for publishing events and, on NATS, for reading an agent's own state.

    ``server`` is an address with ``nats://`` or ``tls://``, or with ``amqp://`` or ``amqps://`` for
    RabbitMQ, where events go to ``exchange`` and a confirmation has no sequence. ``atomic`` and
    ``bucket`` apply to NATS only. Raises SettingsError if no broker uses such addresses.

    With ``wait`` the broker may be away at first: opening tries until it is there, and logs that it
    waits. Without, opening raises SourceUnavailable.

    ``source`` names the producer, as ``/agents/a-7``; ``actor`` and ``project`` go with every event
    that does not name its own. At most ``max_pending`` events and ``max_pending_bytes`` bytes are
    unconfirmed: while the broker is away, publishing waits and nothing is dropped. An event is sent
    again under the same id until it is confirmed, or until ``give_up`` seconds have passed. Leaving
    the context waits for all confirmations, as long as at least one comes every ``drain_timeout``
    seconds; after that it gives up the rest and raises PublishFailed. Leaving it cancelled does not
    wait.
    """

    def __init__(
        self,
        server: str | Server = "nats://127.0.0.1:4222",
        *,
        source: str,
        actor: str | None = None,
        project: str | None = None,
        max_pending: int = 10_000,
        max_pending_bytes: int = 64 * 1024 * 1024,
        give_up: float | None = None,
        drain_timeout: float | None = 30.0,
        atomic: bool = True,
        bucket: str = KV_BUCKET,
        exchange: str = EXCHANGE,
        wait: bool = False,
    ) -> None:
        self._server = server
        self._broker = registry.broker_of(server) if isinstance(server, str) else server.broker
        self._drain_timeout = drain_timeout
        self._source = source
        self._actor = actor
        self._project = project
        self._sending = Sending(
            name=f"publisher {source}",
            limits=Limits(
                max_pending=max_pending, max_pending_bytes=max_pending_bytes, give_up=give_up
            ),
            atomic=atomic,
            bucket=bucket,
            exchange=exchange,
        )
        self._wait = wait
        self._written = states.Written()
        self._outlet: Outlet | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Connect. Raises SourceUnavailable."""
        self._outlet = await open_outlet(
            self._stack, self._broker, self._server, self._sending, wait=self._wait
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: object
    ) -> None:
        sender = self._sender()
        try:
            if kind is None:
                await sender.flush(self._drain_timeout)
            elif issubclass(kind, Exception):
                with suppress(PublishFailed):  # the error that is under way says more
                    await sender.flush(self._drain_timeout)
        finally:
            await self._stack.aclose()
            self._outlet = None

    @overload
    async def publish(
        self,
        event: EventData,
        *,
        receipt: Literal[False] = False,
        **attributes: Unpack[Attributes],
    ) -> Confirmation: ...
    @overload
    async def publish(
        self,
        event: EventData,
        *,
        receipt: Literal[True],
        timeout: float | None = RECEIPT_SECONDS,
        **attributes: Unpack[Attributes],
    ) -> Receipt: ...
    async def publish(
        self,
        event: EventData,
        *,
        receipt: bool = False,
        timeout: float | None = RECEIPT_SECONDS,
        **attributes: Unpack[Attributes],
    ) -> Confirmation | Receipt:
        """Publish, and wait until the stream has the event; with ``receipt``, until a worker has
        stored it in PostgreSQL, and the agent's state in the bucket.

        Raises EventInvalid before anything is sent, PublishRefused if no stream will ever take it,
        PublishFailed after ``give_up`` seconds or if the connection is closed for good. With
        ``receipt`` also EventRejected if it became a dead letter, and OutcomeUnknown after
        ``timeout`` seconds, which leaves the event untouched.
        """
        if receipt:
            asked = await self.publish_soon(event, receipt=True, timeout=timeout, **attributes)
            return await asked
        return await (await self.publish_soon(event, **attributes))

    @overload
    async def publish_soon(
        self,
        event: EventData,
        *,
        receipt: Literal[False] = False,
        **attributes: Unpack[Attributes],
    ) -> asyncio.Future[Confirmation]: ...
    @overload
    async def publish_soon(
        self,
        event: EventData,
        *,
        receipt: Literal[True],
        timeout: float | None = RECEIPT_SECONDS,
        **attributes: Unpack[Attributes],
    ) -> asyncio.Future[Receipt]: ...
    async def publish_soon(
        self,
        event: EventData,
        *,
        receipt: bool = False,
        timeout: float | None = RECEIPT_SECONDS,
        **attributes: Unpack[Attributes],
    ) -> asyncio.Future[Confirmation] | asyncio.Future[Receipt]:
        """Publish, and wait only for room; the future resolves to what `publish` returns or raises.

        Raises EventInvalid; with ``receipt`` also OutcomeUnknown, if there was no room in
        ``timeout`` seconds: nothing was sent then.
        """
        attributes.setdefault("id", uuid7())
        attributes.setdefault("time", now())
        attributes.setdefault("source", self._source)
        attributes.setdefault("actor", self._actor)
        attributes.setdefault("project", self._project)
        payload, subject = encode(event, **attributes), subject_of(event)
        # Two producers may use the same id; the stream would drop one event as a duplicate.
        msg_id = event_uuid(attributes["source"], attributes["id"])
        if not receipt:
            return await self.send(subject, payload, msg_id)
        asked = await self.ask(subject, payload, msg_id, timeout)
        asked.add_done_callback(partial(self._note, event, attributes.get("sequence", 0)))
        return asked

    def _note(self, event: EventData, sequence: int, asked: asyncio.Future[Receipt]) -> None:
        if not asked.cancelled() and asked.exception() is None:
            self._written.note(event, sequence)

    async def send(self, subject: str, payload: bytes, msg_id: str) -> asyncio.Future[Confirmation]:
        """Publish bytes as they are. See `Sender.send`."""
        return await self._sender().send(subject, payload, msg_id)

    async def ask(
        self,
        subject: str,
        payload: bytes,
        msg_id: str,
        timeout: float | None = RECEIPT_SECONDS,
    ) -> asyncio.Future[Receipt]:
        """Publish bytes as they are, as `send` does, and ask for a receipt; see `publish`."""
        receipts = self._opened().receipts
        if receipts is None:
            title = registry.title(self._broker)
            raise PublishFailed(f"nobody can ask for receipts through {title}: not sent")
        # A stream would drop an event that it has, and nobody would ever answer.
        msg_id = f"{msg_id}-{uuid7()}"
        return await ask(self._sender(), receipts, subject, payload, msg_id, timeout)

    async def flush(self) -> None:
        """Wait until nothing is unconfirmed. Each future has its own error, if there was one."""
        await self._sender().flush()

    async def state(self, agent_id: str, key: str, default: Any = states.NO_DEFAULT) -> StateValue:
        """The latest value under ``key`` that the worker has written; never an older one than a
        receipt of this Publisher has told of. Where there is none: ``default``, with version 0.

        Raises StateMissing if there is no ``default`` either, or StateStoreUnavailable.
        """
        return await states.read(self._states(), self._written, agent_id, key, default)

    def watch(self, agent_id: str, key: str) -> AsyncGenerator[StateValue | None]:
        """What the key holds now, and again after each change; None while it is not there. Of
        changes that follow each other closely the last is shown. Raises StateStoreUnavailable.
        """
        return states.watch(self._states(), agent_id, key)

    async def wait_for(
        self, agent_id: str, key: str, *, version: int = 0, timeout: float | None = 30.0
    ) -> StateValue:
        """The value under ``key``, as soon as its version is ``version`` or more.

        Raises StateNotReached after ``timeout`` seconds, or StateStoreUnavailable.
        """
        return await states.wait_for(self._states(), agent_id, key, version, timeout)

    async def status(self, agent_id: str) -> StateValue:
        """The agent's status: name, type, status and last heartbeat. Raises as `state` does."""
        return await self._states().read(agent_id, None)

    @property
    def read(self) -> Reader:
        """Reads of PostgreSQL that workers answer. Raises ReadUnavailable if this broker carries
        none.
        """
        reading = self._opened().reading
        if reading is None:
            title = registry.title(self._broker)
            raise ReadUnavailable(f"{title} carries no reads: open a Publisher on NATS for them")
        return Reader(reading)

    def _sender(self) -> Sender:
        return self._opened().sender

    def _states(self) -> StateReader:
        """The reader of state. Raises StateStoreUnavailable if this broker keeps no state."""
        states = self._opened().states
        if states is None:
            raise StateStoreUnavailable(
                "state is kept in NATS, and this Publisher is connected to "
                f"{registry.title(self._broker)}: open another with "
                'Publisher("nats://...") to read it'
            )
        return states

    def _opened(self) -> Outlet:
        if self._outlet is None:
            raise RuntimeError("the Publisher is not open: use `async with Publisher(...)`")
        return self._outlet
