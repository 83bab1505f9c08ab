"""Events that flow while partitions are missing, and while old ones are taken out and come back."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import msgspec

from penstock.schemas import AgentHeartbeat
from penstock.schemas.catalogue import Catalogue
from penstock.worker.archive import manifest
from penstock.worker.postgres.importing import restore
from penstock.worker.postgres.life import Place, lives
from penstock.worker.postgres.retention import Keeper, PostgresRetention, turn
from penstock.worker.publisher import Publisher
from penstock.worker.settings.keys import Settings
from tests.support.partitions import LONG_AGO, OLD
from tests.support.waiting import until

_OLD_ROWS = """
INSERT INTO agents.heartbeat (event_id, occurred_at, agent_id)
SELECT gen_random_uuid(), $1::timestamptz + n * interval '1 microsecond', gen_random_uuid()
FROM generate_series(1, $2::int) AS n
"""
_LATE_DAYS = 8
"""So many days of the past have no partition until an event comes that needs it."""

_LONGEST = """
SELECT coalesce(max(extract(epoch FROM recorded_at - occurred_at)), 0)::float8
FROM agents.heartbeat WHERE occurred_at BETWEEN $1 AND now()
"""


class Rolled(msgspec.Struct, frozen=True, kw_only=True):
    """``longest`` is for how many seconds an event waited at most, ``made`` how many partitions
    were made on the miss.
    """

    events: int
    longest: float
    made: int


async def roll_over(settings: Settings, *, rate: int, count: int, old: int) -> Rolled:
    """Publish ``count`` events, some for days without a partition, beside a worker that runs. In
    the meantime a partition of ``old`` rows goes to a file and comes back. Nothing may be lost.
    """
    connection = await asyncpg.connect(settings.postgres_dsn)
    try:
        await _prepare(connection, old)
        partitions = len(await lives(connection))
        began = datetime.now(UTC)
        publishing = asyncio.create_task(_publish(settings.nats_url, rate, count))
        await _take_out_and_bring_back(connection, settings)
        assert not publishing.done(), "the load ended first"
        await publishing

        async def stored() -> bool:
            found = await connection.fetchval("SELECT count(*) FROM agents.heartbeat")
            assert found == count + old
            return True

        await until(stored)
        assert await connection.fetchval("SELECT count(*) FROM bus.dead_letter") == 0
        longest = await connection.fetchval(_LONGEST, began)
        made = len(await lives(connection)) - partitions
        return Rolled(events=count, longest=longest, made=made)
    finally:
        await connection.close()


async def _prepare(connection: asyncpg.Connection, old: int) -> None:
    await connection.execute("SELECT partitions.ensure_for('agents', 'heartbeat', $1)", LONG_AGO)
    await connection.execute(_OLD_ROWS, LONG_AGO, old)
    await connection.execute(
        "UPDATE partitions.policy SET export = true WHERE table_name = 'heartbeat'"
    )


async def _publish(url: str, rate: int, count: int) -> None:
    """Every tenth event, from the middle on, is late by days."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with Publisher(url, source="/tests") as bus:
        for number in range(count):
            await asyncio.sleep(began + number / rate - loop.time())
            late = number % 10 == 0 and number > count // 2
            days = 20 + number // 10 % _LATE_DAYS if late else 0
            time = datetime.now(UTC) - timedelta(days=days)
            await bus.publish_soon(AgentHeartbeat(agent_id=f"a-{number % 50}"), time=time)
        await bus.flush()


async def _take_out_and_bring_back(connection: asyncpg.Connection, settings: Settings) -> None:
    retention = PostgresRetention(settings, Catalogue.load())

    async def gone() -> bool:
        """Whoever does it: this, or the worker."""
        async for _ in retention.round():
            pass
        [life] = [life for life in await lives(connection, gone=True) if life.title == OLD]
        return life.place is Place.GONE

    await until(gone)
    path = Path(str(settings.archive_folder)) / f"{OLD}.parquet"
    made, file = await asyncio.to_thread(manifest.read, path)
    async with turn(settings, {}) as keeper:
        assert isinstance(keeper, Keeper)
        await restore(keeper.connection, made, file, timedelta(days=1))
