"""A message as JetStream delivers it; headers are parsed only on demand."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import overload

from penstock.schemas.identity import canonical
from penstock.worker.nats.headers import attributes_of, header_lines, parse_headers
from penstock.worker.nats.wire import Frame
from penstock.worker.pipeline.messages import Messages
from penstock.worker.pipeline.ports import NO_HEADERS, Message

_changes_reading = re.compile(
    rb"\n[cp](?:e[-_]|loudevents[:_]|ontent-type[ \t]*:|enstock-letter:)", re.IGNORECASE
).search
"""For attributes, the content type and our own header. That other names fit too does no harm;
asking for the first letter by itself is fastest."""

LETTER_HEADER = "Penstock-Letter"
"""The id of the requeue, in a dead letter that is sent again."""

_requeued = re.compile(rb"\nPenstock-Letter: ([0-9a-f-]{36})\r").search
_NANOSECONDS = 1e9
_SHORT = 9
"""Tokens of a reply on a server without a domain."""


class JetStreamMessage(Message, kw_only=True, gc=False):
    """``header`` is the block of headers as sent, ``reply`` the subject that settles the message.

    The reply has the rest: https://github.com/nats-io/nats-architecture-and-design ADR-15.
    """

    reply: bytes
    header: bytes | None = None
    deliveries: int = 1
    offset: int | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        """Names as sent. If a name was sent twice, the first value."""
        return NO_HEADERS if self.header is None else parse_headers(self.header)

    @property
    def attributes(self) -> Mapping[str, str]:
        return NO_HEADERS if self.header is None else attributes_of(header_lines(self.header))

    @property
    def content_type(self) -> str | None:
        named = (value for name, value in self.headers.items() if name.lower() == "content-type")
        return next(named, None)

    @property
    def raw_headers(self) -> bytes:
        """The block, from its first line on."""
        return self.header or b""

    @property
    def requeue_id(self) -> str | None:
        found = _requeued(self.raw_headers)
        named = "" if found is None else found[1].decode()
        return named if canonical(named) else None

    @property
    def stored_at(self) -> float:
        tokens = self.reply.split(b".")
        return int(tokens[_after(len(tokens)) + 3]) / _NANOSECONDS

    @property
    def size(self) -> int:
        """Bytes of body and headers."""
        return len(self.body) + (0 if self.header is None else len(self.header))


class JetStreamMessages(Messages):
    """The messages that frames of one consumer deliver, one at least."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        subjects, self.replies, self.headers, self.bodies = zip(*frames, strict=True)
        # No subject has a line feed, which ends a word of the protocol.
        self.subjects = b"\n".join(subjects).decode("utf-8", "backslashreplace").split("\n")
        self.deliveries, self.offsets = places(self.replies)
        self._made: dict[int, JetStreamMessage] = {}

    def __len__(self) -> int:
        return len(self.bodies)

    @overload
    def __getitem__(self, place: int) -> JetStreamMessage: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[JetStreamMessage]: ...
    def __getitem__(self, place: int | slice) -> JetStreamMessage | Sequence[JetStreamMessage]:
        places = range(len(self))[place]
        return [self[one] for one in places] if isinstance(places, range) else self._at(places)

    def __iter__(self) -> Iterator[JetStreamMessage]:
        return map(self._at, range(len(self)))

    def _at(self, place: int) -> JetStreamMessage:
        found = self._made.get(place)
        if found is None:
            found = self._made[place] = JetStreamMessage(
                subject=self.subjects[place],
                body=self.bodies[place],
                plain=place not in self.special,
                reply=self.replies[place],
                header=self.headers[place],
                deliveries=self.deliveries[place],
                offset=self.offsets[place],
            )
        return found

    @cached_property
    def special(self) -> Collection[int]:
        if not _changes_reading(b"".join(filter(None, self.headers))):
            return ()
        return {n for n, header in enumerate(self.headers) if header and _changes_reading(header)}

    @property
    def doubtful(self) -> Collection[int]:
        """None: the server counts deliveries."""
        return ()


def places(replies: Sequence[bytes]) -> tuple[list[int], list[int]]:
    """Deliveries and offsets from replies, one at least, all of the same form. Raises ValueError
    for what no server writes.
    """
    tokens = b".".join(replies).split(b".")
    length = len(tokens) // len(replies)
    if length * len(replies) != len(tokens):
        raise ValueError("replies of several forms")
    after = _after(length)
    return list(map(int, tokens[after::length])), list(map(int, tokens[after + 1 :: length]))


def _after(length: int) -> int:
    """How many tokens of a reply precede deliveries, sequences and time.

    Four of nine; with domain and account six, and then there is a random token at the end.
    """
    return 4 if length == _SHORT else 6
