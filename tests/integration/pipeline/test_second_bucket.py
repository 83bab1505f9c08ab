"""A package of a user's own fills a second bucket: one view, one line of its mapping."""

import asyncio
import json
from collections.abc import AsyncIterator

import asyncpg
import nats
import pytest
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from penstock.schemas.agents import AgentHeartbeat, AgentStateSet
from penstock.worker.commands import one_worker
from penstock.worker.commands.hydrate import hydrate
from penstock.worker.commands.provision import provision
from penstock.worker.errors import MigrationError
from penstock.worker.publisher import Publisher
from penstock.worker.settings.keys import Settings
from tests.support.chat_events import ChatSaved
from tests.support.mirror import bucket, expected_bucket
from tests.support.roles import migrated_by_its_owner
from tests.support.running import running, settings_for
from tests.support.waiting import until

PACKAGE = "tests.support.chat_events"


@pytest.fixture
async def settings(nats_url: str, database: str) -> Settings:
    await migrated_by_its_owner(database, [PACKAGE])
    return settings_for(nats_url, database, event_packages=PACKAGE, kv_bucket="RENAMED")


@pytest.fixture
async def stream(nats_url: str) -> AsyncIterator[JetStreamContext]:
    async with await nats.connect(nats_url) as client:
        yield client.jetstream()


async def held(stream: JetStreamContext, name: str) -> dict[str, object]:
    reader = await stream.key_value(name)
    found: dict[str, object] = {}
    for key in await reader.keys():
        found[key] = json.loads((await reader.get(key)).value or b"null")["val"]
    return found


async def test_each_row_goes_to_the_bucket_of_its_view(
    settings: Settings, stream: JetStreamContext
) -> None:
    await provision(settings, dry_run=False)
    async with Publisher(settings.nats_url, source="/tests") as bus:
        await bus.publish(ChatSaved(chat_id="s 1", data={"old": True}), sequence=1)
        await bus.publish(ChatSaved(chat_id="s 1", data={"step": 2}), sequence=2)
        await bus.publish(AgentHeartbeat(agent_id="a-1"))
        await bus.publish(AgentStateSet(agent_id="a-1", state_key="cursor", value=7), sequence=1)
    assert await one_worker.run(settings, until_idle=1.0) == 0

    chats = {"s=201": {"step": 2}}
    assert await held(stream, "CHAT_DATA") == chats
    agents = await expected_bucket(settings.postgres_dsn)
    assert len(agents) == 2
    assert await bucket(settings.nats_url, settings.kv_bucket) == agents

    await stream.delete_key_value("CHAT_DATA")
    assert await hydrate(settings, None) == 0
    assert await held(stream, "CHAT_DATA") == chats


async def test_a_worker_makes_again_the_one_bucket_that_is_missing(
    settings: Settings, stream: JetStreamContext
) -> None:
    await provision(settings, dry_run=False)
    async with Publisher(settings.nats_url, source="/tests") as bus:
        await bus.publish(ChatSaved(chat_id="s-1", data=1))
        assert await one_worker.run(settings, until_idle=1.0) == 0
        await stream.delete_key_value("CHAT_DATA")
        await asyncio.wait_for(_gone(stream, "CHAT_DATA"), 10)
        await bus.publish(ChatSaved(chat_id="s-2", data=2))
    assert await one_worker.run(settings, until_idle=1.0) == 0
    assert await held(stream, "CHAT_DATA") == {"s-1": 1, "s-2": 2}


UNSHOWABLE = """
CREATE OR REPLACE VIEW chats.kv_chat AS
SELECT 'CHAT_DATA'::text AS bucket, c.external_id AS key, true AS live,
       jsonb_build_array(c.version) AS guard,
       json_build_object('val', 6 / (c.data::text)::int, 'g', ARRAY[c.version])::text AS value,
       c.chat_id
FROM chats.chat AS c
"""


async def test_a_key_that_cannot_be_shown_costs_nobody_else_anything(
    settings: Settings, stream: JetStreamContext, database: str
) -> None:
    await provision(settings, dry_run=False)
    connection = await asyncpg.connect(database)
    await connection.execute(UNSHOWABLE)
    async with Publisher(settings.nats_url, source="/tests") as bus:
        await asyncio.gather(
            *(bus.publish(ChatSaved(chat_id=f"s-{n}", data=n), sequence=1) for n in range(4))
        )
    async with running(settings) as worker:
        await until(lambda: connection.fetchval("SELECT count(*) = 4 FROM chats.chat"))
        await until(lambda: drained(stream))
        left_out = ("penstock_kv_left_out_total", {"bucket": "CHAT_DATA"})
        assert worker._metrics.registry.get_sample_value(*left_out)

    assert await connection.fetchval("SELECT count(*) FROM bus.dead_letter") == 0
    shown: dict[str, object] = {"s-1": 6, "s-2": 3, "s-3": 2}
    assert await held(stream, "CHAT_DATA") == shown
    await connection.execute("UPDATE chats.chat SET data = '6' WHERE data = '0'")
    await connection.close()
    assert await hydrate(settings, None) == 0
    assert await held(stream, "CHAT_DATA") == {**shown, "s-0": 1}


async def drained(stream: JetStreamContext) -> bool:
    found = await stream.consumer_info("CHATS", "penstock")
    return not found.num_pending and not found.num_ack_pending


async def test_a_view_without_its_columns_is_named_at_start(
    settings: Settings, database: str
) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute(
        "DROP VIEW chats.kv_chat; CREATE VIEW chats.kv_chat AS SELECT 1 AS key"
    )
    await connection.close()
    with pytest.raises(MigrationError, match=r"chats\.kv_chat.*bucket, live.*are not there"):
        await one_worker.run(settings)


async def _gone(stream: JetStreamContext, name: str) -> None:
    while True:
        try:
            await stream.stream_info(f"KV_{name}")
        except NotFoundError:
            return
