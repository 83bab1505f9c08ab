"""A message as JetStream delivers it, read no further than somebody asks."""

import re
from collections.abc import Mapping

from worker.ports import NO_HEADERS, Message
from worker.sources.nats_wire import Frame

_changes_reading = re.compile(rb"\n(?:ce-|content-type[ \t]*:)", re.IGNORECASE).search
_NANOSECONDS = 1e9


class JetStreamMessage(Message, kw_only=True, gc=False):
    """``header`` is the block of headers as sent; ``reply`` the subject that settles the message.

    The reply tells the rest: https://github.com/nats-io/nats-architecture-and-design ADR-15.
    """

    header: bytes | None = None
    reply: bytes

    @property
    def headers(self) -> Mapping[str, str]:
        """Names as sent; of a name that is sent twice the first value."""
        return NO_HEADERS if self.header is None else parse_headers(self.header)

    @property
    def position(self) -> int:
        return int(self.reply.split(b".", _after(self.reply) + 2)[-2])

    @property
    def deliveries(self) -> int:
        return int(self.reply.split(b".", _after(self.reply) + 1)[-2])

    @property
    def stored_at(self) -> float:
        return int(self.reply.split(b".", _after(self.reply) + 4)[-2]) / _NANOSECONDS

    @property
    def size(self) -> int:
        """Bytes of body and headers."""
        return len(self.body) + (0 if self.header is None else len(self.header))


def message_of(frame: Frame) -> JetStreamMessage:
    """The message that a frame delivers."""
    subject, reply, header, body = frame
    return JetStreamMessage(
        subject=subject.decode("utf-8", "replace"),
        body=body,
        plain=header is None or _changes_reading(header) is None,
        header=header,
        reply=reply,
    )


def _after(reply: bytes) -> int:
    """How many tokens stand before deliveries, sequences and time.

    Of nine tokens four; with domain and account six, and a random one at the end.
    """
    return 4 if reply.count(b".") == 8 else 6  # noqa: PLR2004


def parse_headers(block: bytes) -> dict[str, str]:
    """The headers of a block that starts with the line ``NATS/1.0``; never raises."""
    headers: dict[str, str] = {}
    for line in block.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            headers.setdefault(
                name.decode("utf-8", "replace").strip(), value.decode("utf-8", "replace").strip()
            )
    return headers
