"""Dead letters on their way back, with the headers that they came with."""

import re
from collections.abc import Iterator, Mapping, Sequence

import nats.errors
from nats.aio.client import Client

from penstock.worker.brokers.ports import Copy
from penstock.worker.errors import PenstockError, SourceUnavailable
from penstock.worker.nats.message import LETTER_HEADER
from penstock.worker.nats.requests import BATCH_LIMIT, Ack, Inbox, Request, ack_of, unfit
from penstock.worker.nats.wire import Frame
from penstock.worker.sending.outgoing import PublishFailed, PublishRefused
from penstock.worker.wording import why

_PATIENCE_SECONDS = 5.0
_OURS = (b"nats-", LETTER_HEADER.lower().encode())
"""Beginnings of headers that tell the server what to do (the message id, what it expects of the
stream, batches), and the mark of an earlier requeue."""

_unfit_subject = re.compile(r"[ \t\r\n\0]|^$").search
_unfit_header = re.compile(r"[\r\n]").search


async def resend(nc: Client, copies: Sequence[Copy]) -> list[PenstockError | None]:
    """See `Broker.resend`."""
    outcomes: list[PenstockError | None] = [_misfit(nc, copy) for copy in copies]
    sent = [index for index, outcome in enumerate(outcomes) if outcome is None]
    inbox = Inbox(nc, _PATIENCE_SECONDS)
    try:
        for first in range(0, len(sent), BATCH_LIMIT):
            part = sent[first : first + BATCH_LIMIT]
            answers = dict(await inbox.ask([_request(copies[index]) for index in part]))
            for number, index in enumerate(part):
                outcomes[index] = _outcome(copies[index], answers.get(number))
    except (nats.errors.Error, OSError) as error:
        raise SourceUnavailable(f"NATS: {why(error)}") from error
    finally:
        await inbox.close()
    return outcomes


def headers_with(block: bytes, changes: Mapping[str, str]) -> bytes:
    """See `Broker.headers_with`. Names in any case; a value goes to the first line of its name."""
    for name, text in changes.items():
        if _unfit_header(name + text) or ":" in name or not name:
            raise PublishRefused(f"header {name!r}: {text!r} cannot be sent on NATS")
    named = {name.lower().encode() for name in changes}
    kept = [line for line in _lines(block) if _name(line) not in named]
    added = [f"{name}: {text}".encode() for name, text in changes.items() if text]
    lines = [*kept, *added]
    return b"\r\n".join([b"NATS/1.0", *lines, b"", b""]) if lines else b""


def _lines(block: bytes) -> Iterator[bytes]:
    return (line for line in block.split(b"\r\n")[1:] if line)


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0].strip().lower()


def _misfit(nc: Client, copy: Copy) -> PublishRefused | None:
    """What the server would close the connection for."""
    if _unfit_subject(copy.subject):
        return PublishRefused(f"{copy.subject!r} is no subject of NATS: give another with --to")
    reason = unfit(nc, copy.subject, len(copy.body) + len(copy.headers))
    return PublishRefused(f"{copy.subject!r} cannot be sent: {reason}") if reason else None


def _request(copy: Copy) -> Request:
    kept = [line for line in _lines(copy.headers) if not _name(line).startswith(_OURS)]
    given = [f"Nats-Msg-Id: {copy.requeue_id}", f"{LETTER_HEADER}: {copy.requeue_id}"]
    lines = [*given, *(line.decode("utf-8", "surrogateescape") for line in kept)]
    return copy.subject, "".join(f"{line}\r\n" for line in lines), copy.body


def _outcome(copy: Copy, answer: Frame | None) -> PenstockError | None:
    if answer is None:
        text = "NATS does not answer, or this user may not publish there"
        return PublishFailed(f"{copy.subject!r} was not confirmed: {text}")
    reply: Ack = ack_of(answer)
    if reply.error is None:
        return None
    if reply.error.code == 503 and not reply.error.err_code:  # noqa: PLR2004  (no responders)
        return PublishRefused(f"no stream takes {copy.subject!r}: give another with --to")
    text = f"stream {reply.stream or '?'} refuses it: {reply.error.description}"
    return PublishRefused(f"{copy.subject!r}: {text} ({reply.error.err_code})")
