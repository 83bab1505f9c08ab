"""Retention takes partitions out of their tables, whoever is killed or writes meanwhile."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from penstock.worker.cli import main
from penstock.worker.errors import PenstockError
from penstock.worker.pipeline.commit import Committer
from penstock.worker.postgres.life import lives
from penstock.worker.postgres.retention import Keeper, PostgresRetention, turn
from penstock.worker.settings.keys import Settings
from tests.integration.postgres.test_failover import opened
from tests.integration.postgres.test_sink import CATALOGUE, events
from tests.support.batches import stored_as
from tests.support.partitions import LONG_AGO, PARTITION, TABLE, every_kind
from tests.support.roles import INGEST, OWNER, logged_in
from tests.support.running import settings_for
from tests.support.waiting import until

ROWS = 3_210


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    found = await asyncpg.connect(database)
    yield found
    await found.close()


@pytest.fixture
def settings(database: str, tmp_path: Path) -> Settings:
    folder = str(tmp_path / "archive")
    return settings_for("nats://127.0.0.1:1", database, archive_folder=folder, lock_timeout="300ms")


def penstock(settings: Settings, *arguments: str) -> tuple[int, Any]:
    """What a command says, as JSON if it did not fail, and its exit code."""
    dsn = ["--postgres-dsn", settings.postgres_dsn]
    folder = ["--archive-folder", str(settings.archive_folder)]
    said = CliRunner().invoke(main, ["partitions", *arguments, *dsn, *folder, "--json"])
    assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
    text = said.output if said.exit_code == 2 else json.loads(said.stdout)
    return said.exit_code, text


async def command(settings: Settings, *arguments: str) -> tuple[int, Any]:
    return await asyncio.to_thread(penstock, settings, *arguments)


async def contents(connection: asyncpg.Connection) -> list[str]:
    return [
        text for (text,) in await connection.fetch(f"SELECT t::text FROM {TABLE} AS t ORDER BY id")
    ]


async def place(connection: asyncpg.Connection, name: str = PARTITION) -> str:
    [life] = [life for life in await lives(connection, gone=True) if life.title == name]
    return life.place


async def test_a_partition_goes_to_a_file_and_comes_back_as_it_was(
    connection: asyncpg.Connection, settings: Settings
) -> None:
    await every_kind(connection, ROWS)
    before = await contents(connection)
    assert len(before) == ROWS

    code, said = await command(settings, "maintain")
    assert code == 2
    assert "--yes" in said
    code, planned = await command(settings, "maintain", "--dry-run")
    steps = [step["action"] for step in planned if step["partition"] == PARTITION]
    assert (code, steps) == (0, ["detach", "move to archive", "export", "drop"])
    assert await contents(connection) == before

    code, done = await command(settings, "maintain", "--yes")
    assert code == 0, done
    assert await contents(connection) == []
    assert await place(connection) == "gone"
    assert (await command(settings, "maintain")) == (0, [])

    file = Path(str(settings.archive_folder)) / f"{PARTITION}.parquet"
    read = pq.read_table(file)
    assert read.num_rows == ROWS
    assert read["n2"][0].as_py() == "1.50"
    assert read["occurred_at"].cast("int64")[0].as_py() % 1_000_000 > 789_012

    code, _ = await command(settings, "import", str(file))
    assert code == 0
    assert await contents(connection) == before
    assert await place(connection) == "attached"
    assert (await command(settings, "maintain")) == (0, []), "it is left alone for a while"
    code, said = await command(settings, "import", str(file))
    assert code == 2
    assert "holds this period already" in said


OLD = "agents.heartbeat_y2020m02d03"
HEARTBEAT = (
    "INSERT INTO agents.heartbeat (event_id, occurred_at, agent_id)"
    " VALUES (gen_random_uuid(), $1, gen_random_uuid())"
)


async def old_heartbeats(connection: asyncpg.Connection) -> None:
    await connection.execute("SELECT partitions.ensure_for('agents', 'heartbeat', $1)", LONG_AGO)
    await connection.execute(HEARTBEAT, LONG_AGO)


async def step(settings: Settings) -> dict[str, list[str]]:
    """What one turn does, by partition; an error in its words."""
    done: dict[str, list[str]] = {}
    async with turn(settings, {}) as keeper:
        assert isinstance(keeper, Keeper)
        for life, actions in await keeper.plan():
            async for taken in keeper.carry_out(life, actions):
                done.setdefault(life.title, []).append(taken.error or taken.action)
    return done


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

        async def killed() -> bool:
            return bool(
                await connection.fetchval(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE query LIKE '%DETACH%' AND wait_event_type = 'Lock'"
                )
            )

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
        code, said = await command(settings, "maintain", "--yes")
        assert (code, "another process" in said) == (2, True)
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
    found = events(random.Random(3), ["agents.heartbeat"], 9, 9)
    late = msgspec.structs.replace(found[4], time=LONG_AGO)
    async with opened(database) as (_, sink):
        committer = Committer(sink, name="test", retry_for=0, stopping=asyncio.Event())
        batch = stored_as([*found[:4], late, *found[5:]])
        written = await committer.commit(batch)
        assert written.new == 8
        assert [letter.reason for letter in written.letters] == ["period_detached"]
        assert OLD in written.letters[0].error
    assert await place(connection, OLD) == "gone"
