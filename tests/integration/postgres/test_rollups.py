"""Rollups of metrics are what follows from the samples, however late these are and whoever works
it out.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
import pytest

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.schemas.identity import escape
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.ports import Message
from penstock.worker.postgres.jobs import PostgresJobs
from penstock.worker.postgres.pool import open_pool
from penstock.worker.postgres.sink import PostgresSink
from tests.docs.pages import blocks
from tests.docs.sections import ROOT
from tests.support import rollups
from tests.support.batches import stored_as
from tests.support.commands import outside, said
from tests.support.roles import of_worker
from tests.support.rollups import Sent
from tests.support.running import settings_for
from tests.support.waiting import until

CATALOGUE = Catalogue.load()
PAGE = ROOT / "docs" / "telemetry.md"
HOURS = 6
DAY = timedelta(days=1)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    found = await open_pool(
        of_worker(database), size=6, statement_timeout=30, lock_timeout=5, name="test"
    )
    yield found
    await found.close()


@pytest.fixture
async def owner(database: str) -> AsyncIterator[asyncpg.Connection]:
    found = await asyncpg.connect(database, server_settings={"TimeZone": "Asia/Kolkata"})
    yield found
    await found.close()


def midnight() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def samples(seed: int, count: int = 120) -> list[Sent]:
    """Of the last hours of the day before yesterday, and the first ones of yesterday."""
    begin = midnight() - timedelta(days=1, hours=HOURS // 2)
    return rollups.made(random.Random(seed), begin, HOURS, count)


def decoded(sent: Sequence[Sent]) -> list[Event]:
    messages = [
        Message(
            subject=f"metrics.{escape(one.entity)}.recorded",
            body=msgspec.json.encode(
                {
                    "specversion": "1.0",
                    "id": one.id,
                    "source": "/test",
                    "type": "metrics.recorded",
                    "subject": one.entity,
                    "time": one.time,
                    "data": {"scope": one.scope, "samples": one.samples},
                }
            ),
        )
        for one in sent
    ]
    window = Window(CATALOGUE, {}, past="unlimited")
    found = Decoder(CATALOGUE, window, max_bytes=1 << 20).decode(messages)
    return [one for one in found if isinstance(one, Event)]


async def store(pool: asyncpg.Pool, sent: Sequence[Sent]) -> None:
    sink = PostgresSink(pool, CATALOGUE, worker_id="test")
    await sink.prepare()
    await sink.write(stored_as(decoded(sent)))


async def roll_up(pool: asyncpg.Pool) -> list[str]:
    return [name for (name,) in await pool.fetch("SELECT * FROM telemetry.roll_up()")]


async def wrong(pool: asyncpg.Pool) -> list[str]:
    return [name for (name,) in await pool.fetch("SELECT * FROM telemetry.roll_up_again()")]


async def check(pool: asyncpg.Pool, sent: Sequence[Sent]) -> None:
    for step in ("hour", "day"):
        rows = await pool.fetch(f"SELECT r.*, r.tags::text AS tags FROM telemetry.rollup_{step} r")
        named = [{**row, "tags": row["tags"]} for row in map(dict, rows)]
        assert rollups.alike(rollups.read(named), rollups.rolled_up(sent, step)), step


async def test_rollups_equal_those_of_a_program_whatever_comes_late(
    pool: asyncpg.Pool, database: str
) -> None:
    sent = samples(1)
    early, late = sent[:80], sent[80:]
    await store(pool, early)
    jobs = PostgresJobs(pool, settings_for("nats://127.0.0.1:1", of_worker(database)))
    assert "rollup" in await jobs.due()
    done = await jobs.run("rollup")
    assert done is not None
    assert done["changed"] == HOURS + 2
    await check(pool, early)
    assert await roll_up(pool) == await wrong(pool) == []

    await store(pool, [*late, *early[:10]])
    assert await wrong(pool) == [], "what is late is not wrong, as long as it is not rolled up"
    hours = {f"{one.time:%Y-%m-%dT%H}:00Z" for one in late}
    days = {f"{one.time:%Y-%m-%d}" for one in late}
    assert set(await roll_up(pool)) == hours | days
    await check(pool, sent)
    assert await roll_up(pool) == await wrong(pool) == []
    for query in blocks(PAGE, "sql"):
        await pool.fetch(query)


async def test_what_is_not_over_is_not_rolled_up(pool: asyncpg.Pool) -> None:
    now = [one._replace(time=datetime.now(UTC)) for one in samples(2, 5)]
    past = samples(3, 5)
    await store(pool, [*now, *past])
    await roll_up(pool)
    await check(pool, past)


async def test_a_sample_of_a_transaction_that_is_still_open_is_waited_for(
    pool: asyncpg.Pool, owner: asyncpg.Connection
) -> None:
    sent = samples(4)
    await store(pool, sent[1:])
    await owner.execute("SET search_path = telemetry")
    writing = owner.transaction()
    await writing.start()
    first = sent[0]._replace(samples=sent[0].samples[:1])
    [sample] = first.samples
    await owner.execute(
        "INSERT INTO metric"
        " (event_id, n, occurred_at, scope, entity, name, kind, value, unit, tags)"
        " VALUES ($1, 0, $2, $3, $4, $5, $6, $7, $8, $9)",
        *(first.id, first.time, first.scope, first.entity, sample["name"], sample["kind"]),
        *(sample["value"], sample["unit"]),
        None if sample["tags"] is None else msgspec.json.encode(sample["tags"]).decode(),
    )
    rolling = asyncio.create_task(roll_up(pool))

    async def waiting() -> bool:
        found = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        return bool(await owner.fetchval(found))

    await until(waiting)
    await writing.commit()
    assert await rolling != []
    await check(pool, [first, *sent[1:]])


async def test_several_workers_at_once_roll_up_the_same(pool: asyncpg.Pool) -> None:
    sent = samples(5, 200)
    for begin in range(0, 200, 50):
        await asyncio.gather(
            store(pool, sent[begin : begin + 50]), *(roll_up(pool) for _ in range(3))
        )
    await asyncio.gather(*(roll_up(pool) for _ in range(3)))
    await check(pool, sent)
    assert await wrong(pool) == []


async def test_damage_is_named_and_worked_out_anew_as_far_as_there_are_samples(
    pool: asyncpg.Pool, owner: asyncpg.Connection, database: str, nats_url: str
) -> None:
    sent = samples(6)
    await store(pool, sent)
    settings = settings_for(nats_url, database)
    begin = midnight() - timedelta(days=1, hours=1)
    hour, other = (f"{begin + timedelta(hours=n):%Y-%m-%dT%H}:00Z" for n in (0, 2))
    found = await said(settings, "derive", "rollup", code=0)
    assert len(found[0]["keys"]) == HOURS + 2
    assert await said(settings, "derive", "rollup", "--check", code=0) == [
        {"name": "rollup", "keys": []}
    ]
    await owner.execute("UPDATE telemetry.rollup_hour SET sum = 'NaN' WHERE bucket = $1", begin)
    await owner.execute(
        "UPDATE telemetry.rollup_hour SET max = max + 1 WHERE bucket = $1",
        begin + timedelta(hours=2),
    )
    await owner.execute(
        "INSERT INTO telemetry.rollup_hour SELECT bucket, 'more', entity, series, scope, kind,"
        " unit, tags, n, sum, min, max, last, last_at FROM telemetry.rollup_hour"
        " WHERE bucket = $1 LIMIT 1",
        begin,
    )
    await owner.execute("DELETE FROM telemetry.rollup_day WHERE bucket = $1", midnight() - DAY)
    spoilt = await said(settings, "derive", "rollup", "--check", code=1)
    assert spoilt == [{"name": "rollup", "keys": [hour, other, other[:10]]}]
    span = ("--from", begin.isoformat(), "--to", (begin + timedelta(hours=1)).isoformat())
    assert await said(settings, "derive", "rollup", *span, "--check", code=1) == [
        {"name": "rollup", "keys": [hour]}
    ]
    assert await said(settings, "derive", "rollup", "--key", other, "--check", code=1) == [
        {"name": "rollup", "keys": [other, other[:10]]}
    ]
    await said(settings, "derive", "rollup", code=0)
    await said(settings, "derive", "rollup", *span, code=0)
    await said(settings, "derive", "rollup", "--check", code=0)
    await check(pool, sent)
    # A partition of samples is dropped: what it came to stays.
    await owner.execute(
        "DO $$ BEGIN EXECUTE (SELECT format('DROP TABLE %s', p.partition) FROM partitions.partition"
        " AS p WHERE p.table_name = 'metric' AND now() - interval '1 day' >= p.lower_bound"
        " AND now() - interval '1 day' < p.upper_bound); END $$"
    )
    await said(settings, "derive", "rollup", code=0)
    await check(pool, sent)
    for line in blocks(PAGE, "bash")[0].splitlines():
        assert await outside(settings, *line.partition("#")[0].split()[1:]) == 0, line
    for wrongly in (
        ("rollup", "--key", "noon"),
        ("rollup", "--to", "1h"),
        ("tally", "--from", "1h"),
        ("rollup", "--from", "1h", "--to", "2h"),
    ):
        assert await outside(settings, "derive", *wrongly) == 2, wrongly


async def test_no_sample_goes_before_it_is_rolled_up(
    pool: asyncpg.Pool, owner: asyncpg.Connection
) -> None:
    old = datetime.now(UTC) - timedelta(days=100)
    expired = "SELECT table_name FROM partitions.life WHERE expires_at <= now()"
    await pool.fetch("SELECT partitions.ensure_for('telemetry', 'metric', $1)", old)
    assert await pool.fetch(expired) == []
    await owner.execute("UPDATE bus.job SET enabled = false")
    assert [tuple(row) for row in await pool.fetch(expired)] == [("metric",)]
    await owner.execute("UPDATE bus.job SET enabled = true")
    assert await pool.fetch(expired) == []
    await roll_up(pool)
    assert [tuple(row) for row in await pool.fetch(expired)] == [("metric",)]
