"""Hostile batches, decoded both ways, which must say the same of every message."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import msgspec
from msgspec import Raw

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.decode.careful import CarefulDecoder
from penstock.worker.pipeline.decode.moments import Span
from penstock.worker.pipeline.ports import DeadLetter, Message
from tests.support.encodings import forms
from tests.support.generated import EventMaker
from tests.support.mutations import TEXTS, mutants

_LIMIT = 1 << 16
_SIZES = (1, 2, 7, 63, 64, 65, 130, 500)
_IDS = (b'"id":"01JABC-%d"', b'"id":"0D6C5BD4-6C59-5C0E-9A2B-%012d"', b'"id":"%08d-0000\\n"')
_EXTRA = (
    b'" kind":1,', b'" raw":{},', b'" data":null,', b'"kind":"x",', b'"raw":1,',
    b'"note":"\\u0000",', b'"note":"\xff",', b'"note":1e99999,', b'"data":{},', b'"data":7,',
    b'"data_base64":"e30=",', b'"type":"agents.heartbeat",', b'"type":7,', b'"id":"first",',
    b'"\\u0069d":"other",', b'"specversion":"0.3",', b'"traceparent":7,',
    b'"datacontenttype":"text/plain",', b'"sequence":"%d",', b'"sequence":null,',
    b'"time":"2026-01-01T00:00:00Z",', b'"deep":%s,' % (b"[" * 900 + b"]" * 900),
)  # fmt: skip
_SUBJECTS = (
    "a",
    "a.b",
    "a.b.c.d",
    "",
    ".",
    "..",
    "agents.a-1.heartbeat\nagents.a-1.heartbeat",
    "\n.\n.\n",
)


@cache
def _now() -> datetime:
    return datetime.now(UTC)


class _Still(Window):
    """A window that does not move, so that both ways word it alike."""

    def bounds(self, now: datetime) -> dict[str, Span]:  # noqa: ARG002
        return super().bounds(_now())


class Tally(msgspec.Struct):
    """How many were alike in what; ``different`` describes the first few that were not."""

    alike: Counter[str] = msgspec.field(default_factory=Counter)
    fast: int = 0
    different: list[str] = []


def compare(catalogue: Catalogue, count: int, seed: int) -> Tally:
    """Decode ``count`` messages in batches of many sizes, both ways."""
    window = _Still(catalogue, {}, past="unlimited")
    fast = Decoder(catalogue, window, max_bytes=_LIMIT)
    careful = CarefulDecoder(catalogue, window, max_bytes=_LIMIT)
    tally = Tally()
    for batch in _batches(catalogue, count, seed):
        pairs = zip(batch, fast.decode(batch), careful.decode(batch), strict=True)
        for message, found, expected in pairs:
            tally.fast += isinstance(found, Event) and type(found) is not Event
            tally.alike[expected.reason if isinstance(expected, DeadLetter) else "event"] += 1
            if _meaning(found) != _meaning(expected) and len(tally.different) < 10:
                tally.different.append(f"{message} {found} {expected}"[:2000])
    return tally


def _meaning(one: Event | DeadLetter) -> Any:
    if isinstance(one, DeadLetter):
        return (
            id(one.message),
            one.reason,
            one.error,
            one.event_id,
            one.event_type,
            one.occurred_at,
        )
    stated = [getattr(one, name) for name in Event.__struct_fields__ if name not in {"data", "raw"}]
    return (*map(repr, stated), _cells(one.data), bytes(one.raw))


def _cells(data: Any) -> list[tuple[str, Any]]:
    cells = [(name, getattr(data, name)) for name in data.__struct_fields__]
    return [(name, bytes(cell) if isinstance(cell, Raw) else repr(cell)) for name, cell in cells]


def _batches(catalogue: Catalogue, count: int, seed: int) -> Iterator[Sequence[Message]]:
    rng = random.Random(seed)
    waiting = _messages(catalogue, rng, seed)
    while count > 0:
        size = min(count, rng.choice(_SIZES))
        count -= size
        batch = [next(waiting) for _ in range(size)]
        if rng.random() < 0.1:  # types that do not match their subjects
            subjects = [one.subject for one in batch]
            rng.shuffle(subjects)
            for message, subject in zip(batch, subjects, strict=True):
                message.subject = subject
        yield batch


def _messages(catalogue: Catalogue, rng: random.Random, seed: int) -> Iterator[Message]:
    """Runs of good ones of one type, runs of good ones of all types, and odd ones among them."""
    kinds = list(catalogue.types.values())
    maker = EventMaker(
        rng, ("a-1", "a-1", "a b", "ü.*", "2f9471cb-57cc-562e-8f8b-9e6aad260461"), 600
    )
    odd = mutants(catalogue, 1 << 62, seed)
    number = 0
    while True:
        share, chosen = rng.choice((0.0, 0.02, 0.5)), rng.choice((kinds, [rng.choice(kinds)]))
        for _ in range(rng.randrange(400)):
            number += 1
            if rng.random() >= share:
                yield maker.message(rng.choice(chosen), number)
            elif rng.random() < 0.5:
                mutant = next(odd)
                yield rng.choice(list(forms(mutant.subject, mutant.attributes, mutant.data)))[1]
            else:
                yield _twisted(rng, maker.message(rng.choice(chosen), number), number)


def _twisted(rng: random.Random, message: Message, number: int) -> Message:
    """With something before the other attributes, or after them, or in their place."""
    body, more = message.body, rng.choice(_EXTRA)
    more = more % number if b"%d" in more else more
    choice = rng.randrange(7)
    if choice == 0:
        body = b"{" + more + body[1:]
    elif choice == 1:
        body = body[:-1] + b"," + more[:-1] + b"}"
    elif choice == 2:
        start = body.index(b'"id":"')
        body = body[:start] + rng.choice(_IDS) % number + body[body.index(b",", start) :]
    elif choice == 3:
        body = body.replace(b'"a-1"', rng.choice(TEXTS))
    elif choice == 4:
        body = (
            rng.choice((b" ", b"\xef\xbb\xbf", b"\n", b"[")) + body + rng.choice((b"", b" ", b"x"))
        )
    elif choice == 5:
        message.subject = rng.choice(_SUBJECTS)
    else:
        body = body.replace(b',"data":', b',"dada":', 1)
    message.body = body
    return message
