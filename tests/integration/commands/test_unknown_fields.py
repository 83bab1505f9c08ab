"""The doctor names fields that events have beside those of their types."""

import asyncpg

from penstock.worker.postgres.unknown_fields import unknown_fields
from tests.support.running import settings_for

_INSERT = """
INSERT INTO events.log (domain, event_id, occurred_at, event_type, entity_id, version, source, data)
SELECT 'tasks', gen_random_uuid(), now(), 'tasks.updated', 't-1', 0, '/a', $1::jsonb
"""


async def test_an_unknown_field_is_named_with_the_one_that_was_meant(
    nats_address: str, database: str
) -> None:
    settings = settings_for(nats_address, database)
    assert [finding async for finding in unknown_fields(settings)] == []
    connection = await asyncpg.connect(database)
    await connection.execute("SELECT partitions.maintain()")
    for data in ('{"status": "running"}', '{"assignedTo": "a-1", "task_id": "t-1"}'):
        await connection.execute(_INSERT, data)
    await connection.close()
    [finding] = [finding async for finding in unknown_fields(settings)]
    assert "tasks.updated comes with fields that it does not have: assignedTo" in finding.text
    assert "assigned_to" in finding.remedy
