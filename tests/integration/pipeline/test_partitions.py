"""Partitions beside a worker that runs: missing, taken out, brought back, and other policies."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import msgspec
import pytest

from penstock import Publisher
from penstock.schemas import AgentHeartbeat
from penstock.schemas.catalogue import Catalogue
from penstock.worker.ending import end
from penstock.worker.pipeline.decode import Window
from penstock.worker.pipeline.upkeep import keep_partitions
from penstock.worker.postgres.life import lives
from penstock.worker.postgres.pool import database as pool_of
from penstock.worker.postgres.upkeep import PostgresUpkeep
from tests.support.partitions import OLD, old_heartbeats, place
from tests.support.rolling import roll_over
from tests.support.running import running, settings_for
from tests.support.waiting import until

ALL_DAY = timedelta(days=1)


@pytest.mark.faults
async def test_partitions_come_and_go_and_nothing_is_lost_or_waits_long(
    nats_url: str, database: str, tmp_path: Path
) -> None:
    """A busy machine is slow by itself; `tests/faults` has the bound that is promised."""
    worker = settings_for(nats_url, database, kv="false", archive_folder=str(tmp_path))
    keeper = msgspec.structs.replace(worker, postgres_dsn=database)
    async with running(msgspec.structs.replace(worker, retention=False)):
        found = await roll_over(keeper, rate=300, count=1_500, old=2_000)
    assert found.made == 8
    assert found.longest < 10


async def test_a_worker_takes_old_partitions_out_by_itself(nats_url: str, database: str) -> None:
    connection = await asyncpg.connect(database)
    await old_heartbeats(connection)
    settings = settings_for(nats_url, database, kv="false", postgres_owner_dsn=database)
    async with running(settings):

        async def gone() -> bool:
            return await place(connection, OLD) == "gone"

        await until(gone)
        async with Publisher(nats_url, source="/tests") as bus:
            await bus.publish(AgentHeartbeat(agent_id="a-1"))
        await until(lambda: connection.fetchval("SELECT count(*) FROM agents.heartbeat"))
    await connection.close()


async def test_a_policy_that_changes_takes_effect_without_a_restart(database: str) -> None:
    """How many partitions are made ahead, and how old an event may be."""
    catalogue = Catalogue.load()
    window = Window(catalogue, {})
    async with pool_of(settings_for("nats://127.0.0.1:1", database)) as pool:
        upkeep = PostgresUpkeep(pool)
        task = asyncio.create_task(keep_partitions(upkeep, window.keep, every=0.05))
        now = datetime.now(UTC)

        def kept() -> timedelta:
            return now - window.bounds(now)["agents.heartbeat"][0]

        await until(lambda: kept() == 90 * ALL_DAY)
        owner = await asyncpg.connect(database)
        await owner.execute(
            "UPDATE partitions.policy SET premake = 12, retention = '40 days'"
            " WHERE table_name = 'heartbeat'"
        )
        await until(lambda: kept() == 40 * ALL_DAY)

        async def made() -> bool:
            ends = [life.upper for life in await lives(pool) if life.table == "heartbeat"]
            return max(end for end in ends if end) > datetime.now(UTC) + 12 * ALL_DAY

        await until(made)
        await end(task)
        await owner.close()
