"""Sends to RabbitMQ until confirmed: many at once, after silence again, in bounded memory."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Unpack

import aio_pika
import aiormq
from pamqp.commands import Basic

from penstock.worker.ending import end
from penstock.worker.errors import PenstockError, SourceUnavailable
from penstock.worker.logger import Logger
from penstock.worker.rabbitmq.connection import (
    ENDED,
    close_quickly,
    connect,
    open_channel,
    translated,
)
from penstock.worker.rabbitmq.options import RabbitOptions
from penstock.worker.rabbitmq.properties import LONGEST_KEY
from penstock.worker.rabbitmq.reading import RabbitReading
from penstock.worker.rabbitmq.receipts import REPLY_TO, ReplyQueue
from penstock.worker.sending.outgoing import (
    Confirmation,
    Outgoing,
    PublishFailed,
    PublishRefused,
    Queue,
)
from penstock.worker.sending.ports import Outlet, Sending
from penstock.worker.sending.unconfirmed import Limits, Unconfirmed

log = Logger(__name__)

_AT_ONCE = 500
_BATCH_BYTES = 4 * 1024 * 1024
_PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 0.25


@asynccontextmanager
async def open_sender(server: str | RabbitOptions, sending: Sending) -> AsyncIterator[Outlet]:
    """A connection of its own. Raises SourceUnavailable, SettingsError."""
    options = RabbitOptions(url=server) if isinstance(server, str) else server
    connection = await connect(options, name=sending.name)
    sender = RabbitSender(connection, exchange=sending.exchange, **sending.limits)
    try:
        await sender.open()
        yield Outlet(
            sender,
            receipts=sender.receipts,
            reading=RabbitReading(connection, sending.exchange),
        )
    finally:
        await sender.close()
        await close_quickly(connection)


class RabbitSender:
    """Publishes bytes to a topic exchange, each with its routing key, and confirms them.

    Where ``limits`` are reached, `send` waits for room. A message may arrive twice, with one
    message id; the database counts it once.
    """

    def __init__(
        self,
        connection: aio_pika.RobustConnection,
        *,
        exchange: str,
        **limits: Unpack[Limits],
    ) -> None:
        self._connection = connection
        self._exchange = exchange
        self._unconfirmed = Unconfirmed(**limits)
        self._queue = Queue()
        self.receipts = ReplyQueue()
        self._in_flight: list[Outgoing] = []
        self._singly = 0
        self._worker: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to send."""
        self._worker = asyncio.create_task(self._work(), name=f"publish {self._exchange}")
        self._worker.add_done_callback(self._ended)

    async def send(
        self, subject: str, payload: bytes, msg_id: str, reply_to: str = ""
    ) -> asyncio.Future[Confirmation]:
        """Queue a message, once there is room. The future gives its `Confirmation`, or raises
        PublishRefused or PublishFailed. Cancelling it before it was sent takes it back.
        """
        message = await self._unconfirmed.take(subject, payload, msg_id, reply_to)
        if len(subject.encode()) > LONGEST_KEY or len(msg_id.encode()) > LONGEST_KEY:
            text = f"its routing key and id may have {LONGEST_KEY} bytes each"
            message.fail(PublishRefused(f"{subject!r} cannot be sent: {text}"))
        elif not message.confirmed.done():  # else closed meanwhile
            self._queue.put(message)
        return message.confirmed

    async def flush(self, patience: float | None = None) -> None:
        """Wait until every message is confirmed, refused or given up. See `Unconfirmed.none`."""
        await self._unconfirmed.none(patience)

    async def close(self) -> None:
        """End at once. What is unconfirmed fails with PublishFailed. Idempotent."""
        error = PublishFailed("the publisher was closed before this was confirmed")
        self._unconfirmed.close(error)
        self.receipts.close()
        if self._worker is not None:
            await end(self._worker)
        self._fail_all(error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A defect of ours must not leave callers waiting."""
        if not task.cancelled() and (error := task.exception()):
            log.error("publish_failed", exchange=self._exchange, exc_info=error)
            self._fail_all(PublishFailed(f"the publisher itself failed: {error!r}"))

    def _fail_all(self, error: PenstockError) -> None:
        for message in (*self._in_flight, *self._queue.empty()):
            message.fail(error)

    async def _work(self) -> None:
        """Connection after connection; on each as long as it holds."""
        while True:
            if self._connection.is_closed:
                self._fail_all(PublishFailed("the connection has ended for good"))
            try:
                with translated("RabbitMQ"):
                    async with open_channel(self._connection, confirms=True) as channel:
                        await self._publish_on(channel)
            except SourceUnavailable as error:
                log.warning("publish_interrupted", exchange=self._exchange, error=str(error))
            else:
                if self._singly:
                    continue  # each of them may end a channel
            self._put_back()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _publish_on(self, channel: aiormq.Channel) -> None:
        """Until the channel ends, or something on it is neither confirmed nor refused."""
        while not channel.is_closed:
            batch = self._in_flight = self._together(await self._taken(channel))
            if any(message.reply_to for message in batch):
                await self.receipts.listen(channel)
            sent = [asyncio.ensure_future(self._publish(channel, message)) for message in batch]
            try:
                await asyncio.wait(sent, timeout=_PATIENCE_SECONDS)
            finally:
                for task in sent:
                    task.cancel()
                outcomes = await asyncio.gather(*sent, return_exceptions=True)
            for message, outcome in zip(batch, outcomes, strict=True):
                self._settle(message, outcome)
            self._judge(batch, outcomes)
            if self._put_back():
                return

    def _together(self, taken: list[Outgoing]) -> list[Outgoing]:
        """Those that may be under way at the same time; the others wait at the front. One with each
        id: of a returned message aiormq knows nothing but that. One alone, as long as a message may
        be the one that ended a channel for all.
        """
        first: dict[str, Outgoing] = {}
        for message in taken[:1] if self._singly else taken:
            first.setdefault(message.msg_id, message)
        if len(first) < len(taken):
            chosen = set(map(id, first.values()))
            self._queue.put_back([message for message in taken if id(message) not in chosen])
        return list(first.values())

    def _judge(self, batch: Sequence[Outgoing], outcomes: Sequence[Any]) -> None:
        """Where the server has ended the channel over a message, it does not say which one. So each
        of those that are left is sent once more, alone; then it is that one.
        """
        if len(batch) == 1:
            self._singly = max(0, self._singly - 1)
            if isinstance(outcomes[0], ENDED):
                batch[0].fail(PublishRefused(f"{batch[0].subject!r}: {outcomes[0]}"))
        elif any(isinstance(outcome, ENDED) for outcome in outcomes):
            self._singly = sum(not message.confirmed.done() for message in batch)

    async def _taken(self, channel: aiormq.Channel) -> list[Outgoing]:
        """The next messages. Raises SourceUnavailable if the channel ends before there are any."""
        taking = asyncio.current_task()
        ending = channel.closing
        ended = False

        def interrupt(_: object) -> None:
            nonlocal ended
            ended = True
            if taking is not None:
                taking.cancel()

        ending.add_done_callback(interrupt)
        try:
            return await self._queue.take(_AT_ONCE, _BATCH_BYTES)
        except asyncio.CancelledError:
            if not ended or taking is None or taking.uncancel():
                raise
            raise SourceUnavailable("the channel ended") from None
        finally:
            ending.remove_done_callback(interrupt)
            ending.cancel()

    async def _publish(self, channel: aiormq.Channel, message: Outgoing) -> Any:
        return await channel.basic_publish(
            message.payload,
            exchange=self._exchange,
            routing_key=message.subject,
            mandatory=True,
            wait=False,
            properties=Basic.Properties(
                content_type="application/cloudevents+json",
                delivery_mode=2,
                message_id=message.msg_id,
                correlation_id=message.reply_to or None,
                reply_to=REPLY_TO if message.reply_to else None,
                timestamp=datetime.now(UTC),  # the queue's age is told by it; the server adds none
            ),
        )

    def _settle(self, message: Outgoing, outcome: Any) -> None:
        if isinstance(outcome, Basic.Ack):
            message.confirm(Confirmation(self._exchange, 0))
        elif isinstance(outcome, aiormq.PublishError):
            message.fail(
                PublishRefused(
                    f"no queue takes {message.subject!r}: create it with `penstock provision`, "
                    "or correct the event's type"
                )
            )

    def _put_back(self) -> bool:
        """Queue again what is not settled. True if there is any."""
        rest = [message for message in self._in_flight if not message.confirmed.done()]
        self._in_flight = []
        if rest:
            self._queue.put_back(rest)
        return bool(rest)
