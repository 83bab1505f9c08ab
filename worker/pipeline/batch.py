"""The batch: what one transaction commits, from fetch to acknowledgement."""

from collections.abc import Collection, Sequence
from functools import cached_property
from itertools import zip_longest
from typing import Protocol, cast

import msgspec

from penstock.schemas.event import Event
from penstock.worker.pipeline.messages import as_columns
from penstock.worker.pipeline.plan import Plan, make_plan
from penstock.worker.pipeline.ports import DeadLetter, Message, Origin


class Settling(Protocol):
    """The source of a batch. It settles the batch or its parts, each once."""

    name: str
    transport: str

    async def ack(self, batch: "Batch") -> None:
        """Settle for good. A lost acknowledgement only leads to redelivery, and acknowledging
        messages of a closed connection does no harm.
        """

    async def nack(self, batch: "Batch", delay: float) -> None:
        """Return for redelivery after ``delay`` seconds."""


class Batch:
    """Messages of one stream, what they were decoded to, and how to settle them.

    A source gives its messages as columns, or simply as a list. ``size`` is their total size in
    bytes. ``epoch`` is the epoch of the stream in which their offsets count. ``outcomes`` has the
    event or dead letter of each message, in order; set it once, before using what is computed from
    it. ``watched`` is True if a message may be poison.
    """

    def __init__(
        self,
        messages: Sequence[Message],
        size: int,
        source: Settling,
        *,
        epoch: str = "",
        outcomes: Sequence[Event | DeadLetter] = (),
        watched: bool = False,
    ) -> None:
        self.messages = as_columns(messages)
        self.size = size
        self.epoch = epoch
        self.outcomes = outcomes
        self.watched = watched
        self._source = source
        self._settled = False

    def __len__(self) -> int:
        return len(self.messages)

    @cached_property
    def plan(self) -> Plan:
        """What it writes; computed once."""
        if not self.letters:
            return make_plan(cast("Sequence[Event]", self.outcomes), self.letters)
        events = [outcome for outcome in self.outcomes if isinstance(outcome, Event)]
        return make_plan(events, self.letters)

    @cached_property
    def letters(self) -> list[DeadLetter]:
        """The messages that cannot become rows."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, DeadLetter)]

    @cached_property
    def origin(self) -> Origin:
        """Where the messages came from."""
        offsets = set(self.messages.offsets)
        return Origin(
            transport=self._source.transport,
            stream=self._source.name,
            epoch=self.epoch,
            offsets=sorted([offset for offset in offsets if offset is not None]),
        )

    async def ack(self) -> None:
        """Settle for good. Does nothing if the batch is settled already."""
        if not self._settled:
            self._settled = True
            await self._source.ack(self)

    async def nack(self, delay: float) -> None:
        """Return for redelivery after ``delay`` seconds. Does nothing if settled already."""
        if not self._settled:
            self._settled = True
            await self._source.nack(self, delay)

    def part(self, messages: Sequence[Message], *, watched: bool = False) -> "Batch":
        """A batch of some of the messages, not decoded yet.

        Settle either the batch, or parts that together have every message once; never both.
        """
        size = sum([message.size for message in messages])
        return Batch(messages, size, self._source, epoch=self.epoch, watched=watched)

    def halves(self) -> Sequence["Batch"]:
        """The two halves, with their outcomes if decoded; nothing for a single message."""
        middle = len(self.messages) // 2
        if not middle:
            return ()
        first = self.part(self.messages[:middle], watched=self.watched)
        second = self.part(self.messages[middle:], watched=self.watched)
        first.outcomes, second.outcomes = self.outcomes[:middle], self.outcomes[middle:]
        return (first, second)

    def without(self, messages: Collection[int]) -> "Batch | None":
        """What is left without the messages of these ``id``s, decoded as it is; None if nothing."""
        pairs = zip(self.messages, self.outcomes, strict=True)
        left = [pair for pair in pairs if id(pair[0]) not in messages]
        if not left:
            return None
        found = self.part([message for message, _ in left], watched=self.watched)
        found.outcomes = [outcome for _, outcome in left]
        return found

    def refused(self, reason: str, error: str) -> "Batch":
        """The same messages, each as a dead letter, with what is known about its event."""
        found = zip_longest(self.messages, self.outcomes)
        letters = [_letter(message, outcome, reason, error) for message, outcome in found]
        return Batch(
            self.messages,
            self.size,
            self._source,
            epoch=self.epoch,
            outcomes=letters,
            watched=self.watched,
        )

    def plain(self) -> "Batch | None":
        """The same dead letters without any text that might be what is wrong with them; None if
        they are so already.
        """
        if all(letter.plain for letter in self.letters):
            return None
        found = self.part(self.messages, watched=self.watched)
        found.outcomes = [msgspec.structs.replace(one, plain=True) for one in self.letters]
        return found

    @property
    def refused_whole(self) -> bool:
        """True if it is decoded, and every message is a dead letter."""
        return bool(self.outcomes) and len(self.letters) == len(self.messages)


def _letter(
    message: Message, outcome: Event | DeadLetter | None, reason: str, error: str
) -> DeadLetter:
    if not isinstance(outcome, Event):
        return DeadLetter(message=message, reason=reason, error=error)
    return DeadLetter(
        message=message,
        reason=reason,
        error=error,
        event_id=outcome.id,
        event_type=outcome.kind.name,
        occurred_at=outcome.time,
    )
