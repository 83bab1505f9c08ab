"""A stream that goes while it is read again: the replay ends, and says so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiormq
import asyncpg
import pytest

from penstock.schemas.agents import AgentHeartbeat
from penstock.worker.commands.provision import provision
from penstock.worker.commands.replay import read_again
from penstock.worker.errors import TopologyError
from penstock.worker.publisher import Publisher
from penstock.worker.replay import chosen
from penstock.worker.replay.asked import Asked
from penstock.worker.settings.keys import Settings
from tests.conftest import empty_rabbit
from tests.support.connecting import connected, connection_to
from tests.support.running import settings_for
from tests.support.waiting import PATIENCE, until

STREAM = "AGENT_STATE"
COUNT = 200
_WAITS = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = $1::regclass"


@pytest.fixture
def carries(request: pytest.FixtureRequest) -> str | None:
    """The address of RabbitMQ if it carries the events."""
    wanted = request.param == "rabbitmq"
    return str(request.getfixturevalue("rabbit_address")) if wanted else None


@pytest.fixture
async def settings(carries: str | None, nats_url: str, database: str) -> Settings:
    given = {"batch_size": "10", "kv": "false"}
    if carries is not None:
        await empty_rabbit(carries)
        given |= {"brokers": "rabbitmq", "rabbitmq_url": carries, "rabbitmq_queue_type": "stream"}
    return settings_for(nats_url, database, **given)


def address(settings: Settings) -> str:
    return settings.nats_url if settings.brokers == ("nats",) else settings.rabbitmq_url


async def delete(settings: Settings) -> None:
    if settings.brokers == ("nats",):
        async with connected(settings.nats_url) as client:
            await client.jetstream().delete_stream(STREAM)
        return
    async with aiormq.connect(settings.rabbitmq_url) as connection:
        await (await connection.channel()).queue_delete(STREAM)


@asynccontextmanager
async def held_up(connection: asyncpg.Connection, table: str) -> AsyncIterator[None]:
    """Nobody writes to ``table`` meanwhile."""
    async with connection.transaction():
        await connection.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
        yield


@pytest.mark.parametrize(
    ("carries", "again"),
    [
        ("nats", True),
        ("rabbitmq", False),
        pytest.param("nats", False, marks=pytest.mark.faults),
        pytest.param("rabbitmq", True, marks=pytest.mark.faults),
    ],
    indirect=["carries"],
)
async def test_it_ends_with_what_went(
    settings: Settings, database: str, monkeypatch: pytest.MonkeyPatch, *, again: bool
) -> None:
    """What was in work is stored; nothing of another stream under the name is taken for it."""
    monkeypatch.setattr(chosen, "_MISSING_SECONDS", 0.1)
    await provision(settings, dry_run=False)
    async with Publisher(address(settings), source="/tests") as bus:
        for number in range(COUNT):
            await bus.publish_soon(AgentHeartbeat(agent_id=f"a-{number}"))
        await bus.flush()
        async with connection_to(database) as connection, connection_to(database) as other:
            asked = Asked(source=settings.brokers[0], stream=STREAM)
            async with held_up(connection, "agents.heartbeat"):
                reading = asyncio.create_task(read_again(settings, asked))
                await until(lambda: other.fetchval(_WAITS, "agents.heartbeat"))
                await delete(settings)
            if again:
                await provision(settings, dry_run=False)
                await bus.publish(AgentHeartbeat(agent_id="another"))
            with pytest.raises(TopologyError, match=r"after \d+ messages, which are stored"):
                await asyncio.wait_for(reading, PATIENCE)
            stored = await other.fetchval("SELECT count(*) FROM agents.heartbeat")
            agents = {one for (one,) in await other.fetch("SELECT external_id FROM agents.agent")}
    assert 0 < stored < COUNT
    assert "another" not in agents
