"""What the worker requires of a source, as protocols. tests/contract checks every source."""

from typing import Protocol, Self

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
