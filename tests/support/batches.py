"""Batches that no broker delivered."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from penstock.schemas.event import Event
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.ports import DeadLetter, Message


class Nobody:
    """Delivers nothing, and records the bodies of what is settled."""

    name = "test"
    transport = "test"

    def __init__(self) -> None:
        self.acked: list[bytes] = []
        self.nacked: list[bytes] = []

    async def ack(self, batch: Batch) -> None:
        self.acked += [message.body for message in batch.messages]

    async def nack(self, batch: Batch, delay: float) -> None:
        assert delay >= 0
        self.nacked += [message.body for message in batch.messages]


def batch_of(
    messages: Sequence[Message],
    outcomes: Sequence[Event | DeadLetter] = (),
    source: Nobody | None = None,
) -> Batch:
    """Messages as if they had been fetched, and decoded if there are outcomes."""
    size = sum(message.size for message in messages)
    return Batch(messages, size, source or Nobody(), outcomes=outcomes)


def stored_as(events: Sequence[Event]) -> Batch:
    """Decoded events as a batch."""
    return batch_of([Message(subject="", body=bytes(event.raw)) for event in events], events)


class Placed(Message, kw_only=True):
    """A message with a given offset."""

    place: int | None = None

    @property
    def offset(self) -> int | None:
        return self.place


def message(number: int, *, place: int | None = None, kind: str = "agents.heartbeat") -> Placed:
    """A heartbeat of the agent ``a-<number>``, or an event of another type that asks for little."""
    data = {"agents.heartbeat": {"status": "busy"}, "agents.activity": {"activity_type": "rest"}}
    body = {
        "specversion": "1.0",
        "id": f"e-{number}",
        "source": "/s",
        "type": kind,
        "subject": f"a-{number}",
        "time": datetime.now(UTC),
        "data": data[kind],
    }
    domain, _, verb = kind.partition(".")
    subject = f"{domain}.a-{number}.{verb}"
    return Placed(subject=subject, body=msgspec.json.encode(body), place=place)
