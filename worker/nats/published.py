"""A message as a stream gets it, and a stream's refusal in words."""

from penstock.worker.nats.receipts import RECEIPT_HEADER
from penstock.worker.nats.requests import Ack, Refusal, Request
from penstock.worker.sending.outgoing import Outgoing, PublishRefused

STREAM_FULL = {10077, 10047, 10023}
"""Error codes of a stream that has no room."""


def malformed(subject: str, msg_id: str) -> str | None:
    """Why a server would not understand it; None if it would."""
    if not (subject.isascii() and subject.isprintable() and " " not in subject):
        return "a subject must be printable ASCII without spaces"
    if not (msg_id.isascii() and msg_id.isprintable()):
        return f"a Nats-Msg-Id must be printable ASCII, not {msg_id!r}"
    return None


def request_of(message: Outgoing) -> Request:
    """The message with its headers."""
    lines = f"Nats-Msg-Id: {message.msg_id}\r\n"
    if message.reply_to:
        lines += f"{RECEIPT_HEADER}: {message.reply_to}\r\n"
    return message.subject, lines, message.payload


def size_of(message: Outgoing) -> int:
    """What `unfit` asks for."""
    asked = len(RECEIPT_HEADER) + len(message.reply_to) if message.reply_to else 0
    return len(message.payload) + len(message.msg_id) + asked


def refusal(message: Outgoing, reply: Ack, error: Refusal) -> PublishRefused:
    """The error for whoever published it."""
    remedy = ": make room in it or raise its limits" if error.err_code in STREAM_FULL else ""
    return PublishRefused(
        f"stream {reply.stream or '?'} refuses {message.subject!r}, {len(message.payload)} bytes: "
        f"{error.description} ({error.err_code}){remedy}"
    )
