"""Rows against the events of their histories: nothing is found where nothing is wrong, and whatever
an event said is missed.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.worker.migrate import up
from penstock.worker.pipeline.commit import Committer
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.postgres.against_history import contradictions
from penstock.worker.postgres.pool import open_pool
from penstock.worker.postgres.sink import PostgresSink
from tests.conftest import fresh_database
from tests.support.batches import batch_of
from tests.support.generated import EventMaker

CATALOGUE = Catalogue.load(("shop_events",))
OF_LISTS = {"threads.value"}
"""Rows made of a list that its history has no column for."""

NOT_KEPT = {
    "shop.customer_order": {"external_id", "items", "status"},
    "agents.last_checkpoint": {
        "checkpoint_id",
        "name",
        "trigger",
        "snapshot",
        "kv_revision",
        "taken_at",
    },
    "identity.api_key": {"last_used"},
}
"""A typed history has neither names, nor documents, nor the sequences that decide; uses of a key
have none.
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pool(postgres_address: str) -> AsyncIterator[asyncpg.Pool]:
    """A database in which events of every type have been stored."""
    async with fresh_database(postgres_address) as dsn:
        await up(dsn, packages=("shop_events",))
        made = await open_pool(dsn, size=4, statement_timeout=60, lock_timeout=60, name="test")
        async with made:
            await store(made)
            yield made


async def store(pool: asyncpg.Pool) -> None:
    maker = EventMaker(random.Random(11), ["a-1", "a-2", "a-3"], 600)
    kinds = list(CATALOGUE.types.values())
    messages = [maker.message(kind, n) for n, kind in enumerate(kinds * 12)]
    decoder = Decoder(CATALOGUE, Window(CATALOGUE, {}, past="unlimited"), max_bytes=1 << 20)
    outcomes = decoder.decode(messages)
    assert all(isinstance(found, Event) for found in outcomes)
    sink = PostgresSink(pool, CATALOGUE, worker_id="test")
    await sink.prepare()
    committer = Committer(sink, name="test", retry_for=5, stopping=asyncio.Event())
    for begin in range(0, len(messages), 97):
        part = slice(begin, begin + 97)
        await committer.commit(batch_of(messages[part], outcomes[part]))


async def found_in(
    connection: Any, table: str, since: datetime | None = None
) -> list[tuple[str, ...] | None]:
    found = [one async for one in contradictions(connection, CATALOGUE, table, since)]
    return [one.columns for one in found]


async def test_nothing_is_found_where_nothing_is_wrong(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        for table in CATALOGUE.keys:
            assert await connection.fetchval(f"SELECT count(*) FROM {table}")
            assert await found_in(connection, table) == [], table


@pytest.mark.faults
async def test_what_events_said_is_missed_column_by_column(pool: asyncpg.Pool) -> None:
    missed = 0
    async with pool.acquire() as connection:
        for table, columns in said().items():
            for column in columns - NOT_KEPT.get(table, set()):
                transaction = connection.transaction()
                await transaction.start()
                changed = await connection.execute(
                    f'UPDATE {table} SET "{column}" = NULL WHERE "{column}" IS NOT NULL'
                )
                found = await found_in(connection, table)
                await transaction.rollback()
                if changed != "UPDATE 0":
                    assert any(column in named for named in found if named), (table, column)
                    missed += 1
    assert missed > 60


async def test_a_row_that_is_gone_is_missed(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        for table in said():
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute(f"DELETE FROM {table}")
            found = await found_in(connection, table)
            late = await found_in(connection, table, datetime.now(UTC) + timedelta(hours=1))
            await transaction.rollback()
            assert None in found, table
            assert late == [], table


def said() -> dict[str, set[str]]:
    """Every column that an event with a history decides, but for sums, by table."""
    columns: dict[str, set[str]] = {}
    for kind in CATALOGUE.types.values():
        for state in kind.states if kind.history else ():
            if state.table in OF_LISTS:
                continue
            stated = columns.setdefault(state.table, set())
            stated.update(*[group.columns for group, _ in state.groups if group.kind != "add"])
    return columns
