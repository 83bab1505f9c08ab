"""Damage of every kind, found and mended while events flow."""

from typing import Any

import asyncpg
import pytest
from shop_events import OrderPaid

from penstock.schemas.agents import (
    AgentHeartbeat,
    AgentRegistered,
    AgentStateSet,
    AgentStatusChanged,
)
from penstock.schemas.identity import entity_uuid
from penstock.schemas.tasks import TaskUpdated
from penstock.schemas.vocabulary import AgentStatus, TaskStatus
from penstock.worker.publisher import Publisher
from penstock.worker.settings.keys import Settings
from tests.support.commands import outside, said, typed
from tests.support.connecting import connected, connection_to
from tests.support.damage import key_of, spoil_bucket, taken_out
from tests.support.mirror import bucket, expected_bucket
from tests.support.roles import execute, migrated_by_its_owner
from tests.support.running import running, settings_for
from tests.support.traffic import STREAM, grown, stored, traffic
from tests.support.waiting import until

AGENTS = [f"a-{n}" for n in range(4)]
BUSY = "busy"
PAUSE = ("--pause", "0.3")
SEALED_AND_CHANGED = """
INSERT INTO audit.log (event_id, occurred_at, recorded_at)
VALUES (gen_random_uuid(), now(), now() - interval '1 hour');
SELECT audit.seal();
UPDATE audit.log SET actor = 'me'
"""


@pytest.fixture
def settings(nats_url: str, database: str) -> Settings:
    return settings_for(nats_url, database)


async def populate(settings: Settings) -> None:
    """Agents with status and state, and tasks that they finished."""
    url = settings.rabbitmq_url if settings.brokers == ("rabbitmq",) else settings.nats_url
    async with Publisher(url, source="/tests") as bus:
        for agent in AGENTS:
            await bus.publish(AgentRegistered(agent_id=agent, name=agent, agent_type="coder"))
            status = AgentStatusChanged(agent_id=agent, status=AgentStatus.BUSY)
            await bus.publish(status, sequence=1)
            held = AgentStateSet(agent_id=agent, state_key="plan", value={"line": 41})
            await bus.publish(held, sequence=1)
            done = TaskUpdated(task_id=f"t-{agent}", status=TaskStatus.COMPLETED, assigned_to=agent)
            await bus.publish(done, sequence=1)
    async with connection_to(settings.postgres_dsn) as connection:
        query = "SELECT count(*) = 4 FROM agents.stats"
        await until(lambda: connection.fetchval(query))

    async def mirrored() -> bool:
        held, wanted = await mirror(settings)
        return len(held) == 8 and held == wanted

    await until(mirrored)


