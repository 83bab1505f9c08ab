"""What relaying asks of the place where the rows wait, as promises."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

import msgspec


class OutboxRow(msgspec.Struct, frozen=True, kw_only=True):
    """A committed row that waits. ``data`` is JSON of ``size`` bytes; None if it is too large."""

    outbox_id: int
    event_id: str
    type: str
    key: str
    data: bytes | None
    size: int
    time: datetime
    sequence: int
    source: str
    actor: str | None
    project: str | None
    correlationid: str | None
    causationid: str | None

    @property
    def domain(self) -> str:
        """What its type begins with. A domain travels on one stream."""
        return self.type.partition(".")[0]


class Refused(msgspec.Struct, frozen=True):
    """A row that will not be sent, and why."""

    outbox_id: int
    reason: str
    error: str


class Outcome(msgspec.Struct):
    """What became of rows: ids of the ``published`` ones, and those that were refused."""

    published: list[int] = msgspec.field(default_factory=list)
    refused: list[Refused] = msgspec.field(default_factory=list)


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows are ``waiting`` (counted up to a limit), how many seconds the oldest of them
    has, and how many were ``refused``.
    """

    waiting: int
    oldest_age: float
    refused: int


class Turn(Protocol):
    """The right to relay, which one worker has at a time. Raises SinkUnavailable once it is lost.

    Two may hold one for a moment, when a server or a network fails; then rows are sent twice.
    """

    async def waiting(self, busy: Sequence[str]) -> list[OutboxRow]:
        """Rows that wait, in order of their ids: of each domain as many as are good to handle at
        once, none of the domains ``busy``. If a row of a domain is missing that was committed
        before another was inserted, it has been published or refused.
        """

    async def settle(self, outcome: Outcome) -> None:
        """Remember what became of rows. Idempotent."""


class Outbox(Protocol):
    """A table of events to be sent."""

    def turn(self, wake: asyncio.Event) -> AbstractAsyncContextManager[Turn]:
        """Wait until no other worker relays. ``wake`` is set when rows have come, soon after most
        commits, and when the turn is lost. Raises SinkUnavailable.
        """

    async def backlog(self) -> Backlog:
        """What there is. Raises SinkUnavailable."""
