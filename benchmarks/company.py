"""The rows that `benchmarks.queries` asks for: a company of agents after a quarter of a year.

They are made in the database itself. Everything follows from the number of a row, so a query can
name one without looking for it.
"""

import hashlib
from collections.abc import Callable, Mapping
from uuid import UUID

import asyncpg
import msgspec

DAYS = 90
SKILLS = 200
"""Capabilities that there are; each agent has three of them."""


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows there are of each kind."""

    agents: int
    tasks: int
    log_rows: int
    workflows: int
    executions: int
    notifications: int
    users: int


FULL = Size(
    agents=100_000,
    tasks=1_000_000,
    log_rows=10_000_000,
    workflows=20_000,
    executions=200_000,
    notifications=1_000_000,
    users=20_000,
)
"""What the sources of the data model speak of."""


def scaled(factor: float) -> Size:
    """So much of it, but no less than makes sense."""
    full: dict[str, int] = msgspec.to_builtins(FULL)
    return Size(**{name: max(SKILLS, round(count * factor)) for name, count in full.items()})


def id_of(name: str) -> UUID:
    """The key that the database made of a name."""
    return UUID(bytes=hashlib.sha256(name.encode()).digest()[:16])


_ID_OF = """
CREATE FUNCTION public.id_of(name text) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN encode(substring(sha256(convert_to(name, 'UTF8')) FROM 1 FOR 16), 'hex')::uuid
"""
_AGO = """
CREATE FUNCTION public.ago(share double precision) RETURNS timestamptz LANGUAGE sql STABLE
RETURN now() - share * interval '{days} days'
"""
_PERIODS = """
SELECT partitions.ensure_for(p.schema_name, p.table_name, day)
FROM partitions.policy AS p, generate_series(ago(1), now(), interval '7 days') AS day
WHERE (p.schema_name, p.table_name)
    IN (('events', 'log_tasks'), ('messages', 'message'), ('workflows', 'execution'))
"""
_FILLS: Mapping[str, str] = {
    "agents.agent": """
INSERT INTO agents.agent (agent_id, external_id, name, agent_type, status, configuration,
    registered_at, profile_version, profile_at, status_version, status_at)
SELECT id_of('agent-' || n), 'agent-' || n, 'Agent ' || n, 'worker',
    (ARRAY['idle', 'busy', 'offline'])[1 + n % 3], '{{"model": "m", "temperature": 0.2}}',
    ago(1), 1, ago(1), 1, now()
FROM generate_series(1, {agents}) AS n
""",
    "agents.capability": """
INSERT INTO agents.capability (agent_id, name, proficiency, enabled, version, version_at)
SELECT id_of('agent-' || n), 'skill-' || (n + k * 31) % {skills}, (n * 37 + k) % 1000 / 1000.0,
    true, 1, now()
FROM generate_series(1, {agents}) AS n, generate_series(0, 2) AS k
""",
    "tasks.task": """
INSERT INTO tasks.task (task_id, external_id, task_type, title, payload, created_at, status,
    priority, assigned_to, started_at, completed_at, quality_score, result, version, version_at)
SELECT id_of('task-' || n), 'task-' || n, 'type-' || n % 40, 'Task ' || n,
    jsonb_build_object('path', 'src/module_' || n % 5000, 'lines', n % 900), made.at,
    CASE n % 20 WHEN 0 THEN 'pending' WHEN 1 THEN 'running' ELSE 'completed' END, n / 20 % 10,
    CASE WHEN n % 20 > 0 THEN id_of('agent-' || 1 + n % {agents}) END, made.at,
    CASE WHEN n % 20 > 1 THEN made.at + interval '5 minutes' END, n % 100,
    CASE WHEN n % 20 > 1 THEN '{{"tests": 12, "ok": true}}'::jsonb END, 2, made.at
FROM generate_series(1, {tasks}) AS n, LATERAL (SELECT ago(n / {tasks}.0)) AS made (at)
""",
    "tasks.dependency": """
