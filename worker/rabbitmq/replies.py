"""Receipts on RabbitMQ: asked for by direct reply-to, with a correlation id.

https://www.rabbitmq.com/docs/direct-reply-to
"""

import re
from collections.abc import Iterator, Sequence

from penstock.worker.pipeline.ports import Message
from penstock.worker.pipeline.receipts import asking
from penstock.worker.rabbitmq.line import Answer, AnswerLine
from penstock.worker.rabbitmq.properties import (
    CONTENT_TYPE,
    CORRELATION_ID,
    MESSAGE_ID,
    REPLY_TO,
    cut,
    joined,
    short_text,
)

_PREFIX = b"amq.rabbitmq.reply-to."
_address = re.compile(
    re.escape(_PREFIX) + rb"[A-Za-z0-9+/=_-]{1,160}\.[A-Za-z0-9+/=_-]{1,60}"
).fullmatch
"""What the server makes of `amq.rabbitmq.reply-to`: its own process, and a secret."""

Asker = tuple[bytes, bytes]
"""The address, and the properties of an answer to it."""


class RabbitReplies:
    """Answers go to where the server itself said that they shall go, and nowhere else."""

    def __init__(self, line: AnswerLine) -> None:
        self._line = line

    def asked(self, messages: Sequence[Message]) -> Iterator[tuple[int, Asker]]:
        """See `Replies.asked`."""
        return asking([getattr(one, "header", b"") for one in messages], _PREFIX, asker)

    def send(self, answers: Sequence[tuple[Asker, bytes]]) -> bool:
        """See `Replies.send`."""
        return self._line.send([Answer(*asker, body) for asker, body in answers])


def asker(header: bytes) -> Asker | None:
    """Who asks, by the content header of a message; None if nobody does."""
    found, _ = cut(header)
    key = found.get(REPLY_TO, b"\0")[1:]
    if _address(key) is None:
        return None
    named = found.get(CORRELATION_ID) or found.get(MESSAGE_ID)
    properties = {CONTENT_TYPE: short_text("application/json")}
    if named is not None:
        properties[CORRELATION_ID] = named
    return key, joined(properties, ())
