"""All kinds of damage at once, found and mended while 2,000 events arrive each second."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from shop_events import OrderPaid

from penstock.schemas.agents import (
    AgentHeartbeat,
    AgentRegistered,
    AgentStateSet,
    AgentStatusChanged,
)
from penstock.schemas.event import EventData
from penstock.schemas.tasks import TaskUpdated
from penstock.schemas.vocabulary import AgentStatus, TaskStatus
from penstock.worker.embedded import EmbeddedNats, EmbeddedPostgres
from penstock.worker.publisher import Publisher
from penstock.worker.settings.keys import Settings, load
from tests.support.commands import said_outside
from tests.support.connecting import connected, connection_to
from tests.support.damage import NOBODYS, TASKS_UNTIED, key_of, spoil_bucket, taken_out
from tests.support.mirror import bucket, expected_bucket
from tests.support.roles import execute, migrated_by_its_owner
from tests.support.traffic import STREAM, grown
from tests.support.waiting import until
from tests.support.workers import WorkerProcess, environment

pytestmark = pytest.mark.faults
RATE = 2_000
RESTING = [f"resting-{n}" for n in range(20)]
CHECKED = (
    f"sequences of nats {STREAM}",
    "rows of tasks.task",
    "rows of agents.agent",
    "sums of shop.customer_order",
    "bucket AGENT_STATE",
)
STATISTICS = "statistics of agents"
"""They are of the tasks that are there: without these, there should be none."""
DAMAGE = """
DELETE FROM tasks.task;
UPDATE agents.agent SET status = NULL;
TRUNCATE agents.stats;
UPDATE shop.customer_order SET paid_cents = 1 WHERE external_id = 'resting';
UPDATE shop.customer_order SET paid_cents = 1 WHERE external_id = 'o-3';
"""


def event(number: int) -> tuple[EventData, int]:
    """What happens next, and its sequence, 0 where none counts."""
    agent = f"busy-{number % 50}"
    finished = TaskStatus.COMPLETED if number % 3 else TaskStatus.RUNNING
    state = AgentStateSet(agent_id=agent, state_key=f"k-{number % 7}", value={"line": number})
    task = TaskUpdated(task_id=f"t-{number % 300}", status=finished, assigned_to=agent)
    status = AgentStatus.BUSY if number % 2 else AgentStatus.IDLE
    return (
        (AgentHeartbeat(agent_id=agent), 0),
        (task, number),
        (state, number),
        (OrderPaid(order_id=f"o-{number % 40}", amount_cents=number), 0),
        (AgentStatusChanged(agent_id=agent, status=status), number),
    )[number % 5]


@asynccontextmanager
async def flood(url: str) -> AsyncIterator[list[float]]:
    """2,000 events a second. The list has the rate that was reached at the end."""
    over, reached = asyncio.Event(), list[float]()
    loop = asyncio.get_running_loop()

    async def publish() -> None:
        began, number = loop.time(), 0
        async with Publisher(url, source="/tests") as bus:
            while not over.is_set():
                number += 1
                await asyncio.sleep(began + number / RATE - loop.time())
                data, sequence = event(number)
                await bus.publish_soon(data, sequence=sequence)
            await bus.flush()
        reached.append(number / (loop.time() - began))

    task = asyncio.create_task(publish())
    try:
        yield reached
    finally:
        over.set()
        await task


async def populate(url: str) -> None:
    """Agents and orders that rest, so that only what was damaged in them can be found."""
    async with Publisher(url, source="/tests") as bus:
        for agent in RESTING:
            await bus.publish(AgentRegistered(agent_id=agent, name=agent, agent_type="coder"))
            status = AgentStatusChanged(agent_id=agent, status=AgentStatus.BUSY)
            await bus.publish(status, sequence=1)
            held = AgentStateSet(agent_id=agent, state_key="plan", value={"line": 41})
            await bus.publish(held, sequence=1)
            done = TaskUpdated(task_id=f"t-{agent}", status=TaskStatus.COMPLETED, assigned_to=agent)
            await bus.publish(done, sequence=1)
        for cents in (500, 700):
            await bus.publish(OrderPaid(order_id="resting", amount_cents=cents))


async def verify(settings: Settings, *words: str, code: int) -> dict[str, list[dict[str, Any]]]:
    """What is wrong or mended, by check."""
    found = await said_outside(settings, "verify", "--pause", "3", *words, code=code)
    named: dict[str, list[dict[str, Any]]] = {}
    for finding in found["findings"]:
        if finding["verdict"] in ("problem", "mended"):
            named.setdefault(finding["check"], []).append(finding)
    print(f"verify {' '.join(words)}: {found['clean']}")
    for findings in named.values():
        print(*(f"    {one['verdict']}: {one['text']}" for one in findings), sep="\n")
    return named


def counts(findings: list[dict[str, Any]]) -> int:
    return sum(one["count"] for one in findings)


async def test_all_damage_is_named_and_mended_under_load(tmp_path: Path) -> None:
    async with EmbeddedNats(sync_always=False) as bus, EmbeddedPostgres() as postgres:
        dsn = await postgres.create_database("penstock")
        await migrated_by_its_owner(dsn, ("shop_events",))
        given = {"nats_url": bus.url, "postgres_dsn": dsn, "event_packages": "shop_events"}
        settings = load(given, environ={})
        environ = environment(bus.url, dsn, event_packages="shop_events", retention="false")
        async with WorkerProcess(environ, tmp_path / "worker.log") as worker:
            await worker.start()
            await until(lambda: worker.said("worker_started"))
            await populate(bus.url)
            async with flood(bus.url) as reached:
                await grown(dsn, 3_000)
                await damage_and_mend(settings, dsn)
            print(f"published {reached[0]:.0f} events/s")
            assert reached[0] > RATE * 0.95
            assert await worker.stop() == 0
        assert await verify(settings, code=0) == {}
        assert await bucket(bus.url) == await expected_bucket(dsn)


async def damage_and_mend(settings: Settings, dsn: str) -> None:
    assert await verify(settings, code=0) == {}, "what is in flight is no damage"
    async with connected(settings.nats_url) as nats, connection_to(dsn) as connection:
        gap, _ = await taken_out(dsn, nats, 100, "t-1")
        await connection.execute(TASKS_UNTIED)
        await connection.execute(DAMAGE)
        await spoil_bucket(nats, RESTING)
    found = await verify(settings, code=1)
    assert set(found) - {STATISTICS} == set(CHECKED)
    assert found[CHECKED[0]][0]["examples"] == [str(gap)]
    assert counts(found["rows of agents.agent"]) >= len(RESTING)
    assert counts(found["rows of tasks.task"]) >= len(RESTING)
    assert counts(found["sums of shop.customer_order"]) == 2
    found = await verify(settings, "--repair", code=1)
    left = {name for name, all_of in found.items() if "problem" in {f["verdict"] for f in all_of}}
    assert left == {"rows of tasks.task", "rows of agents.agent", "bucket AGENT_STATE"}
    for stream, table in (("AGENT_STATE", "agents.agent"), (STREAM, "tasks.task")):
        replayed = await said_outside(settings, "replay", "--stream", stream, "--rebuild", table)
        print(f"replay --rebuild {table}: {replayed}")
    found = await verify(settings, "--repair", code=0)
    named = {key for one in found["bucket AGENT_STATE"] for key in one["examples"]}
    assert {*map(key_of, RESTING[:2]), NOBODYS} == named, "the replay put the one that was gone"
    assert await verify(settings, code=0) == {}
    await execute(dsn, "TRUNCATE agents.stats")
    found = await verify(settings, "--repair", code=0)
    assert set(found) == {STATISTICS}
    assert counts(found[STATISTICS]) >= len(RESTING)
