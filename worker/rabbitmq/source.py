"""A work queue of RabbitMQ, quorum or classic.

aio-pika and aiormq connect, log in, make the topology and keep the heartbeat. Deliveries come by
`rabbitmq.link`, past both, and a watchdog knows the server's heartbeats.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import aio_pika
import structlog

from penstock.worker.ending import end
from penstock.worker.errors import (
    PenstockError,
    SettingsError,
    SourceUnavailable,
    TopologyError,
    Unavailable,
)
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.budget import Share
from penstock.worker.pipeline.intake import Intake
from penstock.worker.pipeline.ports import Backlog, Message
from penstock.worker.rabbitmq.backlog import given_up, pending
from penstock.worker.rabbitmq.link import FastLink, Link
from penstock.worker.rabbitmq.message import RabbitMqMessage, message_of
from penstock.worker.rabbitmq.options import RabbitOptions, ReadingOptions
from penstock.worker.rabbitmq.retry import Retries
from penstock.worker.rabbitmq.tags import Tags
from penstock.worker.rabbitmq.wire import Delivery

log = structlog.get_logger()

_PAUSE_SECONDS = 0.25
_MOST_PREFETCH = 65_535
_BUFFERED_BATCHES = 2
_QUIET_HEARTBEATS = 2
"""So many without a sign of life, and the server is taken for dead, as AMQP has it."""


class RabbitMqSource:
    """A queue with competing consumers. ``connection`` is for everything but deliveries, which
    come over one that the source opens itself, as ``options`` say.

    At most ``in_flight`` batches and one more are delivered and not settled; of those that wait to
    be fetched, at most about two batches by bytes are read from the socket, and no more than
    ``share`` allows.
    """

    transport = "rabbitmq"

    def __init__(
        self,
        connection: aio_pika.RobustConnection,
        options: RabbitOptions,
        stream: str,
        reading: ReadingOptions,
        share: Share | None = None,
    ) -> None:
        self.name = stream
        self._connection = connection
        self._options = options
        self._retries = Retries(connection, stream)
        self._prefetch = min(_MOST_PREFETCH, reading.batch_size * (reading.in_flight + 1))
        self._intake: Intake[RabbitMqMessage] = Intake(
            batch_size=reading.batch_size,
            batch_bytes=reading.batch_bytes,
            linger=reading.linger,
            share=share,
        )
        self._intake.share.wake = self._read_on
        self._buffer_bytes = _BUFFERED_BATCHES * self._intake.batch_bytes
        self._epoch = ""  # a queue has no offsets
        self._generation = 0
        self._link: Link | None = None
        self._paused = False
        self._tags = Tags()
        self._last_tag = 0
        self._again: set[int] = set()
        self._later: set[asyncio.Task[None]] = set()
        self._watcher: asyncio.Task[None] | None = None
        # The server looks twice in a heartbeat whether it said nothing since: it may be quiet for
        # nearly a whole one, and longer on a busy machine. Silence is counted in ticks, not timed:
        # a worker that was itself stopped for a while, or kept its loop busy, did not listen.
        self._tick_seconds = options.heartbeat / 4
        self._quiet_limit = _QUIET_HEARTBEATS * 4
        self._quiet_ticks = 0

    @property
    def healthy(self) -> bool:
        link = self._link
        return link is not None and not link.lost.is_set() and self._quiet_ticks < self._quiet_limit

    async def __aenter__(self) -> Self:
        await self._begin()
        self._watcher = asyncio.create_task(self._watch(), name=f"watch-{self.name}")
        self._watcher.add_done_callback(self._watch_ended)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.stop()
        await end(*self._later, *([self._watcher] if self._watcher else []))
        await self._tell()
        await self._drop()

    def stop(self) -> None:
        self._intake.stop()

    async def fetch(self) -> Batch:
        messages, size = await self._intake.batch()
        self._read_on()
        return Batch(messages, size, self, epoch=self._epoch)

    async def ack(self, batch: Batch) -> None:
        self._intake.settled(len(batch), batch.size)
        await self._settle(self._current(batch.messages))

    async def nack(self, batch: Batch, delay: float) -> None:
        """With a delay a copy goes to a retry queue; what does not reach it waits here,
        unacknowledged.
        """
        self._intake.settled(len(batch), batch.size)
        given = self._current(batch.messages)
        if delay <= 0:
            await self._requeue(given)
            return
        stored = await self._retries.put(given, delay)
        await self._settle(self._current(stored))
        tags = {message.tag for message in stored}
        kept = [message for message in given if message.tag not in tags]
        if kept:
            self._spawn(self._after(delay, kept), f"requeue-{self.name}")

    async def backlog(self) -> Backlog:
        """``pending`` counts the retry queues too. What other replicas hold is not known here."""
        return Backlog(
            pending=await pending(self._connection, self.name),
            ack_pending=self._tags.unsettled(self._last_tag),
            redelivered=len(self._again),
            given_up=await given_up(self._connection),
        )

    # Settling.

    def _current(self, messages: Sequence[Message]) -> list[RabbitMqMessage]:
        """Those of this generation: what an older one delivered, the server has taken back."""
        return [
            message
            for message in messages
            if isinstance(message, RabbitMqMessage) and message.generation == self._generation
        ]

    async def _settle(self, messages: Sequence[RabbitMqMessage]) -> None:
        through = self._tags.settle([message.tag for message in messages])
        self._again.difference_update([message.tag for message in messages])
        # Half of what the server lets out: the other half is enough to go on with.
        singly = self._tags.tell() if self._tags.kept_back > self._prefetch // 2 else []
        if self._link is not None and (through is not None or singly):
            await self._link.ack(through, singly)

    async def _tell(self) -> None:
        """Acknowledge what is ahead of a message that takes long."""
        singly = self._tags.tell()
        if self._link is not None and singly:
            await self._link.ack(None, singly)

    async def _requeue(self, messages: Sequence[RabbitMqMessage]) -> None:
        tags, link = self._tags, self._link
        fresh = [message.tag for message in messages if tags.open(message.tag)]
        if link is None or not fresh:
            return
        # First, or an acknowledgement of all up to a later tag could take them for done.
        await link.requeue(fresh)
        through = tags.settle(fresh, told=True)
        self._again.difference_update(fresh)
        if through is not None:
            await link.ack(through, [])

    async def _after(self, delay: float, messages: Sequence[RabbitMqMessage]) -> None:
        with self._intake.keeping(messages):
            await asyncio.sleep(delay)
        await self._requeue(self._current(messages))

    def _spawn(self, work: Any, name: str) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    # Receiving: called by the link, never waiting.

    def _received(self, generation: int, deliveries: list[Delivery]) -> None:
        if generation != self._generation:
            return
        messages = self._messages(deliveries)
        self._last_tag = messages[-1].tag
        self._again.update([message.tag for message in messages if message.redelivered])
        self._intake.add(messages, sum(message.size for message in messages))
        if self._link is not None and not self._room:
            self._paused = True
            self._link.pause()

    @property
    def _room(self) -> bool:
        """Whether to read more."""
        return self._intake.size < self._buffer_bytes and self._intake.share.allows(1)

    def _read_on(self) -> None:
        if self._paused and self._link is not None and self._room:
            self._paused = False
            self._link.resume()

    def _messages(self, deliveries: list[Delivery]) -> Sequence[RabbitMqMessage]:
        generation = self._generation
        return [message_of(delivery, generation) for delivery in deliveries]

    async def _arguments(self) -> Mapping[str, Any]:
        """Of the consumer."""
        return {}

    def _make_link(self, name: str) -> Link:
        return FastLink(self._options, name)

    # Watching: one task that begins generations and listens for silence.

    async def _watch(self) -> None:
        while True:
            await self._until_lost()
            await self._renew()

    def _watch_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("source_failed", source=self.name, error=str(error), exc_info=error)
        if not isinstance(error, PenstockError):
            error = SourceUnavailable(f"{self.name}: {error!r}")
        self._intake.fail(error)

    async def _until_lost(self) -> None:
        link = self._link
        self._quiet_ticks = 0
        while link is not None and self._quiet_ticks < self._quiet_limit:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._tick_seconds):
                    await link.lost.wait()
                    return
            await self._tell()
            if self._paused:
                link.keep_alive()
            self._quiet_ticks = 0 if link.heard or self._paused else self._quiet_ticks + 1
            link.heard = False
        log.warning("source_silent", source=self.name)

    async def _renew(self) -> None:
        await self._drop()
        while True:
            if self._connection.is_closed:
                raise SourceUnavailable(f"{self.name}: the connection was closed for good")
            try:
                return await self._begin()
            except (Unavailable, TopologyError, SettingsError) as error:
                # After a restart a queue may be missing for a moment, and a file of TLS while it is
                # renewed; offsets are in PostgreSQL.
                failure = SourceUnavailable(f"{self.name}: {error}", cause=error.cause)
                self._intake.fail(failure)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _begin(self) -> None:
        """Begin a generation. Raises SourceUnavailable or TopologyError."""
        self._generation += 1
        generation = self._generation
        self._tags, self._last_tag, self._paused = Tags(), 0, False
        self._again.clear()
        link = self._make_link(f"penstock {self.name} {generation}")
        try:
            await link.open(
                self.name,
                self._prefetch,
                await self._arguments(),
                lambda deliveries: self._received(generation, deliveries),
            )
        except BaseException:
            await link.close()
            raise
        self._link = link
        self._quiet_ticks = 0
        self._intake.fail(None)

    async def _drop(self) -> None:
        """End the generation. What waits to be fetched is delivered again, here or elsewhere."""
        link, self._link = self._link, None
        self._generation += 1
        self._intake.drain()
        if link is not None:
            await link.close()
