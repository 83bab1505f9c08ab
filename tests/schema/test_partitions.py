"""Partitions are there before their rows, made once, and named after their period."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from tests.support.waiting import PATIENCE, until


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    found = await asyncpg.connect(database, server_settings={"TimeZone": "Asia/Tokyo"})
    yield found
    await found.close()


async def ensure(connection: asyncpg.Connection, table: str, moment: datetime) -> str:
    schema, name = table.split(".")
    made = await connection.fetchval(
        "SELECT partitions.ensure_for($1, $2, $3)", schema, name, moment
    )
    return str(made)


@pytest.mark.parametrize(
    ("table", "moment", "expected"),
    [
        ("agents.heartbeat", datetime(2031, 12, 5, 23, 59, tzinfo=UTC), "heartbeat_y2031m12d05"),
        ("events.log_tasks", datetime(2031, 12, 31, 23, 59, tzinfo=UTC), "log_tasks_y2031m12"),
        ("tasks.execution", datetime(2000, 1, 1, tzinfo=UTC), "execution_y2000m01"),
    ],
)
async def test_periods_are_of_utc_whatever_the_session_says(
    connection: asyncpg.Connection, table: str, moment: datetime, expected: str
) -> None:
    name = await ensure(connection, table, moment)
    assert name == f"{table.partition('.')[0]}.{expected}"
    bounds = "SELECT lower_bound, upper_bound FROM partitions.partition WHERE partition::text = $1"
    ((lower, upper),) = await connection.fetch(bounds, name)
    assert lower <= moment < upper
    assert lower.astimezone(UTC).hour == 0
    assert await ensure(connection, table, moment) == name


async def test_weeks_are_iso_weeks(connection: asyncpg.Connection) -> None:
    """The 29th of December 2031 is a Monday, and of the first week of 2032."""
    period = "SELECT partitions.period('week', $1)"
    lower, upper, suffix = await connection.fetchval(period, datetime(2032, 1, 2, tzinfo=UTC))
    assert (lower, suffix) == (datetime(2031, 12, 29, tzinfo=UTC), "_y2032w01")
    assert upper - lower == timedelta(days=7)


async def test_a_partition_has_its_parents_indexes_and_rules(
    connection: asyncpg.Connection,
) -> None:
    name = await ensure(connection, "agents.heartbeat", datetime(2040, 1, 1, tzinfo=UTC))
    count = "SELECT count(*) FROM pg_index WHERE indrelid = $1::regclass"
    assert await connection.fetchval(count, name) == await connection.fetchval(
        count, "agents.heartbeat"
    )
    await connection.execute(
        "INSERT INTO agents.heartbeat (event_id, occurred_at, agent_id)"
        " VALUES (gen_random_uuid(), '2040-01-01Z', gen_random_uuid())"
    )
    assert await connection.fetchval(f"SELECT recorded_at IS NOT NULL FROM {name}")
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute("UPDATE agents.heartbeat SET status = 'nonsense'")


async def test_many_at_once_make_one(database: str) -> None:
    connections = [await asyncpg.connect(database) for _ in range(8)]
    moment = datetime(2050, 6, 1, tzinfo=UTC)
    made = await asyncio.gather(*(ensure(c, "events.log_agents", moment) for c in connections))
    assert set(made) == {"events.log_agents_y2050m06"}
    await asyncio.gather(*(c.fetch("SELECT partitions.maintain()") for c in connections))
    for connection in connections:
        await connection.close()


async def test_writers_of_other_partitions_go_on_meanwhile(database: str) -> None:
    writer = await asyncpg.connect(database)
    maker = await asyncpg.connect(database)
    insert = (
        "INSERT INTO agents.heartbeat (event_id, occurred_at, agent_id)"
        " VALUES (gen_random_uuid(), now(), gen_random_uuid())"
    )
    async with maker.transaction():
        await ensure(maker, "agents.heartbeat", datetime(2045, 1, 1, tzinfo=UTC))
        async with asyncio.timeout(PATIENCE), writer.transaction():
            await writer.execute(insert)
    assert await writer.fetchval("SELECT count(*) FROM agents.heartbeat") == 1
    await writer.close()
    await maker.close()


async def test_maintain_covers_the_last_and_the_coming_periods(
    connection: asyncpg.Connection,
) -> None:
    rows = await connection.fetch(
        "SELECT p.schema_name, p.table_name, p.premake, count(q.*) AS made,"
        " min(lower_bound) <= now() - ('1 ' || \"interval\")::interval AS back"
        " FROM partitions.policy p JOIN partitions.partition q USING (schema_name, table_name)"
        " GROUP BY p.schema_name, p.table_name"
    )
    assert len(rows) == await connection.fetchval("SELECT count(*) FROM partitions.policy") > 10
    for row in rows:
        assert row["made"] == row["premake"] + 2, row["table_name"]
        assert row["back"], row["table_name"]


async def test_one_table_that_fails_does_not_stop_the_others(
    connection: asyncpg.Connection,
) -> None:
    said: list[str] = []
    connection.add_log_listener(lambda _, message: said.append(message.message))
    await connection.execute(
        'INSERT INTO partitions.policy (schema_name, table_name, column_name, "interval")'
        " VALUES ('agents', 'absent', 'occurred_at', 'day');"
        " UPDATE partitions.policy SET premake = 9 WHERE table_name = 'heartbeat'"
    )
    made = {name for (name,) in await connection.fetch("SELECT partitions.maintain()")}
    assert len([name for name in made if name.startswith("agents.heartbeat_")]) == 11

    async def told() -> bool:
        return any("agents.absent" in text for text in said)

    await until(told)


async def test_a_table_without_policy_is_named(connection: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.UndefinedObjectError, match=r"agents\.agent"):
        await ensure(connection, "agents.agent", datetime(2030, 1, 1, tzinfo=UTC))


async def test_a_detached_partition_is_not_silently_made_again(
    connection: asyncpg.Connection,
) -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    name = await ensure(connection, "tasks.execution", moment)
    await connection.execute(f"ALTER TABLE tasks.execution DETACH PARTITION {name}")
    with pytest.raises(asyncpg.PostgresError, match=r"execution_y2030m01 was detached") as refused:
        await ensure(connection, "tasks.execution", moment)
    assert refused.value.sqlstate == "PK001"


async def test_what_is_older_than_its_table_keeps_is_expired(
    connection: asyncpg.Connection,
) -> None:
    expired = (
        "SELECT table_name, archive FROM partitions.life"
        " WHERE expires_at <= now() ORDER BY table_name"
    )
    assert await connection.fetch(expired) == []
    old = datetime.now(UTC) - timedelta(days=400)
    for table in ("messages.message", "agents.heartbeat"):
        await ensure(connection, table, old)
    found = await connection.fetch(expired)
    assert [tuple(row) for row in found] == [("heartbeat", False), ("message", True)]
