"""What a broker's room provides: a `broker` module for the worker, a `sender` module for agents."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from penstock.worker.difference import Difference
from penstock.worker.errors import PenstockError
from penstock.worker.finding import Finding
from penstock.worker.pipeline.budget import Share
from penstock.worker.pipeline.mirror import Store
from penstock.worker.pipeline.ports import Judge, KvEntry, KvRow, Message, Settled
from penstock.worker.pipeline.receipts import Replies
from penstock.worker.pipeline.source import Log, Span, WatchedSource
from penstock.worker.sending.ports import Outlet, Sending
from penstock.worker.sending.reads import Answering

if TYPE_CHECKING:
    from penstock.worker.brokers.scope import Scope


class Offsets(Protocol):
    """Where reading a log continues. Kept with the events: each batch commits its own offsets."""

    async def resume(self, stream: str) -> tuple[str, int | None]:
        """The newest epoch of ``stream``, and the first of its offsets that is not committed, or
        None if nothing is committed. Raises Unavailable.
        """

    async def anchor(self, stream: str, epoch: str, first: int) -> None:
        """Remember that everything from ``first`` on is going to be read, before any of it is:
        from then on `resume` knows that a first batch is missing. Raises Unavailable.
        """

    async def skip(self, stream: str, epoch: str, first: int, after: int) -> None:
        """Record that ``stream`` has no messages from ``first`` up to, but without, ``after``."""

    async def begin(self, stream: str) -> int | None:
        """Record that reading begins. Returns None if every earlier reader reached its `end`; else
        the offset after the last committed one of ``stream``, or 0. Raises Unavailable.
        """

    async def end(self, stream: str) -> None:
        """Record that reading ended in an orderly way. Raises Unavailable."""


class Lent(msgspec.Struct, frozen=True):
    """What a worker lends to the source of a stream: a ``share`` of its memory, and a place to keep
    ``offsets`` if the broker keeps none.
    """

    share: Share
    offsets: Offsets


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """What of a stream is not settled, as its server tells whoever asks: ``pending`` not delivered,
    ``ack_pending`` delivered and not acknowledged, ``oldest`` the Unix time when the first of them
    was stored. None where the server does not tell.
    """

    pending: int
    ack_pending: int | None = None
    oldest: float | None = None


class Copy(msgspec.Struct, frozen=True):
    """A dead letter as it is sent again: ``headers`` are `Message.raw_headers`, or as
    `Broker.headers_with` changed them.
    """

    subject: str
    headers: bytes
    body: bytes
    requeue_id: str


class GivenUp(msgspec.Struct, frozen=True):
    """Where a broker puts what it gives up: the name of a ``stream``, and what judges its messages,
    each to be a dead letter.
    """

    stream: str
    judge: Judge


class Broker(Protocol):
    """A connected broker. ``transport`` is its name in rows, logs and metrics. ``keeps`` says that
    what was read stays there, and that `log` can read it again.
    """

    transport: str

    @property
    def keeps(self) -> bool: ...

    async def provision(self, *, dry_run: bool) -> list[Difference]:
        """Create what is missing, and correct what can be corrected without losing anything.

        Returns what was done and what still differs. With ``dry_run`` nothing is changed. Raises
        SourceUnavailable, or TopologyError if the server refuses.
        """

    async def check(self) -> list[Difference]:
        """What differs from the plan. Raises TopologyError if a worker cannot run with it."""

    async def examine(self) -> list[Finding]:
        """Findings about the server itself, such as its version."""

    async def waiting(self, stream: str, offsets: Offsets) -> Waiting:
        """What of ``stream`` is left, all workers together, without reading it. ``offsets`` is for
        a broker that keeps none. Raises SourceUnavailable, TopologyError.
        """

    async def settled(self, stream: str) -> Settled | None:
        """How far ``stream`` is settled by the broker's own account, asked before the positions in
        PostgreSQL are; None if its messages have no offsets. Raises SourceUnavailable.
        """

    async def again(self, stream: str, offsets: Sequence[int]) -> Sequence[Message]:
        """The messages of ``stream`` at ``offsets``, as far as they are still there; they stay
        there. Raises SourceUnavailable.
        """

    def source(self, stream: str, lent: Lent) -> AbstractAsyncContextManager[WatchedSource]:
        """The source of one stream, not started yet."""

    def log(self, stream: str, span: Span, share: Share) -> AbstractAsyncContextManager[Log]:
        """A part of what is kept of a stream, to be read once more, beside everybody who reads it.
        Entering raises TopologyError if there is no such stream or part.
        """

    def outlet(self) -> AbstractAsyncContextManager[Outlet]:
        """A sender over this connection, with receipts. On leaving, what is unconfirmed fails."""

    def replies(self) -> AbstractAsyncContextManager[Replies]:
        """What answers publishers who ask for receipts. Raises SourceUnavailable on entering."""

    def serving(self, reads: Answering) -> AbstractAsyncContextManager[None]:
        """Answer reads that agents ask over this broker, if it can carry them."""

    async def given_up(self) -> GivenUp | None:
        """What the broker itself gave up, if it keeps that; read by `source`."""

    async def resend(self, copies: Sequence[Copy]) -> list[PenstockError | None]:
        """Publish dead letters with the headers that they came with. Each has its requeue id as
        message id, so that no duplicate window takes it for the first one, and carries it to the
        worker. Returns for each None once it is confirmed, PublishRefused, or PublishFailed if the
        broker may have it or not. Raises SourceUnavailable.
        """

    def headers_with(self, headers: bytes, changes: Mapping[str, str]) -> bytes:
        """``headers`` with some set to other texts, or taken away where the text is empty."""


class Contents(Protocol):
    """All that a bucket holds, and putting it right. Raises StateStoreUnavailable."""

    def entries(self) -> AsyncGenerator[KvEntry]:
        """Every key that is there; the last entry of a key counts."""

    async def size(self) -> int:
        """How many keys there are, deleted ones too. Raises StateStoreUnavailable."""

    async def revisions(self, keys: Sequence[str]) -> Mapping[str, int]:
        """The revisions of keys, deleted ones too; 0 where there is none."""

    async def overwrite(self, rows: Sequence[KvRow], revisions: Mapping[str, int]) -> None:
        """Put rows, whatever their keys hold, where the key still has its revision."""

    def fits(self, row: KvRow) -> Iterator[bytes]:
        """The values that may stand for a row that is there: its own, and a shortened one."""


class Bucket(Protocol):
    """A bucket that mirrors rows. ``name`` is its name on the server."""

    name: str

    async def provision(self, *, dry_run: bool) -> list[Difference]:
        """Create or correct the bucket; see `Broker.provision`."""

    async def examine(self) -> list[Finding]:
        """See `Broker.examine`."""

    def contents(self) -> AbstractAsyncContextManager[Contents]:
        """All that it holds, for whoever compares it with the rows."""

    def store(
        self,
        *,
        on_conflict: Callable[[int], None] | None = None,
        on_missing: Callable[[], Awaitable[None]] | None = None,
        on_refused: Callable[[str, str], None] | None = None,
    ) -> Store:
        """A store that writes to the bucket. ``on_conflict`` is called with the number of writes
        that lost against another writer; ``on_missing`` when the bucket is gone, before the next
        attempt; ``on_refused`` with the key and the reason of each row that is rejected.
        """


class BrokerModule(Protocol):
    """The module of a broker's room for the worker and its commands."""

    async def open_broker(self, scope: "Scope", /) -> Broker:
        """Connect by the scope's settings. Raises SourceUnavailable, SettingsError."""


class BucketModule(Protocol):
    """The module that opens the buckets."""

    async def open_buckets(self, scope: "Scope", /) -> Mapping[str, Bucket]:
        """Connect by the scope's settings. Buckets by declared name. Raises SourceUnavailable."""

    async def provision_cache(self, scope: "Scope", /, *, dry_run: bool) -> list[Difference]:
        """Create the bucket that is for agents alone. Raises SourceUnavailable, TopologyError."""


class SenderModule(Protocol):
    """The module of a broker's room for the Publisher. It imports nothing that sending does not
    need.
    """

    def open_sender(self, server: Any, sending: Sending, /) -> AbstractAsyncContextManager[Outlet]:
        """Connect to ``server``, an address or this broker's own options. On leaving, the
        connection is closed, and what is unconfirmed fails. Raises SourceUnavailable,
        SettingsError.
        """
