"""A stream queue of RabbitMQ: a log that is read from an offset, as often as one likes."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import aio_pika
import aiormq
import structlog
from aiormq.abc import DeliveredMessage

from penstock.worker.brokers.ports import Offsets
from penstock.worker.errors import Cause, TopologyError, Unavailable
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.budget import Share
from penstock.worker.pipeline.ports import Backlog
from penstock.worker.rabbitmq.connection import open_channel, translated
from penstock.worker.rabbitmq.message import (
    MOST_DELIVERIES,
    RabbitMqMessage,
    StreamMessage,
    offset_of,
    stream_message_of,
)
from penstock.worker.rabbitmq.options import RabbitOptions, ReadingOptions
from penstock.worker.rabbitmq.shelter import unsheltered
from penstock.worker.rabbitmq.source import RabbitMqSource
from penstock.worker.rabbitmq.wire import Delivery

log = structlog.get_logger()

Start = int | datetime | None
"""An offset, or a time, of which the server takes the whole second that it is in."""

_WHOLE_CHUNK = 60_000


class RabbitMqStreamSource(RabbitMqSource):
    """A stream queue, read by one replica: a second one would read the same.

    Reading begins at ``start``, or, without it, where ``offsets`` says, or at the first message;
    where it began is committed before anything is handed out.
    A message is settled by the commit of its offset; to the server an acknowledgement is credit
    only, so what is given back waits in this process. After a reconnect reading goes on after the
    last message up to which all are settled. The epoch is empty for the first incarnation that was
    seen, later the time when it was noticed; each is greater as text than the one before.
    """

    def __init__(
        self,
        connection: aio_pika.RobustConnection,
        options: RabbitOptions,
        stream: str,
        reading: ReadingOptions,
        share: Share | None = None,
        *,
        offsets: Offsets,
        start: Start = None,
    ) -> None:
        super().__init__(connection, options, stream, reading, share)
        self._offsets = offsets
        self._start = start
        self._next: int | None = None
        self._expected: int | None = None
        self._read: dict[int, int] = {}
        self._furthest: int | None = None
        self._doubtful: tuple[range, ...] = ()

    async def __aenter__(self) -> Self:
        self._furthest = await self._offsets.begin(self.name)
        return await super().__aenter__()

    async def __aexit__(self, *exc: object) -> None:
        await super().__aexit__(*exc)
        with contextlib.suppress(Unavailable):  # then more is watched next time, no more
            await self._offsets.end(self.name)

    async def nack(self, batch: Batch, delay: float) -> None:
        self._intake.settled(len(batch), batch.size)
        given = self._current(batch.messages)
        for message in given:
            message.deliveries = min(message.deliveries + 1, MOST_DELIVERIES)
        self._spawn(self._offer_again(delay, given), f"offer-{self.name}")

    async def _offer_again(self, delay: float, messages: Sequence[RabbitMqMessage]) -> None:
        with self._intake.keeping(messages):
            await asyncio.sleep(delay)
        current = self._current(messages)
        self._intake.add(current, sum(message.size for message in current))

    async def backlog(self) -> Backlog:
        """``pending`` is as exact as `from_offset`."""
        return Backlog(
            pending=await self.from_offset(self._expected or self._next or 0),
            ack_pending=self._tags.unsettled(self._last_tag),
            redelivered=0,
        )

    async def from_offset(self, first: int) -> int:
        """How many messages there are from ``first`` on, exact but for the last chunk, of which it
        counts one. Also before reading has begun. Raises SourceUnavailable, TopologyError.
        """
        last = await self._last_offset(prefetch=1)
        behind = 0 if last is None else last + 1 - first
        if behind <= 0:  # in the last chunk, or at its end
            behind = len(await self._offsets_from(first, prefetch=1))
        return behind

    async def _settle(self, messages: Sequence[RabbitMqMessage]) -> None:
        before = self._tags.floor
        await super()._settle(messages)
        for tag in range(before + 1, self._tags.floor + 1):
            self._next = self._read.pop(tag) + 1

    def _messages(self, deliveries: list[Delivery]) -> Sequence[StreamMessage]:
        generation = self._generation
        messages = [stream_message_of(delivery, generation) for delivery in deliveries]
        self._read.update([(message.tag, message.offset) for message in messages])
        for message in messages:
            if self._expected is not None and message.offset > self._expected:
                self._skip(self._expected, message.offset)
            self._expected = message.offset + 1
        if self._furthest is not None:
            self._doubt(messages, self._furthest)
        return messages

    def _skip(self, first: int, after: int) -> None:
        """The server has nothing there: it was dropped by age or size, or was no message."""
        log.warning("offsets_missing", source=self.name, first=first, before=after)
        skip = self._offsets.skip(self.name, self._epoch, first, after)
        self._spawn(self._remember(skip), f"skip-{self.name}")

    def _doubt(self, messages: Sequence[StreamMessage], furthest: int) -> None:
        """Mark what a worker before this one may have begun and not committed: at the start, or,
        if it had been told to read old messages again, where it was the first to read.
        """
        first, last, ahead = messages[0].offset, messages[-1].offset, self._prefetch
        if not self._doubtful:
            begun = range(first, first + ahead)
            self._doubtful = (begun, range(furthest - ahead, furthest + ahead))
        for part in self._doubtful:
            if first < part.stop and part.start <= last:
                for message in messages:
                    message.begun_before = message.begun_before or message.offset in part

    async def _remember(self, skip: Any) -> None:
        try:
            await skip
        except Exception as error:  # noqa: BLE001  (then a little more is read again, no more)
            log.warning("offset_not_kept", source=self.name, error=str(error))

    async def _arguments(self) -> Mapping[str, Any]:
        self._read.clear()
        self._expected = None
        self._expected = await self._begin_at()
        return {"x-stream-offset": self._expected}

    async def _begin_at(self) -> int:
        """The offset to read from. If positions do not tell it, it is anchored."""
        if self._next is None:
            self._epoch, resumed = await self._offsets.resume(self.name)
            if self._start is not None or resumed is None:
                return await self._anchored(await self._first_wanted())
            self._next = resumed
        if await self._end() >= self._next:
            return self._next
        # It holds less than we have read: it is another one, under the same name.
        self._next = None
        self._start = None
        self._epoch = _epoch_after(self._epoch)
        log.warning("stream_recreated", source=self.name, epoch=self._epoch)
        return await self._anchored(0)

    async def _anchored(self, first: int) -> int:
        await self._offsets.anchor(self.name, self._epoch, first)
        return first

    async def _first_wanted(self) -> int:
        """The start that was given, or the first message. Behind the end there is only the end.

        A start is fixed at the first time: the end moves, and a reconnect must change nothing.
        """
        if self._start is None:
            return next(iter(await self._offsets_from("first", prefetch=1)), 0)
        end = await self._end()
        if isinstance(self._start, datetime):
            self._start = next(iter(await self._offsets_from(self._start, prefetch=1)), end)
        self._start = min(self._start, end)
        return self._start

    async def _end(self) -> int:
        """The offset of the next message to come."""
        last = await self._last_offset(prefetch=_WHOLE_CHUNK)
        return 0 if last is None else last + 1

    async def _last_offset(self, prefetch: int) -> int | None:
        """Of the last chunk's messages the greatest offset among the first ``prefetch``; None if
        the stream is empty.
        """
        return max(await self._offsets_from("last", prefetch), default=None)

    async def _offsets_from(self, start: str | int | datetime, prefetch: int) -> list[int]:
        """Of the first ``prefetch`` messages that are there from ``start`` on.

        The server sends what there is before it answers the next request.
        """
        found: list[int] = []

        async def take(message: DeliveredMessage) -> None:
            found.append(offset_of(unsheltered(message.header.properties, len(message.body))))

        with translated(f"stream {self.name}"):
            try:
                async with open_channel(self._connection) as channel:
                    await channel.basic_qos(prefetch_count=prefetch)
                    await channel.basic_consume(
                        self.name, take, arguments={"x-stream-offset": start}
                    )
                    await channel.queue_declare(self.name, passive=True)
            except aiormq.ChannelNotFoundEntity as exc:
                raise TopologyError(f"stream {self.name}: {exc}", cause=Cause.MISSING) from exc
            except aiormq.ChannelAccessRefused as exc:
                raise TopologyError(f"stream {self.name}: {exc}") from exc
        return found


def _epoch_after(epoch: str) -> str:
    """The present time, or a little after ``epoch`` where the clock has gone back since."""
    now = datetime.now(UTC)
    if epoch:
        now = max(now, datetime.fromisoformat(epoch) + timedelta(microseconds=1))
    return now.isoformat(timespec="microseconds")