INSERT INTO tasks.dependency (task_id, depends_on, kind, version, version_at)
SELECT id_of('task-' || n), id_of('task-' || n - k), 'completion', 1, now()
FROM generate_series(20, {tasks}, 20) AS n, generate_series(1, 3) AS k
""",
    "events.log": """
INSERT INTO events.log (domain, event_id, occurred_at, event_type, entity_id, version, source, data)
SELECT 'tasks', lpad(to_hex(n), 32, '0')::uuid, ago(1 - n / {log_rows}.0),
    CASE WHEN n <= {tasks} THEN 'tasks.created' ELSE 'tasks.updated' END,
    'task-' || 1 + n % {tasks}, 1 + n / {tasks}, '/agents/a',
    jsonb_build_object('status', 'running', 'retry_count', n % 3)
FROM generate_series(1, {log_rows}) AS n
""",
    "workflows.workflow": """
INSERT INTO workflows.workflow (workflow_id, external_id, name, kind, definition, status,
    def_version, version, version_at)
SELECT id_of('workflow-' || n), 'workflow-' || n, 'Workflow ' || n, 'review', made.definition,
    (ARRAY['draft', 'active', 'archived'])[1 + n % 3], 1, 1, now()
FROM generate_series(1, {workflows}) AS n, (
    SELECT jsonb_agg(jsonb_build_object('step', k, 'needs', k - 1))
    FROM generate_series(1, 20) AS k
) AS made (definition)
""",
    "workflows.execution": """
INSERT INTO workflows.execution (execution_id, started_at, workflow_id, agent_id, number, status,
    version, version_at)
SELECT id_of('execution-' || n), ago(n / {executions}.0), id_of('workflow-' || 1 + n % {workflows}),
    id_of('agent-' || 1 + n % {agents}), n / {workflows}, 'completed', 1, now()
FROM generate_series(1, {executions}) AS n
""",
    "messages.message": """
INSERT INTO messages.message (message_id, sent_at, recipient, to_kind, to_id, from_id, kind,
    subject, payload, status, read_at, version, version_at)
SELECT id_of('message-' || n), made.at, 'user-' || 1 + n % {users}, 'user',
    'user-' || 1 + n % {users}, 'agent-' || 1 + n % {agents}, 'notification',
    'Task ' || n || ' is done', jsonb_build_object('task', 'task-' || n), 'delivered',
    CASE WHEN n / {users} % 4 > 0 THEN now() END, 1, made.at
FROM generate_series(1, {notifications}) AS n,
    LATERAL (SELECT ago(n / {notifications}.0)) AS made (at)
""",
    "merit.leaderboard": """
INSERT INTO merit.leaderboard (category, period, period_start, agent_id, score, rank, computed_at)
SELECT c.category, 'weekly',
    date_trunc('week', now() AT TIME ZONE 'UTC')::date - 7 * week,
    id_of('agent-' || n), {agents} - n, n, now()
FROM unnest(ARRAY['overall', 'tasks', 'quality', 'elo', 'trust']) AS c (category),
    generate_series(0, 3) AS week, generate_series(1, {agents}) AS n
""",
}


async def fill(dsn: str, size: Size, say: Callable[[str], None]) -> None:
    """Make all rows, as a superuser, and have the planner know them."""
    counts = {**msgspec.to_builtins(size), "skills": SKILLS, "days": DAYS}
    connection = await asyncpg.connect(dsn)
    for query in (_ID_OF, _AGO.format(**counts), _PERIODS):
        await connection.execute(query)
    # What triggers keep, the statistics of agents, nobody asks for here.
    await connection.execute("SET session_replication_role = replica")
    for table, query in _FILLS.items():
        say(f"queries: filling {table}")
        await connection.execute(query.format(**counts))
    say("queries: VACUUM ANALYZE")
    await connection.execute(f"VACUUM ANALYZE {', '.join(_FILLS)}")
    await connection.close()
