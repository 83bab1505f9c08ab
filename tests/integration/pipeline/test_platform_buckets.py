"""Sessions and settings, from their events into their buckets."""

from datetime import UTC, datetime, timedelta

import nats
import pytest

from penstock.schemas.config import ConfigDeleted, ConfigSet
from penstock.schemas.event import EventData
from penstock.schemas.identity import entity_uuid
from penstock.schemas.sessions import SessionClosed, SessionOpened, SessionTouched
from penstock.schemas.vocabulary import Environment
from penstock.worker.commands import one_worker
from penstock.worker.commands.provision import provision
from penstock.worker.commands.verify import verify
from penstock.worker.publisher import Publisher
from penstock.worker.settings.keys import Settings
from tests.support.mirror import bucket
from tests.support.roles import migrated_by_its_owner
from tests.support.running import settings_for

BOT, GLOBAL = entity_uuid("agent", "bot"), entity_uuid("agent", "global")
OPEN, CLOSED, UNKNOWN = "0a" * 32, "1b" * 32, "2c" * 32


@pytest.fixture
async def settings(nats_url: str, database: str) -> Settings:
    await migrated_by_its_owner(database)
    return settings_for(nats_url, database)


def events() -> list[EventData]:
    soon = datetime.now(UTC) + timedelta(hours=1)
    staging = Environment.STAGING
    return [
        SessionClosed(token_hash=CLOSED, reason="logout"),
        SessionOpened(token_hash=CLOSED, account_id="ann", expires_at=soon),
        SessionOpened(token_hash=OPEN, agent_id="bot", expires_at=soon, data={"n": 1}),
        SessionTouched(token_hash=OPEN),
        SessionTouched(token_hash=UNKNOWN),
        ConfigSet(agent_id="bot", config_key="limit", value=5),
        ConfigSet(agent_id="bot", config_key="limit", environment=staging, value=6),
        ConfigDeleted(agent_id="bot", config_key="limit", environment=staging),
        ConfigSet(agent_id="global", config_key="limit", value={"x": [1]}),
        ConfigSet(agent_id=GLOBAL, value=True, config_key="by uuid"),
        ConfigSet(agent_id="global", config_key="pw", value="not yet a secret"),
        ConfigSet(agent_id="global", config_key="pw", is_secret=True, ciphertext="AAAA"),
    ]


async def test_the_cache_of_agents_forgets_by_itself(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    await provision(settings, dry_run=False)
    assert "stream KV_QUERY_CACHE: created" in capsys.readouterr().out
    await provision(settings, dry_run=False)
    assert "nothing to do" in capsys.readouterr().out
    async with await nats.connect(settings.nats_url) as client:
        cache = await client.jetstream().key_value("QUERY_CACHE")
        await cache.put("q", b"1")
        assert (await cache.status()).ttl == 300


async def test_what_is_open_and_set_is_there_and_nothing_else(settings: Settings) -> None:
    await provision(settings, dry_run=False)
    async with Publisher(settings.nats_url, source="/tests") as bus:
        for number, event in enumerate(events()):
            await bus.publish(event, sequence=number)
    assert await one_worker.run(settings, until_idle=1.0) == 0

    sessions = await bucket(settings.nats_url, "SESSION_DATA")
    assert {key: (one["sub"], one["data"]) for key, one in sessions.items()} == {
        OPEN: (f"agent:{BOT}", {"n": 1})
    }
    set_now = await bucket(settings.nats_url, "AGENT_CONFIG")
    assert {key: one["val"] for key, one in set_now.items()} == {
        f"{BOT}.production.limit": 5,
        "global.production.limit": {"x": [1]},
        "global.production.by=20uuid": True,
    }
    assert await verify(settings, None, 0, repair=False, as_json=True) == 0
