"""A transaction is committed as a whole or not at all, and leaves its connection as it was."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest
from asyncpg.pool import PoolConnectionProxy

from penstock.worker.postgres.pool import open_pool
from penstock.worker.postgres.transaction import SAVEPOINT, literal, transaction, undo


@pytest.fixture
async def pool(postgres_dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """Of one connection, so that whoever comes next gets what was left."""
    found = await open_pool(postgres_dsn, size=1, statement_timeout=5, lock_timeout=5, name="test")
    async with found:
        await found.execute("CREATE TABLE kept (number int PRIMARY KEY)")
        yield found


async def swallow(connection: PoolConnectionProxy) -> None:
    async with transaction(connection, "INSERT INTO kept VALUES (1)"):
        with contextlib.suppress(asyncpg.UniqueViolationError):
            await connection.execute("INSERT INTO kept VALUES (1)")


async def kept(pool: asyncpg.Pool) -> list[int]:
    async with pool.acquire() as connection:
        assert not connection.is_in_transaction()
        return [row[0] for row in await connection.fetch("SELECT number FROM kept ORDER BY 1")]


async def test_what_came_with_begin_is_committed_with_the_rest(pool: asyncpg.Pool) -> None:
    async with (
        pool.acquire() as connection,
        transaction(connection, "INSERT INTO kept VALUES (1)", SAVEPOINT),
    ):
        await connection.execute("INSERT INTO kept VALUES (2)")
    assert await kept(pool) == [1, 2]


async def test_going_back_leaves_what_was_before_the_savepoint(pool: asyncpg.Pool) -> None:
    opening = ("INSERT INTO kept VALUES (1)", SAVEPOINT)
    async with pool.acquire() as connection, transaction(connection, *opening):
        with contextlib.suppress(asyncpg.UniqueViolationError):
            await connection.execute("INSERT INTO kept VALUES (2), (1)")
        await undo(connection)
        await connection.execute("INSERT INTO kept VALUES (3)")
    assert await kept(pool) == [1, 3]


@pytest.mark.parametrize("opening", ["INSERT INTO kept VALUES (1)", "INSERT INTO nowhere"])
async def test_after_an_error_nothing_is_there(pool: asyncpg.Pool, opening: str) -> None:
    async with pool.acquire() as connection:
        with pytest.raises(asyncpg.PostgresError):
            async with transaction(connection, opening):
                await connection.execute("INSERT INTO kept VALUES (2), (2)")
    assert await kept(pool) == []


async def test_a_failed_transaction_is_not_taken_for_a_commit(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        with pytest.raises(asyncpg.InFailedSQLTransactionError):
            await swallow(connection)
    assert await kept(pool) == []


async def test_cancelled_in_a_statement_it_is_rolled_back(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), transaction(connection, "INSERT INTO kept VALUES (1)"):
                await connection.execute("SELECT pg_sleep(60)")
    assert await kept(pool) == []


async def test_a_connection_that_was_lost_is_not_used_again(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        with pytest.raises(asyncpg.PostgresError):
            async with transaction(connection, "INSERT INTO kept VALUES (1)"):
                await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert await kept(pool) == []


@pytest.mark.parametrize("conforming", ["on", "off"])
@pytest.mark.parametrize("text", ["", "it's", "\\", "\\'; DROP TABLE kept; --", "{[1,4)}", "ü\n\t"])
async def test_a_literal_is_the_text(pool: asyncpg.Pool, text: str, conforming: str) -> None:
    async with pool.acquire() as connection:
        await connection.execute(f"SET standard_conforming_strings = {conforming}")
        assert await connection.fetchval(f"SELECT {literal(text)}") == text