async def mirror(settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the bucket has, and what it should have, but for the agent that never rests."""
    both = await bucket(settings.nats_url), await expected_bucket(settings.postgres_dsn)
    held, wanted = ({k: v for k, v in one.items() if k != key_of(BUSY, None)} for one in both)
    return held, wanted


async def verify(settings: Settings, *words: str, code: int) -> dict[str, list[dict[str, Any]]]:
    """The findings that matter, by check."""
    found = await said(settings, "verify", *PAUSE, *words, code=code)
    assert found["clean"] == (code == 0)
    named: dict[str, list[dict[str, Any]]] = {}
    for finding in found["findings"]:
        if finding["verdict"] in ("problem", "mended"):
            named.setdefault(finding["check"], []).append(finding)
    return named


@pytest.mark.faults
async def test_what_was_changed_in_the_bucket_is_written_again(settings: Settings) -> None:
    url, beats = settings.nats_url, AgentHeartbeat(agent_id=BUSY)
    async with running(settings), traffic(url, beats), connected(url) as nats:
        await populate(settings)
        assert await verify(settings, code=0) == {}
        await spoil_bucket(nats, AGENTS)
        found = await verify(settings, code=1)
        named = {key for one in found["bucket AGENT_STATE"] for key in one["examples"]}
        assert named == {*map(key_of, AGENTS[:3]), "nobody.plan"}
        mended = (await verify(settings, "--repair", code=0))["bucket AGENT_STATE"]
        assert {one["verdict"] for one in mended} == {"mended"}
        assert sum(one["count"] for one in mended) == 4
        held, wanted = await mirror(settings)
        assert held == wanted
        assert await verify(settings, code=0) == {}


@pytest.mark.faults
async def test_rows_and_statistics_are_compared_with_what_made_them(
    settings: Settings, database: str
) -> None:
    beats = AgentHeartbeat(agent_id=BUSY)
    async with running(settings), traffic(settings.nats_url, beats):
        await populate(settings)
        async with connection_to(database) as connection:
            await connection.execute("UPDATE agents.agent SET status = NULL")
            await connection.execute("DELETE FROM tasks.task WHERE external_id = 't-a-1'")
            await connection.execute("UPDATE agents.stats SET tasks_completed = 7")
            await connection.execute(SEALED_AND_CHANGED)
        found = await verify(settings, "--repair", code=1)
        (changed,) = found["seals of the audit history"]
        assert (changed["count"], changed["verdict"]) == (1, "problem")
        await execute(database, "UPDATE audit.log SET actor = NULL")
        (status,) = found["rows of agents.agent"]
        assert (status["count"], status["verdict"]) == (4, "problem")
        assert "status" in status["text"]
        assert "penstock replay --stream AGENT_STATE --rebuild agents.agent" in status["remedy"]
        (lost,) = found["rows of tasks.task"]
        assert lost["examples"] == [entity_uuid("task", "t-a-1")]
        assert f"penstock replay --stream {STREAM} --rebuild tasks.task" in lost["remedy"]
        assert found["statistics of agents"][0]["verdict"] == "mended"
        (shown,) = found["bucket AGENT_STATE"]
        assert shown["verdict"] == "problem"
        assert "--rebuild agents.agent" in shown["remedy"]
        held = await bucket(settings.nats_url)
        assert held[key_of(AGENTS[0], None)]["val"]["status"] == "busy"
        for stream, table in (("AGENT_STATE", "agents.agent"), (STREAM, "tasks.task")):
            words = ("replay", "--stream", stream, "--rebuild", table)
            assert await outside(settings, *words) == 0
        await verify(settings, "--repair", code=0)
        assert await verify(settings, code=0) == {}
        assert (await bucket(settings.nats_url))[key_of(AGENTS[0], None)] == held[
            key_of(AGENTS[0], None)
        ]


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["quorum", "stream"])
async def test_it_says_of_rabbitmq_from_where_rows_come_back(
    nats_url: str, rabbit_url: str, database: str, kind: str
) -> None:
    """The bucket is in NATS all the same. Of a queue nothing can be read again."""
    carried = {"brokers": "rabbitmq", "rabbitmq_url": rabbit_url, "rabbitmq_queue_type": kind}
    settings = settings_for(nats_url, database, **carried)
    source = ("--stream", "AGENT_STATE") if kind == "stream" else ("--source", "postgres")
    rebuild = ("replay", *source, "--rebuild", "agents.agent")
    async with running(settings), connected(nats_url) as nats:
        await populate(settings)
        assert await verify(settings, code=0) == {}
        async with connection_to(database) as connection:
            await connection.execute("UPDATE agents.agent SET status = NULL")
            await connection.execute("UPDATE agents.stats SET tasks_completed = 7")
        await spoil_bucket(nats, AGENTS)
        found = await verify(settings, "--repair", code=1)
        assert " ".join(rebuild) in found["rows of agents.agent"][0]["remedy"]
        assert found["statistics of agents"][0]["verdict"] == "mended"
        assert await outside(settings, *rebuild) == 0
        assert set(await verify(settings, "--repair", code=0)) == {"bucket AGENT_STATE"}
        assert await verify(settings, code=0) == {}


async def test_a_sequence_that_was_never_recorded_is_read_again(
    settings: Settings, database: str
) -> None:
    async with running(settings), connected(settings.nats_url) as nats:
        async with traffic(settings.nats_url) as confirmed:
            await populate(settings)
            await grown(settings.postgres_dsn, 200)
            found = [await taken_out(database, nats, number) for number in (20, 40)]
            (again, _), (gone, lost) = found
            await nats.jetstream().delete_msg(STREAM, gone)
            check = f"sequences of nats {STREAM}"
            named = await verify(settings, code=1)
            assert {one["examples"][0] for one in named[check]} == {str(again), str(gone)}
            named = await verify(settings, "--repair", code=1)
            verdicts = {one["examples"][0]: one["verdict"] for one in named[check]}
            assert verdicts == {str(again): "mended", str(gone): "problem"}
            assert await verify(settings, code=0) == {}

        async def only_one_is_missing() -> bool:
            return confirmed - set(await stored(settings.postgres_dsn)) == {lost}

        await until(only_one_is_missing)


@pytest.mark.faults
async def test_sums_of_a_package_are_computed_again(nats_url: str, postgres_dsn: str) -> None:
    await migrated_by_its_owner(postgres_dsn, ("shop_events",))
    settings = settings_for(nats_url, postgres_dsn, event_packages="shop_events")
    async with running(settings), Publisher(nats_url, source="/shop") as bus:
        for cents in (500, 700):
            await bus.publish(OrderPaid(order_id="o-1", amount_cents=cents))
        async with connection_to(postgres_dsn) as connection:
            paid = "SELECT paid_cents FROM shop.customer_order"
            await until(lambda: _is(connection, paid, 1200))
            assert await verify(settings, "--since", "1h", code=0) == {}
            await connection.execute("UPDATE shop.customer_order SET paid_cents = 1")
            found = await verify(settings, "--repair", code=0)
            assert found["sums of shop.customer_order"][0]["verdict"] == "mended"
            assert await connection.fetchval(paid) == 1200
            month = await connection.fetchval(
                "SELECT partition::text FROM partitions.partition WHERE table_name = 'order_event' "
                "AND lower_bound > now() ORDER BY lower_bound LIMIT 1"
            )
            await connection.execute(f"DROP TABLE {month}")
            found = await verify(settings, "--repair", code=0)
            assert found["partitions"][0]["examples"] == ["shop.order_event"]
            assert await verify(settings, code=0) == {}


async def _is(connection: asyncpg.Connection, query: str, wanted: int) -> bool:
    return bool(await connection.fetchval(query) == wanted)


async def test_it_says_in_one_sentence_why_it_cannot_look(
    nats_url: str, database: str, postgres_dsn: str
) -> None:
    empty = settings_for(nats_url, postgres_dsn)
    result = await typed(empty, "verify")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "penstock migrate up" in result.stderr
    here = settings_for(nats_url, database)
    result = await typed(here, "verify", "--since", "yesterday")
    assert result.exit_code == 2
    assert "'yesterday' is no time with an offset" in result.stderr
    result = await typed(here, "verify")  # no stream is there yet
    assert result.exit_code == 2
    assert "run `penstock provision`" in result.stderr
