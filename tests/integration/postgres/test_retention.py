"""Retention takes partitions out of their tables, whoever is killed or writes meanwhile."""

import asyncio
import random
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import msgspec
import pytest

from penstock.worker.errors import PenstockError
from penstock.worker.pipeline.commit import Committer
from penstock.worker.postgres.retention import PostgresRetention, turn
from penstock.worker.settings.keys import Settings
from tests.integration.postgres.test_failover import opened
from tests.integration.postgres.test_sink import CATALOGUE, events
from tests.support.batches import stored_as
from tests.support.partitions import (
    HEARTBEAT,
    LONG_AGO,
    OLD,
    PARTITION,
    every_kind,
    keeper_of,
    old_heartbeats,
    place,
    step,
)
from tests.support.roles import INGEST, OWNER, logged_in
from tests.support.waiting import PATIENCE, until

KINDS = ["agents.heartbeat"]
WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%DETACH%'"
    " AND datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture
def settings(database: str, tmp_path: Path) -> Settings:
    return keeper_of(database, tmp_path / "archive")


async def test_who_is_interrupted_leaves_what_the_next_one_finishes(
    connection: asyncpg.Connection, database: str, settings: Settings
) -> None:
    """A transaction that is open keeps the second half of the detachment waiting."""
    await old_heartbeats(connection)
    reader = await asyncpg.connect(database)
    async with reader.transaction():
        await reader.fetch("SELECT count(*) FROM agents.heartbeat")
        [error] = (await step(settings))[OLD]
        assert "55P03" in error
        assert await place(connection, OLD) == "detaching"
        with pytest.raises(asyncpg.PostgresError) as refused:
            await connection.execute(
                "SELECT partitions.ensure_for('agents', 'heartbeat', $1)", LONG_AGO
            )
        assert refused.value.sqlstate == "PK001"
        await connection.execute(HEARTBEAT, datetime.now(UTC))  # others are written meanwhile
    await reader.close()
    assert (await step(settings))[OLD] == ["finish detaching", "move to archive", "drop"]
    assert await place(connection, OLD) == "gone"


async def test_the_session_that_detaches_may_be_killed(
    connection: asyncpg.Connection, database: str, settings: Settings
) -> None:
    await old_heartbeats(connection)
    patient = msgspec.structs.replace(settings, lock_timeout=30.0)
    reader = await asyncpg.connect(database)
    async with reader.transaction():
        await reader.fetch("SELECT count(*) FROM agents.heartbeat")
        detaching = asyncio.create_task(step(patient))

        async def waiting() -> bool:
            return bool(await connection.fetchval(WAITING))

        async def killed() -> bool:
            return bool(
                await connection.fetchval(WAITING.replace("pid", "pg_terminate_backend(pid)", 1))
            )

        await until(waiting)
        async with asyncio.timeout(PATIENCE), opened(database) as (_, sink):
            written = await sink.write(stored_as(events(random.Random(1), KINDS, 50, 50)))
            assert written.new == 50, "whoever writes waits for nobody"
        await until(killed)
        [error] = (await detaching)[OLD]
        assert any(code in error for code in ("57P01", "08003"))
    await reader.close()
    assert await place(connection, OLD) == "detaching"
    assert (await step(settings))[OLD] == ["finish detaching", "move to archive", "drop"]


async def test_one_process_at_a_time(connection: asyncpg.Connection, settings: Settings) -> None:
    await old_heartbeats(connection)
    async with turn(settings, {}):
        async with turn(settings, {}) as second:
            assert second is None
        assert [line async for line in PostgresRetention(settings, CATALOGUE).round()] == []
        assert await place(connection, OLD) == "attached"


async def test_who_does_not_own_the_tables_says_what_to_do(
    connection: asyncpg.Connection, database: str, settings: Settings
) -> None:
    await old_heartbeats(connection)
    worker = msgspec.structs.replace(settings, postgres_dsn=logged_in(database, INGEST))
    with pytest.raises(
        PenstockError, match=r"does not own agents\.heartbeat; set postgres_owner_dsn"
    ):
        [line async for line in PostgresRetention(worker, CATALOGUE).round()]
    assert await place(connection, OLD) == "attached"
    owner = msgspec.structs.replace(worker, postgres_owner_dsn=logged_in(database, OWNER))
    done = [line async for line in PostgresRetention(owner, CATALOGUE).round()]
    assert done == [f"{OLD}: {action}" for action in ("detach", "move to archive", "drop")]


async def test_an_archived_partition_can_be_read_and_not_written(
    connection: asyncpg.Connection, database: str, settings: Settings
) -> None:
    await connection.execute(
        "UPDATE partitions.policy SET archive = true WHERE table_name = 'heartbeat';"
        "CREATE TABLE archive.heartbeat_y2020m02d03 (n int)"
    )
    await old_heartbeats(connection)
    assert (await step(settings))[OLD] == ["detach", "move to archive"]
    worker = await asyncpg.connect(logged_in(database, INGEST))
    name = "archive.agents_heartbeat_y2020m02d03"
    assert await worker.fetchval(f"SELECT count(*) FROM {name}") == 1
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await worker.execute(f"INSERT INTO {name} SELECT * FROM {name}")
    await worker.close()
    await connection.execute(
        "UPDATE partitions.policy SET drop_after = '1 year' WHERE table_name = 'heartbeat'"
    )
    assert (await step(settings))[OLD] == ["drop"]


async def test_a_late_event_of_a_detached_period_is_a_letter_and_its_neighbours_are_stored(
    connection: asyncpg.Connection, database: str, settings: Settings
) -> None:
    await old_heartbeats(connection)
    await step(settings)
    found = events(random.Random(3), KINDS, 9, 9)
    late = msgspec.structs.replace(found[4], time=LONG_AGO)
    async with opened(database) as (_, sink):
        committer = Committer(sink, name="test", retry_for=0, stopping=asyncio.Event())
        batch = stored_as([*found[:4], late, *found[5:]])
        written = await committer.commit(batch)
        assert written.new == 8
        assert [letter.reason for letter in written.letters] == ["period_detached"]
        assert OLD in written.letters[0].error
    assert await place(connection, OLD) == "gone"


def files(settings: Settings) -> list[Path]:
    return list(Path(str(settings.archive_folder)).iterdir())


async def test_an_export_that_cannot_be_written_keeps_the_rows(
    connection: asyncpg.Connection, settings: Settings, tmp_path: Path
) -> None:
    await every_kind(connection, 20)
    nowhere = msgspec.structs.replace(settings, archive_folder=None)
    assert "archive_folder is not set" in (await step(nowhere))[PARTITION][-1]
    (tmp_path / "file").write_text("")
    wrong = msgspec.structs.replace(settings, archive_folder=str(tmp_path / "file"))
    assert "cannot write" in (await step(wrong))[PARTITION][-1]
    assert await place(connection) == "archived"
    await connection.execute(
        'UPDATE archive."Kind of.rows_y2020m02" SET at = \'294276-12-31Z\' WHERE "c.d" = 1'
    )
    assert "later than Parquet can say" in (await step(settings))[PARTITION][-1]
    assert await connection.fetchval('SELECT count(*) FROM archive."Kind of.rows_y2020m02"') == 20
    assert files(settings) == [], "nothing half-written stays"
    await connection.execute('UPDATE archive."Kind of.rows_y2020m02" SET at = NULL')
    assert (await step(settings))[PARTITION] == ["export", "drop"]
