"""Receipts on NATS: asked for by a header that names an inbox, answered there by a core message."""

import re
from collections.abc import Iterator, Sequence

from nats.aio.client import Client

from penstock.worker.nats.message import JetStreamMessages
from penstock.worker.nats.permissions import denials
from penstock.worker.nats.receipts import RECEIPT_HEADER
from penstock.worker.nats.wire import send
from penstock.worker.pipeline.ports import Message
from penstock.worker.pipeline.receipts import asking

_MOST_UNSENT = 8 * 2**20
"""Bytes that wait for a server which reads slowly; answers are not worth more memory."""

_NAME = b"\n%s:" % RECEIPT_HEADER.encode()
_named = re.compile(re.escape(_NAME) + rb"[ \t]*([^\r]*?)[ \t]*\r").search
_literal = re.compile(rb"(?=[!-~]{1,255}\Z)[^.*>]+(\.[^.*>]+)+").fullmatch


class NatsReplies:
    """Answers go to subjects that begin with one of ``inboxes``, as ``_INBOX``, and a dot."""

    def __init__(self, nc: Client, inboxes: Sequence[str]) -> None:
        self._nc = nc
        self._inboxes = tuple(f"{inbox}." for inbox in inboxes)
        self._prefixes = tuple(inbox.encode() for inbox in self._inboxes)

    def asked(self, messages: Sequence[Message]) -> Iterator[tuple[int, bytes]]:
        """See `Replies.asked`; of a header that is there twice the first counts."""
        return asking(_headers(messages), _NAME, self._address)

    def send(self, answers: Sequence[tuple[bytes, bytes]]) -> bool:
        """See `Replies.send`. Once refused, nothing is sent for a while: the server would report
        every single one.
        """
        nc = self._nc
        if not nc.is_connected or nc.pending_data_size > _MOST_UNSENT:
            return False
        if any(denials(nc).of(inbox) for inbox in self._inboxes):
            return False
        parts = [b"PUB %s %d\r\n%s\r\n" % (at, len(body), body) for at, body in answers]
        send(nc, b"".join(parts))
        return True

    def _address(self, header: bytes) -> bytes | None:
        """The subject that is named, if answers may go there."""
        found = _named(header)
        if found is None or not found[1].startswith(self._prefixes):
            return None
        return found[1] if _literal(found[1]) else None


def _headers(messages: Sequence[Message]) -> Sequence[bytes | None]:
    if isinstance(messages, JetStreamMessages):
        return messages.headers
    return [getattr(one, "header", None) for one in messages]
