"""Rows for the outbox, and what a broker then holds."""

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol, Self

import aio_pika
import asyncpg
import msgspec
import nats
import nats.errors
from nats.js.api import ConsumerConfig

from penstock.schemas.event import Envelope
from penstock.schemas.streams import STREAMS

_decode = msgspec.json.Decoder(Envelope).decode
_INSERT = """
INSERT INTO bus.outbox (type, key, data, sequence) VALUES ($1, $2, $3::jsonb, $4)
RETURNING event_id::text
"""


async def insert(
    connection: asyncpg.Connection,
    key: str,
    number: int,
    kind: str = "tasks.updated",
    data: Mapping[str, Any] | None = None,
) -> str:
    """One row; the id of its event. ``number`` is its sequence."""
    given = {"status": "running"} if data is None else data
    found: str = await connection.fetchval(_INSERT, kind, key, json.dumps(given), number)
    return found


class Tap(Protocol):
    """Sees what is published from the moment that it is opened."""

    async def heard(self) -> list[Envelope]:
        """All events so far, in the order in which the broker has them."""


class NatsTap:
    """What the streams hold."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return

    async def heard(self) -> list[Envelope]:
        async with await nats.connect(self._url) as nc:
            return [event for name in STREAMS for event in await _held(nc.jetstream(), name)]


async def _held(js: Any, stream: str) -> list[Envelope]:
    count = (await js.stream_info(stream)).state.messages
    found: list[Envelope] = []
    if count:
        config = ConsumerConfig(mem_storage=True, inactive_threshold=10)
        subscription = await js.pull_subscribe(">", stream=stream, config=config)
        while len(found) < count:
            for message in await subscription.fetch(500, timeout=5):
                found.append(_decode(message.data))
                await message.ack()
    return found


class RabbitTap:
    """A queue of its own, bound to everything."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stack = AsyncExitStack()
        self._heard: list[Envelope] = []

    async def __aenter__(self) -> Self:
        connection = await self._stack.enter_async_context(await aio_pika.connect(self._url))
        channel = await connection.channel()
        exchange = await channel.declare_exchange("events", "topic", durable=True)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, "#")
        await queue.consume(self._take, no_ack=True)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def _take(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        self._heard.append(_decode(message.body))

    async def heard(self) -> list[Envelope]:
        return list(self._heard)


def first_copies(events: Sequence[Envelope]) -> list[Envelope]:
    """Each event once, where it came first."""
    return list({event.id: event for event in reversed(events)}.values())[::-1]


def by_key(events: Sequence[Envelope]) -> dict[str, list[str]]:
    """The ids of events by the key, in order."""
    found: dict[str, list[str]] = {}
    for event in events:
        found.setdefault(event.subject, []).append(event.id)
    return found


class Written:
    """What some clients have committed and rolled back, each with keys of its own: of one key the
    transactions follow each other, so that its order is known.
    """

    def __init__(self) -> None:
        self.committed: dict[str, list[str]] = {}
        self.undone: set[str] = set()

    @property
    def count(self) -> int:
        return sum(map(len, self.committed.values()))

    async def write(self, dsn: str, client: int, rows: int, seed: int) -> None:
        """Insert ``rows`` rows in transactions of many sizes, a fifth of them rolled back."""
        rng = random.Random(seed + client)
        connection = await asyncpg.connect(dsn)
        keys = [f"{client}-{number}" for number in range(12)]
        left = rows
        while left:
            size = min(left, rng.choice([1, 3, 20, 100]))
            await self._transaction(connection, rng, rng.choices(keys, k=size))
            left -= size
            await asyncio.sleep(0)
        await connection.close()

    async def _transaction(
        self, connection: asyncpg.Connection, rng: random.Random, keys: Sequence[str]
    ) -> None:
        change = connection.transaction()
        await change.start()
        ids = [(key, await insert(connection, key, 0)) for key in keys]
        if rng.random() < 0.2:
            await change.rollback()
            self.undone.update(found for _, found in ids)
            return
        await change.commit()
        for key, found in ids:
            self.committed.setdefault(key, []).append(found)


async def waiting(dsn: str) -> int:
    """Rows that are neither published nor refused."""
    connection = await asyncpg.connect(dsn)
    try:
        query = "SELECT count(*) FROM bus.outbox WHERE coalesce(published_at, refused_at) IS NULL"
        found: int = await connection.fetchval(query)
        return found
    finally:
        await connection.close()
