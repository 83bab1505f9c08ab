"""A worker and a Publisher that RabbitMQ lets create nothing."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from penstock.schemas.agents import AgentHeartbeat
from penstock.worker.commands.doctor import findings
from penstock.worker.commands.provision import provision
from penstock.worker.embedded.rabbitmq import EmbeddedRabbit
from penstock.worker.errors import TopologyError
from penstock.worker.finding import Finding, Verdict
from penstock.worker.publisher import Publisher
from penstock.worker.rabbitmq.options import RabbitOptions
from penstock.worker.settings.keys import Settings
from tests.integration.nats.test_users import published, put_out
from tests.support.running import running, settings_for
from tests.support.waiting import until

USERS = (Path(__file__).parents[3] / "deploy" / "rabbitmq" / "users.sh").read_text()


def rights_of(user: str) -> tuple[str, str, str]:
    """What the delivered script lets a user configure, write and read."""
    [found] = re.findall(rf"^user {user} \S+ '(.*)' '(.*)' '(.*)'$", USERS, re.MULTILINE)
    configure, write, read = found
    return configure, write, read


@pytest.fixture
async def poor(
    rabbit: EmbeddedRabbit, rabbit_url: str, nats_url: str, database: str
) -> AsyncIterator[Settings]:
    """Settings of a worker with the rights that are said to be enough."""
    user = f"worker-{uuid4().hex[:6]}"
    await rabbit.control("add_user", user, "pw")
    await rabbit.control("set_permissions", user, *rights_of("penstock_worker"))
    yield settings_for(
        nats_url,
        database,
        brokers="rabbitmq",
        rabbitmq_url=rabbit_url,
        rabbitmq_user=user,
        rabbitmq_password="pw",
        kv="false",
    )
    await rabbit.control("delete_user", user)


@pytest.fixture
async def agent(rabbit: EmbeddedRabbit, rabbit_url: str) -> AsyncIterator[RabbitOptions]:
    user = f"agent-{uuid4().hex[:6]}"
    await rabbit.control("add_user", user, "pw")
    await rabbit.control("set_permissions", user, *rights_of("penstock_agent"))
    yield RabbitOptions(url=rabbit_url, user=user, password="pw")
    await rabbit.control("delete_user", user)


def master(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, rabbitmq_user=None, rabbitmq_password=None)


async def test_provision_and_run_say_what_is_missing_and_who_may_make_it(poor: Settings) -> None:
    remedy = r"queue AGENT_STATE.*no right to configure.*penstock provision.*set_permissions"
    with pytest.raises(TopologyError, match=remedy):
        await provision(poor, dry_run=False)
    with pytest.raises(TopologyError, match=remedy):
        async with running(poor):
            raise AssertionError
    found = await seen(poor)
    assert any(f.verdict is Verdict.BAD and "queue AGENT_STATE" in f.text for f in found)


@pytest.mark.faults
async def test_on_what_others_have_made_it_works(
    poor: Settings, agent: RabbitOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    await provision(master(poor), dry_run=False)
    assert await provision(poor, dry_run=False) == 0
    assert "none to configure" in capsys.readouterr().out
    [note] = [f for f in await seen(poor) if f.verdict is Verdict.NOTE]
    assert "none to configure" in note.text
    assert "RabbitMQ: every right that a worker needs" in [f.text for f in await seen(poor)]
    async with running(poor), Publisher(agent, source="/test") as bus:
        for number in range(20):
            await bus.publish(AgentHeartbeat(agent_id=f"a-{number}"))
        await until(lambda: stored(poor.postgres_dsn, 20))
        await put_out(poor.postgres_dsn)
        await until(lambda: published(poor.postgres_dsn))


@pytest.mark.faults
async def test_who_may_not_read_what_was_given_up_works_without(
    rabbit: EmbeddedRabbit, poor: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert poor.rabbitmq_user is not None
    await provision(master(poor), dry_run=False)
    await rabbit.control("set_permissions", poor.rabbitmq_user, "^$", "^$", "^[A-Z_]+$")
    async with running(poor) as worker:
        assert "penstock.dead" not in [pipeline.name for pipeline in worker.pipelines]
    said = capsys.readouterr().out
    assert "given_up_unread" in said
    assert "reads_unserved" in said
    missing = {f.text.partition(": ")[2]: f.verdict for f in await seen(poor)}
    assert missing == {
        "no right to read queue penstock.read: agents that read get no answer "
        "(or set reads = false)": Verdict.BAD,
        "no right to read queue penstock.dead: what RabbitMQ gives up becomes no dead letter": (
            Verdict.NOTE
        ),
        "no right to write exchange amq.default: no receipt and no read is answered": Verdict.BAD,
        "no right to write exchange events: nothing of the outbox is sent (or set "
        "outbox = false)": Verdict.BAD,
    }


async def seen(settings: Settings) -> list[Finding]:
    """What the doctor says of RabbitMQ, where he may be heard."""
    found = [finding async for finding in findings(settings)]
    return [f for f in found if "queue" in f.text or "RabbitMQ" in f.text]


async def stored(dsn: str, count: int) -> bool:
    connection = await asyncpg.connect(dsn)
    try:
        return bool(await connection.fetchval("SELECT count(*) FROM agents.heartbeat") == count)
    finally:
        await connection.close()
