"""A stream queue of RabbitMQ read again, by a consumer of its own."""

from collections.abc import Sequence
from typing import Self

import aio_pika
import aiormq

from penstock.worker.errors import Cause, TopologyError
from penstock.worker.pipeline.budget import Share
from penstock.worker.pipeline.ports import Message, Settled
from penstock.worker.pipeline.source import Span
from penstock.worker.rabbitmq.connection import open_channel, translated
from penstock.worker.rabbitmq.options import RabbitOptions, ReadingOptions
from penstock.worker.rabbitmq.stream import RabbitMqStreamSource
from penstock.worker.rabbitmq.topology import is_stream


class Forgetful:
    """`Offsets` that are kept by somebody else: reading begins where it is told to."""

    async def resume(self, stream: str) -> tuple[str, int | None]:  # noqa: ARG002
        return "", None

    async def anchor(self, stream: str, epoch: str, first: int) -> None:
        """Nothing to keep."""

    async def skip(self, stream: str, epoch: str, first: int, after: int) -> None:
        """Nothing to keep."""

    async def begin(self, stream: str) -> int | None:  # noqa: ARG002
        return None

    async def end(self, stream: str) -> None:
        """Nothing to keep."""


class RabbitMqLog(RabbitMqStreamSource):
    """A `Log` over a stream queue."""

    def __init__(
        self,
        connection: aio_pika.RobustConnection,
        options: RabbitOptions,
        stream: str,
        span: Span,
        reading: ReadingOptions,
        share: Share,
    ) -> None:
        start = span.since if span.from_offset is None else span.from_offset
        super().__init__(
            connection, options, stream, reading, share, offsets=Forgetful(), start=start
        )
        self._span = span
        self.total = 0
        self.last: int | None = None

    async def __aenter__(self) -> Self:
        await self._is_stream()
        first, end = await self._first_offset(), await self._end()
        if gone := _gone(self._span, first, end):
            raise TopologyError(f"stream {self.name}: {gone}")
        wanted = await self._first_wanted()
        to = self._span.to_offset
        self.last = end - 1 if to is None else min(to, end - 1)
        if wanted > self.last:
            raise TopologyError(f"stream {self.name}: nothing is in the range; {_has(first, end)}")
        self.total = self.last - wanted + 1
        return await super().__aenter__()

    async def settled(self) -> Settled:
        """What is still there; how far it is settled, PostgreSQL knows. Raises TopologyError."""
        await self._is_stream()
        return Settled(epoch="", first=await self._first_offset(), upto=None)

    @property
    def epoch(self) -> str:
        return self._epoch

    async def _begin_at(self) -> int:
        end = await self._end()
        if self.last is not None and end <= self.last:
            raise TopologyError(
                f"stream {self.name}: its messages from {end} to {self.last} are no longer there; "
                "it was deleted and created again",
                cause=Cause.MISSING,
            )
        return await super()._begin_at()

    async def over(self, passed: int | None) -> bool:
        """It comes in order, after a reconnect from the first one on that is not settled."""
        return passed is not None

    async def _first_offset(self) -> int:
        return next(iter(await self._offsets_from("first", prefetch=1)), 0)

    async def _is_stream(self) -> None:
        """Raise TopologyError unless it is one, before anything is read: of another queue that
        would take messages away.
        """
        with translated(f"stream {self.name}"):
            try:
                async with open_channel(self._connection) as channel:
                    await channel.queue_declare(self.name, passive=True)
            except aiormq.ChannelNotFoundEntity as error:
                text = f"stream {self.name}: no such queue; see `rabbitmqctl list_queues`"
                raise TopologyError(text, cause=Cause.MISSING) from error
        if not await is_stream(self._connection, self.name):
            raise TopologyError(
                f"stream {self.name}: it is no stream, but a queue, and keeps nothing that was read"
            )


async def picked(log: RabbitMqLog, offsets: Sequence[int]) -> list[Message]:
    """The messages of an entered log at ``offsets``, as far as it has them."""
    wanted, found, passed = set(offsets), list[Message](), -1
    while log.last is not None and passed < log.last:
        batch = await log.fetch()
        found += [message for message in batch.messages if message.offset in wanted]
        passed = batch.messages[-1].offset or 0
        await batch.ack()
    return found


def _gone(span: Span, first: int, end: int) -> str:
    """Why what was asked for is not there; empty if it may be."""
    if end <= first:
        return "it has no messages"
    if span.from_offset is not None and span.from_offset < first:
        return (
            f"messages before {first} are gone, so it cannot be read from {span.from_offset}; "
            f"{_has(first, end)}, so say --from-seq {first}"
        )
    beyond = span.from_offset is not None and span.from_offset >= end
    if beyond or (span.to_offset is not None and span.to_offset < first):
        return f"nothing is in the range; {_has(first, end)}"
    return ""


def _has(first: int, end: int) -> str:
    return f"it has {first} to {end - 1}"
