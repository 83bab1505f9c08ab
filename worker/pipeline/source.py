"""What the worker asks of a way to read a broker, as promises. tests/contract checks them."""

from typing import Protocol, Self

from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.ports import Backlog


class Source(Protocol):
    """A durable, shared, at-least-once queue of messages: what a pipeline reads.

    Every message is delivered until its batch is acknowledged, to one replica at a time unless it
    has been unacknowledged for longer than the broker's wait. Entering starts it, leaving returns
    what was fetched and not acknowledged. Reconnects happen inside: callers only see slow answers
    or `SourceUnavailable`.
    """

    name: str
    transport: str

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def fetch(self) -> Batch:
        """The next batch, which settles itself: at least one message, at most the configured count
        and bytes, as soon as `intake` lets it go. Without messages only after `stop`. Safe to
        cancel: nothing fetched is lost.
        """

    def stop(self) -> None:
        """Ask for no more messages; a waiting `fetch` returns what there is. Idempotent."""


class Watched(Protocol):
    """What can be told of a source from outside, while it is being read."""

    @property
    def healthy(self) -> bool:
        """False while the connection is away or has been silent for longer than it may."""

    async def backlog(self) -> Backlog:
        """What is left. Raises SourceUnavailable."""


class WatchedSource(Source, Watched, Protocol):
    """A source of a broker."""
