"""The batch: what one transaction commits, from the fetch to its acknowledgement."""

from collections.abc import Sequence
from functools import cached_property
from itertools import zip_longest
from typing import Protocol

from penstock.schemas.event import Event
from penstock.worker.pipeline.plan import Plan, make_plan
from penstock.worker.pipeline.ports import DeadLetter, Message, Origin


class Settling(Protocol):
    """Who fetched a batch, and settles it and its parts, each once."""

    name: str
    transport: str

    async def ack(self, batch: "Batch") -> None:
        """Settle for good. A lost acknowledgement only means redelivery. Acknowledging messages of
        a connection that is gone does no harm.
        """

    async def nack(self, batch: "Batch", delay: float) -> None:
        """Return for redelivery after ``delay`` seconds."""


class Batch:
    """Messages of one stream, what became of them, and how to settle them.

    ``size`` is the bytes of the messages together. ``epoch`` names the incarnation of the stream
    that their offsets count in. ``outcomes`` are the events and dead letters that the messages
    were decoded to, one each in their order; set them once, before anything that follows from them.
    ``watched`` is True if its messages may be poison.
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
        self.messages = messages
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
        """What the events write; made once."""
        return make_plan([outcome for outcome in self.outcomes if isinstance(outcome, Event)])

    @cached_property
    def letters(self) -> list[DeadLetter]:
        """What is kept of messages that cannot become rows."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, DeadLetter)]

    @cached_property
    def origin(self) -> Origin:
        """Where the messages came from."""
        offsets = {message.offset for message in self.messages}
        return Origin(
            transport=self._source.transport,
            stream=self._source.name,
            epoch=self.epoch,
            offsets=sorted([offset for offset in offsets if offset is not None]),
        )

    @cached_property
    def deliveries(self) -> list[int]:
        """How often each message has been delivered, this time included."""
        return [message.deliveries for message in self.messages]

    async def ack(self) -> None:
        """Settle for good. Without effect if it is settled."""
        if not self._settled:
            self._settled = True
            await self._source.ack(self)

    async def nack(self, delay: float) -> None:
        """Return for redelivery after ``delay`` seconds. Without effect if it is settled."""
        if not self._settled:
            self._settled = True
            await self._source.nack(self, delay)

    def part(self, messages: Sequence[Message], *, watched: bool = False) -> "Batch":
        """Some of the messages as a batch of their own, not decoded yet.

        Settle a batch by itself or by parts that have every message once, never both.
        """
        size = sum([message.size for message in messages])
        return Batch(messages, size, self._source, epoch=self.epoch, watched=watched)

    def halves(self) -> Sequence["Batch"]:
        """The first and the second half, as far as they are decoded; none of a single message."""
        middle = len(self.messages) // 2
        if not middle:
            return ()
        first = self.part(self.messages[:middle], watched=self.watched)
        second = self.part(self.messages[middle:], watched=self.watched)
        first.outcomes, second.outcomes = self.outcomes[:middle], self.outcomes[middle:]
        return (first, second)

    def refused(self, reason: str, error: str) -> "Batch":
        """The same messages, each to be kept as a dead letter, with what is known of its event."""
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

    @property
    def refused_whole(self) -> bool:
        """True if nothing of it can become rows, as far as is known."""
        return bool(self.outcomes) and len(self.letters) == len(self.messages)


def _letter(
    message: Message, outcome: Event | DeadLetter | None, reason: str, error: str
) -> DeadLetter:
    if not isinstance(outcome, Event):
        return DeadLetter(message=message, reason=reason, error=error)
    event_id, occurred_at = outcome.id, outcome.time
    return DeadLetter(
        message=message, reason=reason, error=error, event_id=event_id, occurred_at=occurred_at
    )
