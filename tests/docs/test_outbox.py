"""The statements of the page about the outbox, one after the other, beside a worker."""

import asyncpg

from penstock.schemas.identity import entity_uuid
from tests.docs.pages import blocks
from tests.docs.sections import ROOT
from tests.support.outbox import NatsTap, waiting
from tests.support.running import running, settings_for
from tests.support.waiting import until

PAGE = ROOT / "docs" / "outbox.md"


async def test_what_the_page_inserts_is_published(nats_url: str, database: str) -> None:
    statements = blocks(PAGE, "sql")
    client = await asyncpg.connect(database)
    role = f"billing_{database.rpartition('_')[2]}"
    async with running(settings_for(nats_url, database, kv="false")):
        for statement in statements:
            await client.execute(statement.replace("billing", role))
        await until(lambda: _stored(client, "tasks.updated"))
        await client.execute(
            """
            INSERT INTO bus.outbox (type, key, data)
            VALUES ('tasks.updated', 't-1', '{"status": "failed", "assigned_to": "a-7"}')
            """
        )
        await until(lambda: _stored(client, "agents.activity"))
        assert await waiting(database) == 0
    await client.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    await client.close()
    told, *tasks = await NatsTap(nats_url).heard()
    assert (told.type, told.subject) == ("agents.activity", entity_uuid("agent", "a-7"))
    assert told.causationid == tasks[-1].id
    assert [event.subject for event in tasks] == ["t-1", "t-1"]


async def _stored(client: asyncpg.Connection, kind: str) -> bool:
    query = "SELECT count(*) FROM events.log WHERE event_type = $1"
    return bool(await client.fetchval(query, kind))
