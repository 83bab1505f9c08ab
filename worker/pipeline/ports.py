"""What passes between the pipeline and the rooms that know a broker or a store.

A message is delivered bytes, an event is a decoded fact, a batch is what one transaction commits.
`pipeline.source` describes what reads from a broker.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Protocol

import msgspec

from penstock.schemas.event import Event

NO_HEADERS: Mapping[str, str] = {}


class Message(msgspec.Struct, kw_only=True):
    """One delivery. Sources subclass it to carry what their acknowledgement needs.

    ``subject`` is the bus subject or routing key. ``plain`` is True if no header can change how the
    body is read (no ``ce-*`` attribute, no content type), which spares the decoder from parsing
    ``headers``; False for a requeued dead letter. ``begun_before`` is True if a worker may have
    begun with it before and the broker does not count how many have.
    """

    subject: str
    body: bytes
    plain: bool = True
    begun_before: bool = False

    @property
    def size(self) -> int:
        """Bytes of body and headers as they are held in memory."""
        return len(self.body)

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
    def raw_headers(self) -> bytes:
        """The same as it stood on the wire, without what the broker or a retry added: the same
        bytes however often the message comes.
        """
        return b""

    @property
    def digest(self) -> bytes:
        """Tells it from any other message, and is the same when it comes again: SHA-256 of all that
        came, which is subject, headers and body.
        """
        subject, headers = self.subject.encode("utf-8", "backslashreplace"), self.raw_headers
        sizes = b"%d %d " % (len(subject), len(headers))
        return sha256(b"".join((sizes, subject, headers, self.body))).digest()

    @property
    def requeue_id(self) -> str | None:
        """The id of the requeue, a canonical UUID, if this is a dead letter that was sent again."""
        return None

    @property
    def offset(self) -> int | None:
        """Its number in the stream, if the broker has one that outlives the connection."""
        return None

    @property
    def mark(self) -> Any:
        """Where it stands, as JSON, in a source that reads again without offsets."""
        return None

    @property
    def deliveries(self) -> int:
        """How often the broker has delivered this message, including this time; at least 1."""
        return 1

    @property
    def stored_at(self) -> float | None:
        """When the broker stored the message, in Unix seconds, if the broker says so."""
        return None


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """What a source still holds: ``pending`` messages are not yet delivered, ``ack_pending`` are
    delivered to any worker and not acknowledged, ``redelivered`` of these more than once.
    ``given_up`` is what the broker itself has put aside, of all its streams together. ``held_up``
    says why the broker delivers nothing, if it does so on purpose.
    """

    pending: int
    ack_pending: int
    redelivered: int = 0
    given_up: int = 0
    held_up: str = ""


class KvTouch(msgspec.Struct, frozen=True):
    """Rows to hydrate: those of ``view`` whose columns ``columns`` equal one of the key tuples.
    ``lazy``: they may follow later.
    """

    view: str
    columns: tuple[str, ...]
    lazy: bool = False


class KvRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One committed row, as the bucket ``bucket`` should hold it.

    ``key`` is the escaped KV key. ``guard`` is a JSON array, as bytes, that grows with every change
    of the row, element by element; ``value`` the JSON document, or None if the key must not be
    there.
    """

    key: str
    guard: bytes
    value: bytes | None
    bucket: str = ""


class KvEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What a bucket holds under a key: its revision, its guard as JSON, and the value."""

    key: str
    revision: int
    guard: bytes
    value: bytes


class StateStore(Protocol):
    """A key-value bucket that mirrors rows of PostgreSQL and can be refilled from there."""

    bucket: str

    async def put(self, rows: Sequence[KvRow]) -> int:
        """Bring every key at least to the version of its row, never back to an older one. Returns
        how many keys were written.

        One row per key. A key with a greater guard stays as it is. Raises StateStoreUnavailable.
        """


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that cannot become rows, and why. ``reason`` is one of `decode.REASONS`.

    ``plain`` says that it could not be kept with its texts: they are ASCII then, its bytes as ever.
    """

    message: Message
    reason: str
    error: str
    event_id: str | None = None
    event_type: str | None = None
    occurred_at: datetime | None = None
    plain: bool = False


class Judge(Protocol):
    """Says of messages what they are."""

    def decode(self, messages: Sequence[Message]) -> Sequence[Event | DeadLetter]:
        """The event or dead letter that each message is. Never raises for what a message holds."""


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """The result of committing a batch. Each message counts once: as a ``new`` event, as one of
    ``letters``, which are the dead letters that were not kept yet and the requeued ones that were
    rejected again, or as a ``duplicate`` of either. ``events`` are the new ones themselves,
    ``refused`` all dead letters, those kept already too.
    """

    new: int
    duplicate: int
    letters: Sequence[DeadLetter]
    events: Sequence[Event] = ()
    refused: Sequence[DeadLetter] = ()


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a batch came from. ``offsets`` are sorted and distinct, and count within ``epoch``."""

    transport: str
    stream: str
    epoch: str
    offsets: Sequence[int]


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """How far a stream is settled, by the broker's own account: of the epoch ``epoch`` all up to
    ``upto``, which is None if only the positions in PostgreSQL tell, as they do the epoch then.
    Messages before ``first``, and those of ``gone``, are no longer there.
    """

    epoch: str
    first: int
    upto: int | None
    gone: frozenset[int] = frozenset()
