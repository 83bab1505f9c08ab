"""An alert is raised once, gets worse once and is over once, whoever looks, whatever is silent."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import asyncpg
import msgspec
import pytest

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.schemas.identity import escape
from penstock.worker.finding import Verdict
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.ports import Message
from penstock.worker.postgres.alerts import alert_findings, open_alerts
from penstock.worker.postgres.jobs import PostgresJobs
from penstock.worker.postgres.pool import open_pool
from tests.support.commands import said
from tests.support.roles import OWNER, of_worker
from tests.support.running import settings_for

CATALOGUE = Catalogue.load()
SAMPLE = """
INSERT INTO telemetry.metric (event_id, n, occurred_at, entity, name, value, tags)
VALUES (gen_random_uuid(), 0, clock_timestamp() - $3::text::interval, $1, 'queue', $2, $4)
RETURNING occurred_at
"""
OPEN = """
SELECT thing, level, value, threshold, good FROM monitoring.alert
WHERE resolved_at IS NULL ORDER BY thing
"""


@pytest.fixture
async def owner(database: str) -> AsyncIterator[asyncpg.Connection]:
    """Who has a threshold of his own, and is asked for no other one by the clock."""
    found = await asyncpg.connect(database, server_settings={"TimeZone": "Asia/Kolkata"})
    await found.execute("UPDATE monitoring.alert_threshold SET enabled = false")
    await found.execute(
        "INSERT INTO monitoring.alert_threshold (metric, warning, critical, channels)"
        """ VALUES ('queue', 10, 20, '["ops"]')"""
    )
    yield found
    await found.close()


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    found = await open_pool(
        of_worker(database), size=4, statement_timeout=30, lock_timeout=5, name="test"
    )
    yield found
    await found.close()


async def sample(
    owner: asyncpg.Connection, value: float, thing: str = "a", ago: str = "0", tags: str = "{}"
) -> datetime:
    when: datetime = await owner.fetchval(SAMPLE, thing, value, ago, tags)
    return when


async def look(pool: asyncpg.Pool, metric: str = "queue") -> list[str]:
    """What changed."""
    rows = await pool.fetch("SELECT * FROM monitoring.evaluate($1)", [metric])
    return [name for (name,) in rows]


async def standing(owner: asyncpg.Connection) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await owner.fetch(OPEN)]


async def told(owner: asyncpg.Connection) -> list[dict[str, Any]]:
    """The data of the events in the outbox, each of which a worker takes; and empty it."""
    rows = await owner.fetch(
        "DELETE FROM bus.outbox RETURNING outbox_id, event_id::text, type, key, data::text, time"
    )
    found = []
    for _, event_id, kind, key, data, time in sorted(map(tuple, rows)):
        body = {"specversion": "1.0", "id": event_id, "source": "/penstock/derived", "type": kind}
        body |= {"subject": key, "time": time, "data": msgspec.json.decode(data)}
        domain, verb = kind.split(".")
        sent = Message(subject=f"{domain}.{escape(key)}.{verb}", body=msgspec.json.encode(body))
        (event,) = Decoder(CATALOGUE, Window(CATALOGUE, {}), max_bytes=1 << 20).decode([sent])
        assert isinstance(event, Event), event
        assert body["data"].pop("channels") == ["ops"]
        found.append({"verb": verb, "key": key, **body["data"]})
    return found


async def test_once_raised_once_worse_and_over_after_two_good_values(
    owner: asyncpg.Connection, pool: asyncpg.Pool
) -> None:
    assert await look(pool) == []
    await sample(owner, 25, ago="16 minutes")  # too old to count
    assert await look(pool) == []
    await sample(owner, 25, ago="5 minutes")
    await sample(owner, 10)
    await sample(owner, 99, thing="b", tags='{"disk": "/"}')
    assert await look(pool) == ["queue a", 'queue b {"disk": "/"}']
    assert await look(pool) == []
    raised = {"verb": "raised", "key": "queue", "level": "warning", "value": 10, "threshold": 10}
    worse = {**raised, "level": "critical", "threshold": 20}
    other = {**worse, "thing": 'b {"disk": "/"}', "value": 99}
    assert await told(owner) == [{**raised, "thing": "a"}, other]

    await sample(owner, 20)
    assert await look(pool) == ["queue a"]
    await sample(owner, 15)
    assert await look(pool) == []
    assert (await standing(owner))[0] == ("a", "critical", 15, 20, 0)
    assert await told(owner) == [{**worse, "thing": "a", "value": 20}]

    await sample(owner, 9)
    assert await look(pool) == await look(pool) == []  # one value, though seen twice
    await sample(owner, 11)
    assert await look(pool) == []
    for _ in range(2):
        assert (await standing(owner))[0][0] == "a"
        await sample(owner, 1)
        changed = await look(pool)
    assert changed == ["queue a"]
    over = {"verb": "resolved", "key": "queue", "thing": "a", "value": 1, "reason": "good"}
    assert await told(owner) == [over]

    await sample(owner, 12)
    assert await look(pool) == ["queue a"], "another one"
    assert await told(owner) == [{**raised, "thing": "a", "value": 12}]
    assert await owner.fetchval("SELECT count(*) FROM monitoring.alert") == 3


async def test_what_is_silent_stays_open_for_a_day_and_what_is_withdrawn_ends_at_once(
    owner: asyncpg.Connection, pool: asyncpg.Pool
) -> None:
    await sample(owner, 12)
    await sample(owner, 12, thing="b")
    assert len(await look(pool)) == 2
    await told(owner)
    await owner.execute("DELETE FROM telemetry.metric")
    later = (
        "UPDATE monitoring.alert SET last_seen = last_seen - $1::text::interval WHERE thing = 'a'"
    )
    await owner.execute(later, "23 hours")
    assert await look(pool) == []
    await owner.execute(later, "2 hours")
    assert await look(pool) == ["queue a"]
    over = {"verb": "resolved", "key": "queue", "thing": "a", "reason": "silent"}
    assert await told(owner) == [over]
    await owner.execute("UPDATE monitoring.alert_threshold SET enabled = false")
    assert await look(pool) == ["queue b"]
    assert await told(owner) == [{**over, "thing": "b", "reason": "withdrawn"}]
    assert await standing(owner) == []
    await owner.execute(
        "UPDATE monitoring.alert SET resolved_at = resolved_at - '91 days'::interval"
    )
    await look(pool)
    assert await owner.fetchval("SELECT count(*) FROM monitoring.alert") == 0


async def test_two_at_once_raise_it_once_and_who_is_killed_leaves_it_to_the_next(
    owner: asyncpg.Connection, pool: asyncpg.Pool
) -> None:
    await sample(owner, 12)
    async with pool.acquire() as killed:
        work = killed.transaction()
        await work.start()
        assert await killed.fetch("SELECT * FROM monitoring.evaluate()")
        await work.rollback()
    found = await asyncio.gather(*(look(pool) for _ in range(4)))
    assert sorted(found) == [[], [], [], ["queue a"]]
    assert len(await told(owner)) == len(await standing(owner)) == 1
    [alert] = await open_alerts(pool)
    assert alert.startswith("warning alert: queue a is 12, the limit is 10, since 20")
    assert [one.verdict for one in alert_findings([alert])] == [Verdict.BAD]


async def test_the_clock_asks_for_what_is_due_and_a_command_for_all(
    owner: asyncpg.Connection, pool: asyncpg.Pool, database: str, nats_url: str
) -> None:
    jobs = PostgresJobs(pool, settings_for("nats://127.0.0.1:1", of_worker(database)))
    assert "alerts" in await jobs.due()
    await owner.execute(
        "UPDATE monitoring.alert_threshold SET direction = 'below', critical = 5"
        " WHERE metric = 'queue'"
    )
    again = "UPDATE bus.job SET last_run = NULL WHERE name = 'alerts'"
    looked = "UPDATE bus.job SET mark = jsonb_set(mark, '{looked,queue}', to_jsonb($1::text))"
    runs = []
    for value, at in ((50, None), (4, None), (3, "2200-01-01T00:00:00Z"), (2, None)):
        await sample(owner, value)
        await owner.execute(again)
        if at:  # a clock was set back
            await owner.execute(looked, at)
        done = await jobs.run("alerts")
        assert done is not None
        runs.append(done["changed"])
    assert runs == [0, 0, 1, 0]
    assert await standing(owner) == [("a", "critical", 3, 5, 0)]
    settings = settings_for(nats_url, database)
    assert await said(settings, "derive", "alerts", "--key", "queue", code=0) == [
        {"name": "alerts", "keys": []}
    ]
    assert await standing(owner) == [("a", "critical", 2, 5, 0)]


async def test_what_the_server_measures_itself(
    owner: asyncpg.Connection, pool: asyncpg.Pool, database: str
) -> None:
    limits = {
        **dict.fromkeys(("connection_pool_usage_percent", "query_execution_time_ms"), 1e-9),
        "long_running_transactions_minutes": 1e-9,
        "deadlock_count_per_hour": 5,
    }
    for metric, limit in limits.items():
        await owner.execute(
            "UPDATE monitoring.alert_threshold SET enabled = true, warning = $2 WHERE metric = $1",
            *(metric, limit),
        )
        assert await look(pool, metric) == ([metric] if limit < 1 and "pool" in metric else [])
    counters = """
    UPDATE bus.job SET mark = jsonb_build_object('counters', jsonb_build_array(jsonb_build_object(
        'at', now() - interval '50 minutes', 'deadlocks', s.deadlocks - 5,
        'hit', s.blks_hit - 900 + $1, 'blocks', s.blks_hit + s.blks_read - 1000000
    ))) FROM pg_stat_database AS s WHERE s.datname = current_database() AND name = 'alerts'
    """
    await owner.execute(counters, 0)
    reading = "SELECT value FROM monitoring.reading WHERE metric = 'cache_hit_ratio'"
    assert await pool.fetchval(reading) < 1
    assert await look(pool, "deadlock_count_per_hour") == ["deadlock_count_per_hour"]
    await owner.execute(counters, 10**9)  # a server whose statistics have begun anew
    assert await pool.fetchval(reading) is None
    async with owner.transaction():
        await owner.execute("LOCK TABLE bus.replay")
        waits = asyncio.create_task(pool.execute("SELECT FROM bus.replay"))
        blocked = "SELECT relation, statement FROM monitoring.blocked WHERE $1 = ANY (blocked_by)"
        own = owner.get_server_pid()
        watcher = await asyncpg.connect(database)
        while not (found := await watcher.fetch(blocked, own)):
            assert not waits.done()
        assert [tuple(row) for row in found] == [("bus.replay", "SELECT FROM bus.replay")]
        for metric in ("query_execution_time_ms", "long_running_transactions_minutes"):
            assert await look(pool, metric) == [metric]
    await waits
    await watcher.execute(f"REVOKE pg_read_all_stats FROM {OWNER}")
    try:
        health = "SELECT check_name, status FROM monitoring."
        unknown = [
            tuple(row)
            for check in ("health", "check_connections")
            for row in await pool.fetch(f"{health}{check}() ORDER BY 1")
        ]
    finally:
        await watcher.execute(f"GRANT pg_read_all_stats TO {OWNER}")
    assert unknown == [
        ("active_connections", "unknown"),
        ("database_gb", "healthy"),
        ("missing_partitions", "healthy"),
        ("replication_lag_s", "unknown"),
        ("connections_percent", "healthy"),
        ("idle_in_transaction", "unknown"),
    ]
    await watcher.execute("UPDATE config.parameter SET value = 0 WHERE name LIKE 'health.%'")
    known = {
        row["check_name"]: row["status"]
        for check in ("health", "check_connections")
        for row in await pool.fetch(f"{health}{check}()")
    }
    assert known.pop("idle_in_transaction") == known.pop("missing_partitions") == "healthy"
    assert set(known.values()) == {"unhealthy"}
    await watcher.close()


@pytest.mark.parametrize(
    ("columns", "constraint"),
    [
        ("warning = NULL, critical = NULL", "has_a_limit"),
        ("warning = 30", "critical_is_worse"),
        ("direction = 'below'", "critical_is_worse"),
        ("warning = 'NaN', critical = NULL", "limits_are_numbers"),
        ("fresh = '2 days'", "silence_outlasts_samples"),
    ],
)
async def test_a_threshold_that_makes_no_sense_is_refused(
    owner: asyncpg.Connection, columns: str, constraint: str
) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await owner.execute(
            f"UPDATE monitoring.alert_threshold SET {columns} WHERE metric = 'queue'"
        )
    assert refused.value.constraint_name == constraint


async def test_tags_that_no_index_takes_are_a_thing_too(
    owner: asyncpg.Connection, pool: asyncpg.Pool
) -> None:
    tags = {f"tag-{n}": secrets.token_hex(100) for n in range(40)}
    await sample(owner, 30, "a", tags=msgspec.json.encode(tags).decode())
    await sample(owner, 30, "b")
    assert len(await look(pool)) == 2
    assert len(await standing(owner)) == 2


async def test_a_look_reads_the_samples_that_are_fresh(owner: asyncpg.Connection) -> None:
    """The job runs every few seconds, beside millions of older samples."""
    await owner.execute(
        "INSERT INTO telemetry.metric (event_id, n, occurred_at, entity, name, value, tags)"
        " SELECT gen_random_uuid(), 0, now() - interval '20 hours' - n * interval '1 s', 'a',"
        " 'queue', 1, '{}' FROM generate_series(1, 30000) AS n"
    )
    await owner.execute("ANALYZE telemetry.metric")
    before = await blocks(owner)
    await owner.fetch("SELECT * FROM monitoring.readings_of('queue', interval '15 minutes')")
    assert await blocks(owner) - before < 100


async def blocks(owner: asyncpg.Connection) -> int:
    """How many blocks of samples have been looked at."""
    await owner.execute("SELECT pg_stat_force_next_flush()")
    found: int = await owner.fetchval(
        "SELECT sum(heap_blks_hit + heap_blks_read) FROM pg_statio_all_tables"
        " WHERE schemaname = 'telemetry' AND relname LIKE 'metric%'"
    )
    return found
