"""The sequences that a broker says are settled against those that PostgreSQL has.

A position is committed before its messages are acknowledged, and the broker is asked first. So what
is settled there and not recorded here was acknowledged by somebody else, or its record is lost. It
is read again, by sequence, and goes the ordinary way: what is stored already changes nothing.

A broker that keeps no account leaves it to PostgreSQL: there a hole before what is recorded may be
a batch that is in work, so it has to last.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from datetime import datetime
from typing import Protocol, Self

import msgspec

from penstock.worker.checks.check import Suspect, Suspects
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.ports import Message, Settled
from penstock.worker.pipeline.source import Source

_AT_ONCE = 500


class Stream(Protocol):
    """What the broker knows."""

    transport: str

    async def settled(self, stream: str) -> Settled | None:
        """How far a stream is settled; None if its messages have no offsets."""

    async def again(self, stream: str, offsets: Sequence[int]) -> Sequence[Message]:
        """The messages at ``offsets``, as far as they are still there."""


class Records(Protocol):
    """What PostgreSQL knows."""

    async def gaps(
        self, stream: str, settled: Settled, since: datetime | None
    ) -> Sequence[tuple[int, int]]:
        """What is settled and not recorded, as ranges without their ends."""

    async def resume(self, stream: str) -> tuple[str, int | None]:
        """The newest epoch, and the first offset in it that is not recorded."""

    async def skip(self, stream: str, epoch: str, first: int, after: int) -> None:
        """Record that nothing is to come any more from ``first`` up to, without, ``after``."""


Drain = Callable[[Source], Awaitable[None]]
"""Brings everything of a source the ordinary way into PostgreSQL and the buckets."""


class SequenceCheck:
    """Everything that is settled is recorded."""

    lag = 0.0

    def __init__(
        self,
        broker: Stream,
        stream: str,
        records: Records,
        drain: Drain,
        since: datetime | None = None,
    ) -> None:
        self.name = f"sequences of {broker.transport} {stream}"
        self.steady = True
        self._broker = broker
        self._stream = stream
        self._records = records
        self._drain = drain
        self._since = since

    async def look(self, among: Collection[str] | None) -> AsyncGenerator[Suspect]:
        settled = await self._settled()
        if settled is None:
            return
        self.steady = settled.upto is not None
        for first, after in await self._records.gaps(self._stream, settled, self._since):
            for offset in range(first, after):
                if among is None or str(offset) in among:
                    yield _suspect(offset, settled)

    async def _settled(self) -> Settled | None:
        settled = await self._broker.settled(self._stream)
        if settled is None or settled.upto is not None:
            return settled
        epoch, _ = await self._records.resume(self._stream)
        return msgspec.structs.replace(settled, epoch=epoch)

    async def mend(self, wrong: Suspects) -> None:
        settled = await self._settled()
        if settled is None:
            return
        there = sorted(int(name) for name, one in wrong.items() if not one.lost)
        await self._drain(_Again(self._broker, self._stream, settled.epoch, there))
        for name, one in wrong.items():
            if one.lost:
                offset = int(name)
                await self._records.skip(self._stream, settled.epoch, offset, offset + 1)


def _suspect(offset: int, settled: Settled) -> Suspect:
    if offset < settled.first or offset in settled.gone:
        return Suspect(
            str(offset),
            "left the stream, and it is not recorded that they were stored",
            "their producer or a backup may have them: `penstock publish`. `penstock verify "
            "--repair` takes note, so that this is said once",
            mendable=True,
            lost=True,
        )
    told = "come before others that are stored" if settled.upto is None else "are acknowledged"
    return Suspect(
        str(offset),
        f"{told}, and it is not recorded that they were stored",
        "`penstock verify --repair` reads them again from the stream",
        mendable=True,
    )


class _Again(Source):
    """Messages by their offsets, once. Settling them is recording their position."""

    def __init__(self, broker: Stream, stream: str, epoch: str, offsets: Sequence[int]) -> None:
        self.name = stream
        self.transport = broker.transport
        self._broker = broker
        self._epoch = epoch
        self._left = list(offsets)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None: ...

    async def fetch(self) -> Batch:
        messages: Sequence[Message] = ()
        while self._left and not messages:
            some, self._left = self._left[:_AT_ONCE], self._left[_AT_ONCE:]
            messages = await self._broker.again(self.name, some)
        size = sum(message.size for message in messages)
        return Batch(messages, size, self, epoch=self._epoch)

    def stop(self) -> None:
        self._left = []

    async def ack(self, batch: Batch) -> None:
        """The broker has it settled."""

    async def nack(self, batch: Batch, delay: float) -> None:
        """The next run finds it again."""
