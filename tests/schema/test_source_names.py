"""The names of the source documents, over the tables that do their work now."""

import asyncpg

from tests.docs.places import lines
from tests.docs.sources import LIST, view_of
from tests.support.roles import READER, logged_in

SECRET = {"compat.user_credentials", "compat.mfa_devices", "compat.oauth_tokens"}
ELSEWHERE = {"partitions.life"}
"""What is no table of rows, but tells of them."""


RELATIONS = """
SELECT n.nspname || '.' || c.relname FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition
"""


async def test_every_name_can_be_asked_with_the_rights_of_who_asks(
    connection: asyncpg.Connection, database: str
) -> None:
    relations = {name for (name,) in await connection.fetch(RELATIONS)}
    views = {name for name in relations if name.startswith("compat.")}
    places = [(line.head.split(" ")[1:], line.places[0]) for line in lines(LIST)]
    assert views == {
        view_of(name)
        for (kind, name), place in places
        if kind != "function" and place in relations and place not in ELSEWHERE
    }, "a migration gives it its name, or takes it away"
    reader = await asyncpg.connect(logged_in(database, READER))
    refused = set()
    for view in sorted(views):
        try:
            await reader.fetch(f"SELECT * FROM {view} LIMIT 1")
        except asyncpg.InsufficientPrivilegeError:
            refused.add(view)
        except asyncpg.ObjectNotInPrerequisiteStateError:
            assert view == "compat.slow_queries", "it needs an extension"
    await reader.execute("SET search_path = compat")
    old = "SELECT id, type, assigned_agent_id FROM tasks WHERE status = 'running' ORDER BY priority"
    assert await reader.fetch(old) == []
    await reader.close()
    assert refused == SECRET


async def test_a_name_shows_what_its_document_meant_by_it(connection: asyncpg.Connection) -> None:
    await connection.execute(
        "INSERT INTO agents.agent (agent_id, agent_type, is_stub) VALUES"
        " (gen_random_uuid(), 'coder', false), (gen_random_uuid(), NULL, true);"
        "INSERT INTO tasks.task (task_id, task_type) VALUES"
        " (gen_random_uuid(), 'job'), (gen_random_uuid(), 'review');"
        "INSERT INTO messages.message (message_id, sent_at, recipient, to_kind)"
        " SELECT gen_random_uuid(), now(), k, k FROM unnest(ARRAY['user', 'webhook', 'agent']) AS k"
    )
    counts = {
        "agents WHERE type = 'coder'": 1,
        "agents": 1,
        "tasks": 2,
        "background_jobs": 1,
        "notifications": 1,
        "webhook_deliveries": 1,
        "agent_messages": 3,
    }
    for name, expected in counts.items():
        assert await connection.fetchval(f"SELECT count(*) FROM compat.{name}") == expected, name
