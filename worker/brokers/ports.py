"""What a broker's room promises. Its `broker` module serves the worker, its `sender` an agent."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from penstock.worker.difference import Difference
from penstock.worker.finding import Finding
from penstock.worker.pipeline.budget import Share
from penstock.worker.pipeline.mirror import Store
from penstock.worker.pipeline.source import WatchedSource
from penstock.worker.sending.ports import Outlet, Sender, Sending

if TYPE_CHECKING:
    from penstock.worker.brokers.scope import Scope


class Offsets(Protocol):
    """Where reading a log goes on, kept where the events are: committed with each batch."""

    async def resume(self, stream: str) -> tuple[str, int | None]:
        """The newest epoch of ``stream``, and the first of its offsets that is not committed; None
        if none is. Raises Unavailable.
        """

    async def skip(self, stream: str, epoch: str, first: int, after: int) -> None:
        """Remember that ``stream`` holds nothing from ``first`` to before ``after``."""

    async def begin(self, stream: str) -> int | None:
        """Note that reading begins. After the last committed offset of ``stream``, or 0, if a
        reader before this one never came to its `end`; None if all did. Raises Unavailable.
        """

    async def end(self, stream: str) -> None:
        """Note that reading ended in order. Raises Unavailable."""


class Lent(msgspec.Struct, frozen=True):
    """What a worker lends the source of a stream: a ``share`` of its memory, and a place to keep
    ``offsets`` for a broker that keeps none.
    """

    share: Share
    offsets: Offsets


class Broker(Protocol):
    """Where messages come from, connected. ``transport`` names it in rows, logs and metrics."""

    transport: str

    async def provision(self, *, dry_run: bool) -> list[Difference]:
        """Make what is missing, as far as that loses nothing; say what was done or differs.

        With ``dry_run`` nothing is changed. Raises SourceUnavailable, or TopologyError if the
        server refuses.
        """

    async def check(self) -> list[Difference]:
        """What differs; raises TopologyError if the worker cannot work with it."""

    async def examine(self) -> list[Finding]:
        """What there is to say of the server itself, such as its version."""

    def source(self, stream: str, lent: Lent) -> AbstractAsyncContextManager[WatchedSource]:
        """The source of one stream, not started yet."""

    def sender(self) -> AbstractAsyncContextManager[Sender]:
        """Publishes to the streams over this connection. Leaving fails what is unconfirmed."""


class Bucket(Protocol):
    """Where rows are mirrored. ``name`` is the server's name of it."""

    name: str

    async def provision(self, *, dry_run: bool) -> list[Difference]:
        """Make it if it is missing; as `Broker.provision`."""

    async def examine(self) -> list[Finding]:
        """As `Broker.examine`."""

    def store(
        self,
        *,
        on_conflict: Callable[[int], None] | None = None,
        on_missing: Callable[[], Awaitable[None]] | None = None,
        on_refused: Callable[[str, str], None] | None = None,
    ) -> Store:
        """To write to it. ``on_conflict`` is told how many writes came second, ``on_missing`` is
        called when the bucket is gone, before another attempt, ``on_refused`` is told the key and
        the reason of a row that it will not take.
        """


class BrokerModule(Protocol):
    """The module of a room that serves the worker and its commands."""

    async def open_broker(self, scope: "Scope", /) -> Broker:
        """Connect, as the scope's settings say. Raises SourceUnavailable, SettingsError."""


class BucketModule(Protocol):
    """The module that opens the buckets."""

    async def open_buckets(self, scope: "Scope", /) -> Mapping[str, Bucket]:
        """Connect, as the scope's settings say; by declared name. Raises SourceUnavailable."""


class SenderModule(Protocol):
    """The module of a room that serves the Publisher, and loads nothing that it has no use for."""

    def open_sender(self, server: Any, sending: Sending, /) -> AbstractAsyncContextManager[Outlet]:
        """Connect to ``server``, a url or options of this broker's own; leaving closes it and fails
        what is unconfirmed. Raises SourceUnavailable, SettingsError.
        """
