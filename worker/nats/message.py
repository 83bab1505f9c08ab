"""A message as JetStream delivers it; headers are parsed only on demand."""

import re
from collections.abc import Iterator, Mapping, Sequence

from penstock.schemas.identity import canonical
from penstock.worker.nats.headers import attributes_of, header_lines, parse_headers
from penstock.worker.nats.wire import Frame
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


def messages_of(frames: Sequence[Frame]) -> list[JetStreamMessage]:
    """The messages that frames of one consumer deliver."""
    return [
        JetStreamMessage(
            subject=subject.decode("utf-8", "backslashreplace"),
            body=body,
            plain=header is None or _changes_reading(header) is None,
            reply=reply,
            header=header,
            deliveries=deliveries,
            offset=offset,
        )
        for (subject, reply, header, body), (deliveries, offset) in zip(
            frames, places([reply for _, reply, _, _ in frames]), strict=True
        )
    ]


def places(replies: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Deliveries and offset from each reply. All replies must have the same form."""
    tokens = b".".join(replies).split(b".")
    length = len(tokens) // len(replies) if replies else _SHORT
    after = _after(length)
    return zip(map(int, tokens[after::length]), map(int, tokens[after + 1 :: length]), strict=True)


def _after(length: int) -> int:
    """How many tokens of a reply precede deliveries, sequences and time.

    Four of nine; with domain and account six, and then there is a random token at the end.
    """
    return 4 if length == _SHORT else 6
