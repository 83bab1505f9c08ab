"""The rights that a worker's user needs on NATS, found out by publishing to each subject something
that its receiver refuses or ignores.

The server says which of them it did not let through before it answers the ping behind them.
"""

import time
from collections.abc import Iterable, Sequence

import msgspec
from nats.aio.client import Client

from penstock.worker.finding import Finding, Verdict
from penstock.worker.nats.permissions import denials
from penstock.worker.sending.reads import SUBJECT as READS

_ANSWER_SECONDS = 5
_NOT_JSON = b"{"
"""A request that JetStream refuses before it does anything."""

_NO_STREAM = {"Nats-Expected-Stream": "-"}
"""No stream is called so: the message is not stored."""


class Subject(msgspec.Struct, frozen=True):
    """Where something harmless is published, and the permission that allows the like of it."""

    name: str
    permission: str
    body: bytes = b""
    headers: dict[str, str] | None = None


def of_stream(stream: str, durable: str) -> Sequence[Subject]:
    """What reading a stream needs: to look, to fetch, and to acknowledge."""
    path = f"{stream}.{durable}"
    return [
        _same(f"$JS.API.STREAM.INFO.{stream}"),
        _same(f"$JS.API.CONSUMER.INFO.{path}"),
        _same(f"$JS.API.CONSUMER.MSG.NEXT.{path}", _NOT_JSON),
        # That work goes on with a message that the consumer never gave out.
        Subject(f"$JS.ACK.{path}.1.0.0.0.0", f"$JS.ACK.{path}.>", b"+WPI"),
    ]


def of_bucket(bucket: str) -> Sequence[Subject]:
    """What mirroring needs: to look, to read keys, and to write them."""
    stream = f"KV_{bucket}"
    read = f"$JS.API.DIRECT.GET.{stream}"
    return [
        _same(f"$JS.API.STREAM.INFO.{stream}"),
        _same(read, _NOT_JSON),
        Subject(f"{read}.$KV.{bucket}.-", f"{read}.>"),
        Subject(f"$KV.{bucket}.-", f"$KV.{bucket}.>", b"", _NO_STREAM),
    ]


def of_receipts(inboxes: Iterable[str]) -> Sequence[Subject]:
    """What answering publishers needs; nobody listens to the inbox that is tried."""
    return [Subject(f"{inbox}.penstock-doctor", f"{inbox}.>") for inbox in inboxes]


def of_outbox(types: Iterable[str]) -> Sequence[Subject]:
    """What sending events of these types needs."""
    found = []
    for name in types:
        domain, verb = name.split(".")
        subject, permission = f"{domain}.penstock-doctor.{verb}", f"{domain}.*.{verb}"
        found.append(Subject(subject, permission, b"", _NO_STREAM))
    return found


def of_reads() -> Sequence[str]:
    """What answering reads needs to hear: the requests, and who asks for services."""
    return [f"{READS}.>", "$SRV.>"]


async def findings(
    nc: Client, what: str, subjects: Iterable[Subject], heard: Sequence[str] = ()
) -> list[Finding]:
    """One for each right that is missing, else that all for ``what`` are there.

    Raises the client's errors.
    """
    begun = time.monotonic()
    tried = list(subjects)
    inbox = nc.new_inbox()
    listening = [await nc.subscribe(subject) for subject in (inbox, *heard)]
    for subject in tried:
        await nc.publish(subject.name, subject.body, headers=subject.headers)
    for _ in range(2):  # nats-py's ping may overtake what was published before it
        await nc.flush(_ANSWER_SECONDS)
    for subscription in listening:
        await subscription.unsubscribe()
    known = denials(nc)
    found = [
        _missing("publish", subject.permission)
        for subject in tried
        if known.refused(subject.name, begun)
    ]
    if known.refused(inbox, begun):
        found.append(_missing("subscribe", f"{inbox.partition('.')[0]}.>"))
    found += [_missing("subscribe", one) for one in heard if known.refused(one, begun)]
    return found or [Finding(Verdict.GOOD, f"NATS: every right that {what} needs")]


def _missing(verb: str, permission: str) -> Finding:
    text = f"NATS: no right to {verb} to {permission}"
    return Finding(
        Verdict.BAD, text, f'add "{permission}" to what the user may {verb}: deploy/nats/users.conf'
    )


def _same(name: str, body: bytes = b"") -> Subject:
    return Subject(name, name, body)
