"""Publishes a workload, and waits for all confirmations, before it is drained."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import aio_pika
import msgspec
import nats

from benchmarks.workloads import Made
from penstock.worker.nats.sender import NatsSender
from penstock.worker.rabbitmq.sender import RabbitSender
from penstock.worker.rabbitmq.topology import EXCHANGE

_AT_ONCE = 5_000


class Drained(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to drain. ``starts`` has the first offset in each stream.

    Of ``messages``, ``events`` different ones can be stored, and ``unreadable`` ones cannot be
    read.
    """

    messages: int
    events: int
    unreadable: int
    starts: dict[str, int]


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A published workload: as a whole, and its last part alone."""

    whole: Drained
    part: Drained


class _Ledger:
    """Counts the messages from number ``begin`` on."""

    def __init__(self, begin: int) -> None:
        self._begin = begin
        self._ids: set[str] = set()
        self._starts: dict[str, int] = {}
        self._messages = self._unreadable = 0

    def add(self, number: int, made: Made, sequence: int) -> None:
        if number < self._begin:
            return
        self._messages += 1
        self._starts.setdefault(made.stream, sequence)
        if made.event_id is None:
            self._unreadable += 1
        else:
            self._ids.add(made.event_id)

    def drained(self) -> Drained:
        return Drained(
            messages=self._messages,
            events=len(self._ids),
            unreadable=self._unreadable,
            starts=self._starts,
        )


async def store(url: str, made: Iterator[Made], count: int, part: int) -> Stored:
    """Publish ``count`` messages to JetStream; the last ``part`` are counted separately as well."""
    whole, rest = _Ledger(0), _Ledger(count - part)
    async with await nats.connect(url) as client:
        sender = NatsSender(client, max_pending=_AT_ONCE, max_pending_bytes=32 << 20)
        await sender.open()
        sequences: Counter[str] = Counter()
        await _send_all(sender, _counted(made, sequences, whole, rest))
        await sender.close()
    return Stored(whole=whole.drained(), part=rest.drained())


def _counted(made: Iterator[Made], sequences: Counter[str], *ledgers: _Ledger) -> Iterator[Made]:
    for number, one in enumerate(made):
        sequences[one.stream] += 1
        for ledger in ledgers:
            ledger.add(number, one, sequences[one.stream])
        yield one


async def store_on_rabbitmq(url: str, made: Iterator[Made]) -> None:
    """Publish to the exchange; every bound queue gets all messages."""
    connection = await aio_pika.connect_robust(url)
    async with connection:
        assert isinstance(connection, aio_pika.RobustConnection)
        sender = RabbitSender(connection, exchange=EXCHANGE)
        await sender.open()
        await _send_all(sender, made)
        await sender.close()


async def _send_all(sender: Any, made: Iterator[Made]) -> None:
    """Give every message its own id, so that the broker stores repeated events too."""
    number = 0
    while chunk := list(islice(made, _AT_ONCE)):
        waiting = []
        for one in chunk:
            number += 1
            waiting.append(await sender.send(one.subject, one.body, f"n{number}"))
        await asyncio.gather(*waiting)
