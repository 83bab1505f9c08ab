"""Workers and agents with the rights of deploy/nats/users.conf, and with each taken away."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import msgspec
import pytest
from nats.aio.client import Client

from penstock.schemas.agents import AgentHeartbeat
from penstock.worker.commands.doctor import findings
from penstock.worker.commands.provision import provision
from penstock.worker.commands.verify import verify
from penstock.worker.embedded import EmbeddedNats
from penstock.worker.errors import PenstockError
from penstock.worker.finding import Finding, Verdict
from penstock.worker.nats.api import call
from penstock.worker.nats.connection import connect
from penstock.worker.nats.options import NatsOptions
from penstock.worker.publisher import Publisher
from penstock.worker.settings.keys import Settings
from tests.support.connecting import connection_to
from tests.support.running import running, settings_for
from tests.support.waiting import until

USERS = Path(__file__).parents[3] / "deploy" / "nats" / "users.conf"
PASSWORD = "pw"


def users(without: str = "") -> str:
    """The file as it is delivered, with passwords, and without one of its permissions."""
    text = re.sub(r"\$NATS_\w+_PASSWORD", PASSWORD, USERS.read_text())
    return text.replace(f'"{without}"', '"none"') if without else text


def permissions(user: str) -> list[str]:
    """The subjects that the file names for a user, and the inbox last."""
    block = USERS.read_text().partition(f"{user} = {{")[2].partition("\n}")[0]
    return re.findall(r'"([^"]+)"', re.sub(r"#.*", "", block))


@asynccontextmanager
async def provisioned(config: str) -> AsyncIterator[EmbeddedNats]:
    """A server with all that the operator makes there."""
    async with EmbeddedNats(extra_config=config, sync_always=False) as server:
        login = {"nats_user": "penstock_operator", "nats_password": PASSWORD}
        operator = settings_for(server.url, "postgresql://127.0.0.1:1/x", **login)
        assert await provision(operator, dry_run=False) == 0
        yield server


def worker_on(server: EmbeddedNats, dsn: str) -> Settings:
    given = {"nats_user": "penstock_worker", "nats_password": PASSWORD, "provision": "false"}
    return settings_for(server.url, dsn, **given)


async def said(settings: Settings) -> list[Finding]:
    found = [finding async for finding in findings(settings)]
    assert any("nats-server" in finding.text for finding in found)
    return [f for f in found if f.verdict is Verdict.BAD and "PostgreSQL" not in f.text]


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedNats]:
    async with provisioned(users()) as server:
        yield server


async def test_who_may_not_read_a_whole_bucket_is_told_so(
    server: EmbeddedNats, database: str
) -> None:
    """That is for the operator."""
    settings = worker_on(server, database)
    right = r"no right to publish to \$JS\.API\.CONSUMER\.CREATE\.KV_AGENT_STATE"
    with pytest.raises(PenstockError, match=right):
        await verify(settings, None, 0, repair=False, as_json=True)
    operator = msgspec.structs.replace(settings, nats_user="penstock_operator")
    assert await verify(operator, None, 0, repair=False, as_json=True) == 0


async def test_they_are_enough(server: EmbeddedNats, database: str) -> None:
    settings = worker_on(server, database)
    assert await said(settings) == []
    agent = NatsOptions(url=server.url, user="penstock_agent", password=PASSWORD)
    async with running(settings) as worker, Publisher(agent, source="/test") as bus:
        for number in range(20):
            await bus.publish(AgentHeartbeat(agent_id=f"a-{number}"))
        await until(lambda: stored(database, 20))
        await until(lambda: mirrored(bus))
        await put_out(database)
        await until(lambda: published(database))
        assert all(source.healthy for _, source, _ in worker.watched)


async def put_out(dsn: str) -> None:
    """What a job does when a session has expired."""
    async with connection_to(dsn) as connection:
        await connection.execute(
            "INSERT INTO bus.outbox (type, key, data) VALUES ('sessions.closed', 's-1', $1)",
            '{"reason": "expired"}',
        )


async def published(dsn: str) -> bool:
    async with connection_to(dsn) as connection:
        row = await connection.fetchrow("SELECT published_at, reason, error FROM bus.outbox")
        assert row is not None
        assert row["reason"] is None, row["error"]
        return row["published_at"] is not None


async def mirrored(bus: Publisher) -> bool:
    try:
        await bus.status("a-19")
    except PenstockError:
        return False
    return True


async def stored(dsn: str, count: int) -> bool:
    connection = await asyncpg.connect(dsn)
    try:
        return bool(await connection.fetchval("SELECT count(*) FROM agents.heartbeat") == count)
    finally:
        await connection.close()


@pytest.mark.parametrize("permission", permissions("WORKER"))
async def test_each_right_that_is_missing_is_named_with_what_gives_it(permission: str) -> None:
    shape = re.compile(re.escape(permission).replace(r"\*", "[A-Z_*]+"))
    async with provisioned(users(without=permission)) as server:
        found = await said(worker_on(server, "postgresql://127.0.0.1:1/x"))
    assert found
    for finding in found:
        named = finding.text.rpartition(" ")[2]
        assert shape.fullmatch(named), finding
        assert f'add "{named}" to what the user may' in finding.remedy


async def test_looking_takes_and_leaves_nothing(server: EmbeddedNats) -> None:
    agent = NatsOptions(url=server.url, user="penstock_agent", password=PASSWORD)
    async with Publisher(agent, source="/test") as bus:
        await bus.publish(AgentHeartbeat(agent_id="a-1"))
    operator = NatsOptions(url=server.url, user="penstock_operator", password=PASSWORD)
    client = await connect(operator, name="operator")
    before = await states(client)
    await said(worker_on(server, "postgresql://127.0.0.1:1/x"))
    assert await states(client) == before
    await client.close()


async def states(client: Client) -> list[object]:
    consumer = await call(client, "CONSUMER.INFO.AGENT_STATE.penstock")
    streams = [
        await call(client, f"STREAM.INFO.{name}") for name in ("AGENT_STATE", "KV_AGENT_STATE")
    ]
    kept = ("delivered", "ack_floor", "num_pending", "num_ack_pending", "num_redelivered")
    return [*[stream["state"]["messages"] for stream in streams], [consumer[name] for name in kept]]
