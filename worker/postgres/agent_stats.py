"""The statistics of agents against the tasks that they are about.

`tasks.apply_stats` (migration 6) adds what each statement changes; here the same is computed from
all tasks. Both must say the same of every agent.
"""

from collections.abc import Sequence

import asyncpg

from penstock.worker.postgres.pool import borrowed

_COUNTED = """
SELECT t.assigned_to AS agent_id,
       count(*) FILTER (WHERE t.status = 'completed') AS tasks_completed,
       count(*) FILTER (WHERE t.status = 'failed') AS tasks_failed,
       count(*) FILTER (WHERE t.status = 'cancelled') AS tasks_cancelled,
       coalesce(sum(t.quality_score::numeric) FILTER (WHERE t.status = 'completed'), 0)
           AS quality_sum,
       count(t.quality_score) FILTER (WHERE t.status = 'completed') AS quality_n,
       coalesce(sum(took.ms), 0) AS duration_sum_ms,
       count(took.ms) AS duration_n
FROM tasks.task AS t
CROSS JOIN LATERAL (
    SELECT CASE WHEN t.status = 'completed' AND t.completed_at - t.started_at IS NOT NULL THEN
        greatest(round(extract(epoch FROM t.completed_at - t.started_at) * 1000), 0)
    END AS ms
) AS took
WHERE t.assigned_to IS NOT NULL AND t.status IN ('completed', 'failed', 'cancelled')
{narrowed}
GROUP BY t.assigned_to
"""
_NUMBERS = (
    "tasks_completed",
    "tasks_failed",
    "tasks_cancelled",
    "quality_sum",
    "quality_n",
    "duration_sum_ms",
    "duration_n",
)
_HELD = ", ".join(f"s.{name}" for name in _NUMBERS)
_RIGHT = ", ".join(f"c.{name}" for name in _NUMBERS)
_WRONG = f"""
SELECT coalesce(s.agent_id, c.agent_id)::text
FROM agents.stats AS s
FULL JOIN ({_COUNTED.format(narrowed="")}) AS c ON c.agent_id = s.agent_id
WHERE ({_HELD}) IS DISTINCT FROM ({_RIGHT})
ORDER BY 1
"""
_THERE = """
INSERT INTO agents.stats (agent_id)
SELECT g.agent_id FROM unnest($1::uuid[]) AS g (agent_id) ORDER BY g.agent_id
ON CONFLICT (agent_id) DO NOTHING
"""
_LOCKED = """
SELECT FROM agents.stats AS s WHERE s.agent_id = ANY($1::uuid[]) ORDER BY s.agent_id FOR UPDATE
"""
_MEND = f"""
UPDATE agents.stats AS s
SET tasks_completed = coalesce(c.tasks_completed, 0),
    tasks_failed = coalesce(c.tasks_failed, 0),
    tasks_cancelled = coalesce(c.tasks_cancelled, 0),
    quality_sum = trim_scale(coalesce(c.quality_sum, 0)),
    quality_n = coalesce(c.quality_n, 0),
    duration_sum_ms = trim_scale(coalesce(c.duration_sum_ms, 0)),
    duration_n = coalesce(c.duration_n, 0),
    updated_at = now()
FROM unnest($1::uuid[]) AS g (agent_id)
LEFT JOIN ({_COUNTED.format(narrowed="AND t.assigned_to = ANY($1::uuid[])")}) AS c
    ON c.agent_id = g.agent_id
WHERE s.agent_id = g.agent_id
"""
_EMPTY = """
DELETE FROM agents.stats AS s
WHERE s.agent_id = ANY($1::uuid[]) AND s.tasks_completed + s.tasks_failed + s.tasks_cancelled = 0
"""
_AT_ONCE = 500


async def wrong(pool: asyncpg.Pool) -> Sequence[str]:
    """The agents whose statistics are not right, at one moment. Raises the driver's errors."""
    return [agent for (agent,) in await pool.fetch(_WRONG)]


async def mend(pool: asyncpg.Pool, agents: Sequence[str]) -> None:
    """Compute them again. Raises the driver's errors.

    Rows are locked before tasks are read. Whoever changes a task changes the row in the same
    transaction: it has committed before, and is counted, or waits, and adds to what is right.
    """
    for begin in range(0, len(agents), _AT_ONCE):
        some = agents[begin : begin + _AT_ONCE]
        async with borrowed(pool) as connection, connection.transaction():
            for statement in (_THERE, _LOCKED, _MEND, _EMPTY):
                await connection.execute(statement, some)
