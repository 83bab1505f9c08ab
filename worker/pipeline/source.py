"""What the worker requires of a source, as protocols. tests/contract checks every source."""

from datetime import datetime
from typing import Protocol, Self

import msgspec

from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.ports import Backlog


class Source(Protocol):
    """A durable, shared, at-least-once queue of messages: what a pipeline reads.

    Every message is delivered until its batch is acknowledged: to one replica at a time, unless it
    stays unacknowledged for longer than the broker's ack wait. Entering starts the source; leaving
    returns what was fetched and not acknowledged. It reconnects by itself: callers only see slow
    answers or `SourceUnavailable`.
    """

    name: str
    transport: str

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def fetch(self) -> Batch:
        """The next batch, which settles itself: at least one message, at most the configured count
        and bytes, as soon as `intake` releases it. Empty only after `stop`. Safe to cancel: nothing
        is lost.
        """

    def stop(self) -> None:
        """Ask for no more messages; a waiting `fetch` returns. Idempotent."""


class Watched(Protocol):
    """The state of a source, as seen from outside while it is being read."""

    @property
    def healthy(self) -> bool:
        """False while the connection is down or has been silent for too long."""

    async def backlog(self) -> Backlog:
        """What is left to read. Raises SourceUnavailable."""


class WatchedSource(Source, Watched, Protocol):
    """A source of a broker."""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a stream to read again: from one offset or time to another, both included; None
    is its own beginning or end. ``subjects`` are patterns as of NATS, of which a message matches
    one; empty for all. A server need not apply them.
    """

    from_offset: int | None = None
    since: datetime | None = None
    to_offset: int | None = None
    until: datetime | None = None
    subjects: tuple[str, ...] = ()


class Log(Source, Protocol):
    """A source that reads a part of what is kept, by itself: nobody else's position moves.

    ``total`` is how many messages there are about, and ``last`` the offset that reading ends with,
    fixed on entering, so that it ends although more keeps coming. Messages behind the part may be
    delivered too. Entering raises TopologyError, in one sentence, where there is nothing to read.
    """

    total: int
    last: int | None

    @property
    def epoch(self) -> str:
        """The epoch of the stream, known after entering."""

    async def ack(self, batch: Batch) -> None:
        """Settle messages of what was fetched, in whatever batch they are."""

    async def nack(self, batch: Batch, delay: float) -> None:
        """Deliver messages of what was fetched again, after ``delay`` seconds."""

    async def over(self, passed: int | None) -> bool:
        """True if everything of the part has been delivered and acknowledged, asked when what was
        fetched is settled. ``passed`` is the offset of a message that was fetched from the end of
        the part or behind it. Raises SourceUnavailable.
        """
