"""An agent's record equals the sums over its tasks, whatever happened to them."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

AGENTS = [UUID(int=n) for n in range(1, 4)]
START = datetime(2026, 1, 1, tzinfo=UTC)

_UPSERT = """
INSERT INTO tasks.task AS t
    (task_id, assigned_to, status, quality_score, started_at, completed_at, title)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::float8[], $5::timestamptz[],
                     $6::timestamptz[], $7::text[])
ON CONFLICT (task_id) DO UPDATE SET assigned_to = excluded.assigned_to,
    status = excluded.status, quality_score = excluded.quality_score,
    started_at = excluded.started_at, completed_at = excluded.completed_at, title = excluded.title
"""
_KEPT = """
SELECT agent_id, tasks_completed, tasks_failed, tasks_cancelled, quality_sum, quality_n,
       duration_sum_ms, duration_n
FROM agents.stats ORDER BY agent_id
"""
_RECOUNTED = """
SELECT assigned_to, count(*) FILTER (WHERE status = 'completed'),
       count(*) FILTER (WHERE status = 'failed'), count(*) FILTER (WHERE status = 'cancelled'),
       coalesce(sum(quality_score::numeric) FILTER (WHERE status = 'completed'), 0),
       count(quality_score) FILTER (WHERE status = 'completed'),
       coalesce(sum(round(extract(epoch FROM completed_at - started_at) * 1000))
                FILTER (WHERE status = 'completed'), 0),
       count(completed_at - started_at) FILTER (WHERE status = 'completed')
FROM tasks.task
WHERE assigned_to IS NOT NULL AND status IN ('completed', 'failed', 'cancelled')
GROUP BY assigned_to ORDER BY assigned_to
"""


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    found = await asyncpg.connect(database)
    await found.executemany(
        "INSERT INTO agents.agent (agent_id) VALUES ($1)", [(a,) for a in AGENTS]
    )
    yield found
    await found.close()


async def write(connection: asyncpg.Connection | asyncpg.Pool, *tasks: tuple[Any, ...]) -> None:
    """Upsert (number, agent, status, quality, minutes, title), as one batch does."""
    columns = zip(
        *(
            (
                UUID(int=number % 2**64),
                agent,
                status,
                quality,
                START,
                None if minutes is None else START + timedelta(minutes=minutes),
                title,
            )
            for number, agent, status, quality, minutes, title in tasks
        ),
        strict=True,
    )
    await connection.execute(_UPSERT, *map(list, columns))


async def kept(connection: asyncpg.Connection | asyncpg.Pool) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await connection.fetch(_KEPT)]


async def test_finished_reopened_given_away_and_finished_again(
    connection: asyncpg.Connection,
) -> None:
    ann, bob, _ = AGENTS
    await write(connection, (1, ann, "running", None, None, ""))
    assert await kept(connection) == []
    await write(connection, (1, ann, "completed", 80.0, 1, ""), (2, ann, "failed", None, 1, ""))
    assert await kept(connection) == [(ann, 1, 1, 0, 80, 1, 60_000, 1)]
    await write(connection, (1, ann, "running", None, None, ""))
    assert await kept(connection) == [(ann, 0, 1, 0, 0, 0, 0, 0)]
    await write(connection, (1, bob, "completed", 55.5, 2, ""), (2, ann, "pending", None, None, ""))
    assert [row[:3] for row in await kept(connection)] == [(bob, 1, 0)]


async def test_changes_that_count_for_nothing_do_not_touch_the_record(
    connection: asyncpg.Connection,
) -> None:
    await write(connection, (1, AGENTS[0], "completed", 80.0, 1, "before"))
    where = "SELECT ctid::text FROM agents.stats"
    before = await connection.fetchval(where)
    await write(connection, (1, AGENTS[0], "completed", 80.0, 1, "after"))
    assert await connection.fetchval(where) == before


async def test_any_history_ends_at_the_recount(connection: asyncpg.Connection) -> None:
    rng = random.Random(7)
    statuses = ["pending", "running", "completed", "failed", "cancelled"]
    for _ in range(40):
        numbers = sorted(rng.sample(range(30), rng.randint(1, 20)))
        await write(
            connection,
            *(
                (
                    number,
                    rng.choice([*AGENTS, None]),
                    rng.choice(statuses),
                    rng.choice([None, 0.1, 33.3, 99.9]),
                    rng.choice([None, 0.1, 7]),
                    "",
                )
                for number in numbers
            ),
        )
        assert await kept(connection) == [tuple(r) for r in await connection.fetch(_RECOUNTED)]
    await connection.execute("DELETE FROM tasks.task")
    assert await kept(connection) == []


async def test_two_batches_never_wait_for_each_other_in_a_circle(database: str) -> None:
    """Each inserts some tasks and finishes others, of the same agents the other way round."""
    ann, bob, _ = AGENTS
    async with asyncpg.create_pool(database, min_size=2, max_size=2) as pool:
        await pool.executemany("INSERT INTO agents.agent VALUES ($1)", [(ann,), (bob,)])
        old = [(n, None, "running", None, None, "") for n in range(2)]
        await write(pool, *old)
        for n in range(10, 410):
            await asyncio.gather(
                write(pool, (0, ann, "completed", n, 1, ""), (n, bob, "failed", None, 1, "")),
                write(pool, (1, bob, "completed", n, 1, ""), (-n, ann, "failed", None, 1, "")),
            )
        assert [row[:3] for row in await kept(pool)] == [(ann, 1, 400), (bob, 1, 400)]
        assert await kept(pool) == [tuple(row) for row in await pool.fetch(_RECOUNTED)]


async def test_the_view_gives_ratios(connection: asyncpg.Connection) -> None:
    ann, bob, _ = AGENTS
    await write(
        connection,
        (1, ann, "completed", 90.0, 1, ""),
        (2, ann, "completed", None, 3, ""),
        (3, ann, "completed", 60.0, 2, ""),
        (4, ann, "failed", None, 9, ""),
    )
    ratios = "SELECT success_rate, avg_quality, avg_task_time_ms FROM agents.v_active"
    found = await connection.fetch(
        f"{ratios} WHERE agent_id = ANY ($1) ORDER BY agent_id", [ann, bob]
    )
    assert [tuple(row) for row in found] == [(0.75, 75.0, 120_000.0), (None, None, None)]
