"""Statistics over tasks: those that a trigger keeps, and those that are refreshed."""

from uuid import UUID

import asyncpg
import pytest

from penstock.schemas.identity import entity_uuid
from penstock.worker.postgres.jobs import PostgresJobs
from penstock.worker.postgres.pool import database as pool_of
from tests.support.roles import INGEST, READER, logged_in
from tests.support.running import settings_for

ANN, BOB, PROJECT = UUID(int=1), UUID(int=2), UUID(int=9)
STORE = """
INSERT INTO tasks.task
    (task_id, assigned_to, status, started_at, completed_at, quality_score, project_id, deleted_at)
SELECT gen_random_uuid(), t.*
FROM (VALUES
    ($1::uuid, 'completed', timestamptz '2026-01-31 23:00Z', timestamptz '2026-01-31 23:59:59.5Z',
     80::float8, $3::uuid, NULL::timestamptz),
    ($1, 'completed', NULL, '2026-02-01 00:00Z', 0.1, $3, NULL),
    ($1, 'completed', '2026-02-01 09:00Z', '2026-02-01 08:00Z', NULL, NULL, NULL),
    ($1, 'failed', '2026-02-01 09:00Z', '2026-02-01 10:00Z', 50, $3, NULL),
    ($1, 'cancelled', NULL, '2026-02-01 10:00Z', NULL, $3, now()),
    ($1, 'running', '2026-02-01 09:00Z', NULL, NULL, $3, NULL),
    ($2, 'failed', NULL, NULL, NULL, $3, NULL),
    (NULL, 'completed', NULL, '2026-02-01 10:00Z', NULL, NULL, NULL)
) AS t
"""
BY_DAY = """
SELECT agent_id, day::text, tasks_completed, tasks_failed, tasks_cancelled, success_rate,
       avg_quality, avg_task_time_ms
FROM agents.performance_daily ORDER BY agent_id, day
"""


async def store(connection: asyncpg.Connection) -> None:
    await connection.execute("INSERT INTO agents.agent (agent_id) VALUES ($1), ($2)", ANN, BOB)
    await connection.execute(STORE, ANN, BOB, PROJECT)


async def test_days_and_projects_are_refreshed_by_a_worker(
    connection: asyncpg.Connection, database: str
) -> None:
    """Which does not own them, nor may it refresh them itself. Days are of UTC in any session."""
    await connection.execute("SET TimeZone = 'Asia/Tokyo'")
    await store(connection)
    assert await connection.fetch(BY_DAY) == []
    settings = settings_for("nats://127.0.0.1:1", logged_in(database, INGEST))
    async with pool_of(settings) as pool:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute("REFRESH MATERIALIZED VIEW agents.performance_daily")
        jobs = PostgresJobs(pool, settings)
        assert "statistics" in await jobs.due()
        assert (await jobs.run("statistics") or {})["changed"] == 2
        refresh = "SELECT * FROM tasks.refresh_statistics($1)"
        assert await pool.fetch(refresh, None) == [], "nothing has changed"
        with pytest.raises(asyncpg.PostgresError, match=r"under public\.x; known are agents\.perf"):
            await pool.fetch(refresh, ["public.x"])
    assert [tuple(row) for row in await connection.fetch(BY_DAY)] == [
        (ANN, "2026-01-31", 1, 0, 0, 1, 80, 3_599_500),
        (ANN, "2026-02-01", 2, 1, 1, pytest.approx(2 / 3), 0.1, 0),
    ]
    reader = await asyncpg.connect(logged_in(database, READER))
    [project] = await reader.fetch("SELECT * FROM tasks.project_stats")
    await reader.close()
    assert (project["project_id"], project["tasks"]) == (PROJECT, 5), "one is deleted"
    assert (project["tasks_completed"], project["tasks_failed"]) == (2, 2)
    assert (project["success_rate"], project["avg_quality"]) == (0.5, pytest.approx(40.05))


async def test_a_refresh_that_is_undone_leaves_what_was(connection: asyncpg.Connection) -> None:
    """As with `penstock derive statistics --check`."""
    await store(connection)
    work = connection.transaction()
    await work.start()
    changed = await connection.fetch(
        "SELECT * FROM tasks.refresh_statistics('{tasks.project_stats}')"
    )
    await work.rollback()
    assert [name for (name,) in changed] == ["tasks.project_stats"]
    assert await connection.fetch("SELECT * FROM tasks.project_stats") == []


async def test_what_agents_achieved_is_counted_again(connection: asyncpg.Connection) -> None:
    """Of agents that are wrong, missing, nobody's, or as they should be."""
    await store(connection)
    right = (
        "SELECT (s - 'updated_at')::text FROM (SELECT to_jsonb(s) AS s FROM agents.stats AS s) q"
    )
    before = sorted(text for (text,) in await connection.fetch(right))
    assert len(before) == 2
    recount = "SELECT tasks.recount_stats($1)"
    assert await connection.fetch(recount, None) == []
    await connection.execute("UPDATE agents.stats SET quality_sum = 7, duration_n = 0")
    await connection.execute("DELETE FROM agents.stats WHERE agent_id = $1", BOB)
    await connection.execute("INSERT INTO agents.stats (agent_id) VALUES ($1)", PROJECT)
    assert len(await connection.fetch("SELECT tasks.wrong_stats()")) == 3
    assert await connection.fetch(recount, []) == []
    assert await connection.fetchval(recount, [ANN, ANN, None]) == ANN
    assert {agent for (agent,) in await connection.fetch(recount, None)} == {BOB, PROJECT}
    assert sorted(text for (text,) in await connection.fetch(right)) == before
    await connection.fetch(recount, [UUID(entity_uuid("agent", "unknown"))])
    assert sorted(text for (text,) in await connection.fetch(right)) == before
