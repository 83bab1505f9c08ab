"""What the pipeline needs from the world, as promises. Adapters keep them; tests check them.

A message is delivered bytes, an event is a decoded fact, a batch is what one transaction commits.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, Self

import msgspec

NO_HEADERS: Mapping[str, str] = {}


class Message(msgspec.Struct, kw_only=True):
    """One delivery. Sources subclass it to carry what their acknowledgement needs.

    ``subject`` is the bus subject or routing key. ``plain`` is True if no header can change how the
    body is read (no ``ce-*`` attribute, no content type), which spares the decoder from parsing
    ``headers``. ``suspect`` is True if a worker may have begun with it before and the broker does
    not count how many have.
    """

    subject: str
    body: bytes
    plain: bool = True
    suspect: bool = False

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers or application properties, names as sent. Parsed when asked for."""
        return NO_HEADERS

    @property
    def attributes(self) -> Mapping[str, str]:
        """The CloudEvents attributes among them, as the binding of the protocol maps them: names
        in lower case and without prefix. Raises UnicodeDecodeError if one is not UTF-8.
        """
        return NO_HEADERS

    @property
    def content_type(self) -> str | None:
        """What the body is said to be, as sent."""
        return None

    @property
    def position(self) -> int | None:
        """The sequence in the stream, where the broker has one that outlives the connection."""
        return None

    @property
    def deliveries(self) -> int:
        """How often the broker has delivered this message, this time included; at least 1."""
        return 1

    @property
    def stored_at(self) -> float | None:
        """When the broker stored the message, in Unix seconds, where the broker tells."""
        return None


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """What a source still holds: ``pending`` not yet delivered, ``ack_pending`` delivered, not
    acknowledged, over all replicas; ``redelivered`` of those more than once.
    """

    pending: int
    ack_pending: int
    redelivered: int = 0


class Source(Protocol):
    """A durable, shared, at-least-once queue of messages.

    Every message is delivered until it is acknowledged, to one replica at a time unless it has been
    unacknowledged for longer than the broker's wait. Entering starts it, leaving gives back what
    was fetched and not acknowledged. Reconnects happen inside: callers only see slow answers or
    `SourceUnavailable`.
    """

    name: str
    transport: str

    @property
    def epoch(self) -> str:
        """Names the incarnation of the stream that positions count in; changes if it is remade."""

    @property
    def healthy(self) -> bool:
        """False while the connection is away or has been silent for longer than it may."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def fetch(self) -> Sequence[Message]:
        """The next batch, at least one message, at most the configured count and bytes.

        Waits for the first message without limit, then at most the linger time for more; if
        nothing that was fetched is still unsettled, only as long as keeps small batches from
        following each other too closely, and not at all after a message that came alone. Returns
        an empty sequence only after `stop`. Safe to cancel: nothing fetched is lost.
        """

    def stop(self) -> None:
        """Ask for no more messages; a waiting `fetch` returns what there is. Idempotent."""

    async def ack(self, messages: Sequence[Message]) -> None:
        """Settle for good. A lost acknowledgement only means redelivery. Acknowledging a message
        of a connection that is gone does no harm.
        """

    async def nack(self, messages: Sequence[Message], delay: float) -> None:
        """Give back for redelivery after ``delay`` seconds."""

    async def backlog(self) -> Backlog:
        """What is left. Raises SourceUnavailable."""


class KvTouch(msgspec.Struct, frozen=True):
    """Rows to hydrate: those of ``view`` whose columns ``columns`` equal one of the key tuples."""

    view: str
    columns: tuple[str, ...]


class KvRow(msgspec.Struct, frozen=True, kw_only=True):
    """One committed row, as the bucket should hold it.

    ``key`` is the escaped KV key. ``guard`` is a JSON array that grows with every change of the
    row, element by element; ``value`` the JSON document, or None if the key must not be there.
    """

    key: str
    guard: list[Any]
    value: bytes | None


class StateStore(Protocol):
    """A key-value bucket that mirrors rows of PostgreSQL and can be refilled from it."""

    bucket: str

    async def put(self, rows: Sequence[KvRow]) -> int:
        """Bring every key at least as far as its row; never back. Returns how many were written.

        One row per key. A key that holds a greater guard stays as it is. Raises
        StateStoreUnavailable.
        """


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What one committed batch did: events ``new`` and ``duplicate``, dead letters kept."""

    new: int
    duplicate: int
    dead_letters: int
    seconds: float


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that cannot become rows, with why. ``reason`` is one of `decode.REASONS`."""

    message: Message
    reason: str
    error: str
    event_id: str | None = None
    occurred_at: datetime | None = None


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a batch came from: ``sequences`` are its positions in ``stream``, sorted, distinct."""

    transport: str
    stream: str
    epoch: str
    sequences: Sequence[int]
