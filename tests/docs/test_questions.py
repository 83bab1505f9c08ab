"""Every question of an analyst has rows to answer it, in a database that the seed has filled."""

from collections.abc import AsyncIterator

import asyncpg
import msgspec
import pytest_asyncio

from penstock.worker.commands.seed import Seeded
from penstock.worker.settings.keys import Settings
from tests.docs.pages import blocks
from tests.docs.sections import ROOT
from tests.support.commands import said_outside
from tests.support.running import running, settings_for
from tests.support.waiting import until

QUESTIONS = ROOT / "docs" / "questions.md"

STORED = """
SELECT coalesce(sum(upper(r) - lower(r)), 0) - (SELECT count(*) FROM bus.outbox)
FROM bus.position, unnest(seqs) AS r
"""
WAITING = """
SELECT (SELECT count(*) FROM bus.due) + (SELECT count(waiting_id) FROM bus.outbox)
"""


async def seed(settings: Settings) -> Seeded:
    return msgspec.convert(await said_outside(settings, "seed"), Seeded)


@pytest_asyncio.fixture
async def seeded(nats_url: str, database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database that holds the company, and all that follows from it."""
    connection = await asyncpg.connect(database)
    settings = settings_for(nats_url, database)

    async def stored() -> bool:
        waiting = await connection.fetchval(WAITING)
        return bool(waiting == 0 and await connection.fetchval(STORED) >= told.events)

    async with running(settings):
        told = await seed(settings)
        assert told.published == told.events
        await until(stored)
    # Its own look was before anything was told.
    await said_outside(settings, "derive", "alerts", "--key", "disk_usage_percent")
    yield connection
    await connection.close()


async def test_every_question_has_an_answer(
    seeded: asyncpg.Connection, nats_url: str, database: str
) -> None:
    assert await seeded.fetchval("SELECT count(*) FROM bus.dead_letter") == 0
    statements = blocks(QUESTIONS, "sql")
    assert len(statements) >= 20
    silent = [statement for statement in statements if not await answered(seeded, statement)]
    assert silent == [], "no rows: " + "\n".join(silent)
    again = await seed(settings_for(nats_url, database))
    assert again.duplicates == again.events  # the streams know them all


async def answered(connection: asyncpg.Connection, statement: str) -> int:
    try:
        return len(await connection.fetch(statement))
    except asyncpg.PostgresError as error:
        error.add_note(statement)
        raise
