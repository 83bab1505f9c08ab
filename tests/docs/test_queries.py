"""The queries of the pages, on a database in which every kind of dead letter lies."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest_asyncio

from tests.docs.pages import blocks
from tests.docs.sections import ROOT
from tests.support.carriers import Nats, Sent
from tests.support.running import running, settings_for
from tests.support.waiting import until

OPERATIONS = ROOT / "docs" / "operations.md"


def task(**changed: Any) -> dict[str, Any]:
    event = {
        "specversion": "1.0",
        "id": str(uuid4()),
        "source": "/tests",
        "type": "tasks.updated",
        "subject": "t-1",
        "time": datetime.now(UTC).isoformat(),
        "data": {"status": "running"},
    }
    return {**event, **changed}


def long_text(shift: int) -> bytes:
    """Invalid data whose 500th byte, for one of two shifts, is half a letter."""
    odd = {"status": 7, "error": "x" * shift + "ü" * 1000}
    return json.dumps(task(data=odd), ensure_ascii=False).encode()


PACKED = {"content-type": "application/cloudevents+msgpack"}


def bodies() -> Iterator[tuple[bytes, dict[str, str]]]:
    """One for each way in which a body can be no text, and two that are."""
    yield long_text(0), {}
    yield long_text(1), {}
    yield msgspec.msgpack.encode(task(data={"status": 7, "error": "\0"})), PACKED
    yield b'{"specversion": "\xff\xfe"}', {}
    yield b"", {}
    yield b"\0", {}
    yield json.dumps(task(time=None)).encode(), {}


@pytest_asyncio.fixture
async def letters(nats_url: str, database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database that holds one letter of each body."""
    connection = await asyncpg.connect(database)
    sent: list[Sent] = [("tasks.t-1.updated", *body) for body in bodies()]

    async def kept() -> bool:
        count = await connection.fetchval("SELECT count(*) FROM bus.dead_letter")
        return bool(count >= len(sent))

    async with running(settings_for(nats_url, database)):
        await Nats(nats_url).publish(sent)
        await until(kept)
    yield connection
    await connection.close()


async def test_every_query_runs_on_real_letters(letters: asyncpg.Connection) -> None:
    statements = blocks(OPERATIONS, "sql")
    assert len(statements) > 5
    for statement in statements:
        try:
            await letters.fetch(statement)
        except asyncpg.PostgresError as error:
            error.add_note(statement)
            raise
