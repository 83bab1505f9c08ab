"""The outbox on real servers: what is committed goes out, once, in order, whoever relays."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from penstock.worker.app import Worker
from penstock.worker.ending import end
from penstock.worker.finding import Finding, Verdict
from penstock.worker.outbox.relay import watch
from penstock.worker.postgres.examine import findings
from penstock.worker.postgres.outbox import PostgresOutbox
from penstock.worker.postgres.upkeep import PostgresUpkeep
from penstock.worker.settings.keys import Settings
from tests.support.killed_relays import Run
from tests.support.outbox import (
    NatsTap,
    RabbitTap,
    Tap,
    Written,
    by_key,
    first_copies,
    insert,
    waiting,
)
from tests.support.running import running, settings_for
from tests.support.waiting import until
from tests.support.workers import WorkerProcess, environment


class Scene(msgspec.Struct):
    """A broker, a database, and what a worker between them has to be told."""

    given: Mapping[str, str]
    nats_url: str
    dsn: str
    tap: Tap
    client: asyncpg.Connection

    @property
    def settings(self) -> Settings:
        return settings_for(self.nats_url, self.dsn, **self.given)

    async def row(self, event_id: str) -> Any:
        query = "SELECT * FROM bus.outbox WHERE event_id = $1::uuid"
        return await self.client.fetchrow(query, event_id)

    async def published(self, event_id: str) -> bool:
        return (await self.row(event_id))["published_at"] is not None

    async def none_waits(self) -> bool:
        return await waiting(self.dsn) == 0


RABBITMQ_LATER = pytest.mark.parametrize(
    "broker", ["nats", pytest.param("rabbitmq", marks=pytest.mark.faults)], indirect=True
)
"""For what is the same for the worker, whichever broker it is."""


@pytest.fixture(params=["nats", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Its name, and the address of a server without anything of Penstock."""
    fixture = {"nats": "nats_url", "rabbitmq": "rabbit_url"}[request.param]
    return request.param, request.getfixturevalue(fixture)


@pytest_asyncio.fixture
async def scene(broker: tuple[str, str], nats_address: str, database: str) -> AsyncIterator[Scene]:
    name, address = broker
    tap: Any = NatsTap(address) if name == "nats" else RabbitTap(address)
    given = {"brokers": name, "kv": "false"}
    if name == "rabbitmq":
        given["rabbitmq_url"] = address
    client = await asyncpg.connect(database)
    async with tap:
        yield Scene(given, nats_address, database, tap, client)
    await client.close()


@pytest_asyncio.fixture
async def on_nats(nats_url: str, database: str) -> AsyncIterator[Scene]:
    client = await asyncpg.connect(database)
    yield Scene({"kv": "false"}, nats_url, database, NatsTap(nats_url), client)
    await client.close()


async def stored(scene: Scene) -> int:
    found: int = await scene.client.fetchval(
        "SELECT count(DISTINCT event_id) FROM events.log WHERE event_id IN "
        "(SELECT event_id FROM bus.outbox)"
    )
    return found


async def test_committed_rows_go_out_once_in_order_and_are_stored(scene: Scene) -> None:
    written = Written()
    async with running(scene.settings):
        await asyncio.gather(*[written.write(scene.dsn, n, 150, 7) for n in range(3)])
        await until(scene.none_waits)
        await until(lambda: _is(stored(scene), written.count))
    heard = await scene.tap.heard()
    assert by_key(heard) == written.committed
    assert not written.undone & {event.id for event in heard}


async def told_of(scene: Scene) -> list[Finding]:
    """What doctor says about the outbox."""
    return [found async for found in findings(scene.settings) if "of bus.outbox" in found.text]


async def _is(found: Any, wanted: object) -> bool:
    assert await found == wanted
    return True


async def test_attributes_travel(on_nats: Scene) -> None:
    await on_nats.client.execute(
        """
        INSERT INTO bus.outbox
            (type, key, data, time, sequence, source, actor, project, correlationid, causationid)
        VALUES ('tasks.updated', 'a.b ü', '{"status": "failed", "error": "no disk"}',
                now() - interval '1 minute', 7, '/billing', 'a-1', 'p-1', 'c-1', 'c-2')
        """
    )
    await insert(on_nats.client, "plain", 0)
    async with running(on_nats.settings):
        await until(on_nats.none_waits)
    full, plain = await on_nats.tap.heard()
    assert full.subject == "a.b ü"
    assert (full.sequence, full.source, full.actor, full.project) == (7, "/billing", "a-1", "p-1")
    assert (full.correlationid, full.causationid) == ("c-1", "c-2")
    assert full.time == await on_nats.client.fetchval("SELECT min(time) FROM bus.outbox")
    assert (plain.actor, plain.project, plain.correlationid) == (None, None, None)
    assert plain.source.startswith("/postgresql/")


async def test_a_row_that_commits_late_is_sent_though_greater_numbers_went_before(
    scene: Scene,
) -> None:
    other = await asyncpg.connect(scene.dsn)
    async with running(scene.settings):
        late = other.transaction()
        await late.start()
        first = await insert(other, "late", 1)
        second = await insert(scene.client, "quick", 1)
        await until(lambda: scene.published(second))
        assert [event.id for event in await scene.tap.heard()] == [second]
        await late.commit()
        await until(lambda: scene.published(first))
    await other.close()
    assert [event.id for event in await scene.tap.heard()] == [second, first]


@RABBITMQ_LATER
async def test_one_of_two_workers_relays_and_the_other_takes_over(scene: Scene) -> None:
    written = Written()
    async with AsyncExitStack() as stack:
        gone = await stack.enter_async_context(running(scene.settings))
        await stack.enter_async_context(running(scene.settings))
        await written.write(scene.dsn, 0, 150, 1)
        await until(scene.none_waits)
        assert by_key(await scene.tap.heard()) == written.committed
        # Whichever has the turn loses it; jobs and sums take turns of their own.
        lost = await scene.client.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_locks, "
            "CAST(hashtextextended('penstock.outbox', 0) AS bit(64)) AS turn "
            "WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database()) "
            "AND (classid::bigint::bit(32) || objid::bigint::bit(32)) = turn"
        )
        assert len(lost) == 1
        await written.write(scene.dsn, 1, 50, 2)
        await until(scene.none_waits)
        assert isinstance(gone, Worker)
    assert by_key(first_copies(await scene.tap.heard())) == written.committed


@RABBITMQ_LATER
async def test_killed_between_publishing_and_marking(scene: Scene, tmp_path: Path) -> None:
    """The row is locked by another client, so that it can be read and not be marked."""
    worker = WorkerProcess(
        environment(scene.nats_url, scene.dsn, **scene.given, lock_timeout="20s"),
        tmp_path / "worker.log",
    )
    sent = await insert(scene.client, "t-1", 1)
    async with worker:
        async with scene.client.transaction():
            await scene.client.fetch("SELECT 1 FROM bus.outbox FOR UPDATE")
            await worker.start()
            await until(lambda: _has_heard(scene, sent))
            await worker.kill()
            # A session notices that its client is gone only when its statement is over.
            await until(lambda: _is(_workers_sessions(scene.dsn), 0))
        assert not await scene.published(sent)
        await worker.start()
        await until(lambda: scene.published(sent))
        await until(lambda: _is(stored(scene), 1))
    assert {event.id for event in await scene.tap.heard()} == {sent}
    query = "SELECT count(*) FROM events.log"
    assert await scene.client.fetchval(query) == 1


async def _workers_sessions(dsn: str) -> int:
    """How many there are; each is told to end."""
    client = await asyncpg.connect(dsn)
    try:
        found = await client.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'penstock %'"
        )
    finally:
        await client.close()
    return len(found)


async def _has_heard(scene: Scene, event_id: str) -> bool:
    try:
        return event_id in [event.id for event in await scene.tap.heard()]
    except Exception as not_yet:
        raise AssertionError(not_yet) from not_yet


@RABBITMQ_LATER
async def test_what_is_no_event_is_refused_with_the_reason_and_delays_nothing(
    scene: Scene,
) -> None:
    client = scene.client
    unknown = await insert(client, "t-1", 1, kind="tasks.exploded")
    nowhere = await insert(client, "t-1", 1, kind="weather.changed")
    wrong = await insert(client, "t-1", 1, data={"status": "melted"})
    large = await insert(client, "t-1", 1, data={"status": "failed", "error": "x" * 2_000_000})
    future = await insert(client, "t-1", 1)
    await client.execute(
        "UPDATE bus.outbox SET time = now() + interval '1 year' WHERE event_id = $1::uuid", future
    )
    good = await insert(client, "t-1", 2)
    async with running(scene.settings):
        await until(lambda: scene.published(good))
        await until(scene.none_waits)
        reasons = [(await scene.row(i))["reason"] for i in (unknown, nowhere, wrong, large, future)]
        assert reasons == ["unknown_type", "unknown_type", "invalid_data", "too_large", "future"]
        told = await told_of(scene)
        assert told[0].verdict is Verdict.BAD
        assert told[0].text.startswith("5 rows of bus.outbox are refused")
        # Mended and given back, it goes out.
        await client.execute(
            """
            UPDATE bus.outbox SET data = '{"status": "failed"}', refused_at = NULL
            WHERE event_id = $1::uuid
            """,
            wrong,
        )
        await client.execute("NOTIFY penstock_outbox")  # or the worker looks within five seconds
        await until(lambda: scene.published(wrong))
    assert [event.id for event in await scene.tap.heard()] == [good, wrong]


async def test_what_the_broker_refuses_is_named_and_delays_nothing(scene: Scene) -> None:
    """For RabbitMQ a key that is too long as a routing key, for NATS a subject without a stream."""
    given = {**scene.given, "streams": "AGENT_STATE"}
    scene = msgspec.structs.replace(scene, given=given)
    await scene.client.execute("UPDATE bus.job SET enabled = false")  # they send events, too
    refused = await insert(scene.client, "ü" * 250, 1)
    data = {"activity_type": "test"}
    good = await insert(scene.client, "a-1", 1, kind="agents.activity", data=data)
    async with running(scene.settings) as worker:
        await until(scene.none_waits)
        row = await scene.row(refused)
        assert await scene.published(good)
        assert row["reason"] == "publish_refused"
        assert "tasks." in row["error"]
        counted = worker._metrics.registry.get_sample_value
        name = "penstock_outbox_rows_total"
        await until(lambda: counted(name, {"outcome": "refused"}) == 1)
        assert counted(name, {"outcome": "published"}) == 1
        outbox = PostgresOutbox(worker.store.pool, scene.settings)
        looking = asyncio.create_task(watch(outbox, worker._metrics))  # the worker's looks later
        await until(lambda: counted("penstock_outbox_refused_rows") == 1)
        assert counted("penstock_outbox_waiting_rows") == 0
        await end(looking)


@pytest.mark.parametrize(
    "values",
    [
        "'tasks', 't-1', '{}'",
        "'tasks.>', 't-1', '{}'",
        "'tasks.updated', '', '{}'",
        "'tasks.updated', 't-1', '[]'",
    ],
)
async def test_what_no_catalogue_takes_fails_for_its_client(database: str, values: str) -> None:
    client = await asyncpg.connect(database)
    with pytest.raises(asyncpg.CheckViolationError):
        await client.execute(f"INSERT INTO bus.outbox (type, key, data) VALUES ({values})")
    await client.close()


async def test_an_application_needs_the_right_to_insert_and_no_other(on_nats: Scene) -> None:
    client = on_nats.client
    role = f"app_{on_nats.dsn.rpartition('_')[2]}"
    await client.execute(f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA bus TO {role}")
    await client.execute(f"GRANT INSERT (type, key, data) ON bus.outbox TO {role}")
    try:
        await client.execute(f"SET ROLE {role}")
        await client.execute(
            "INSERT INTO bus.outbox (type, key, data) "
            """VALUES ('tasks.updated', 't-1', '{"status": "running"}')"""
        )
        for statement in (
            "SELECT * FROM bus.outbox",
            "DELETE FROM bus.outbox",
            "INSERT INTO bus.outbox (type, key, published_at) VALUES ('a.b', 'c', now())",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await client.execute(statement)
        await client.execute("RESET ROLE")
        async with running(on_nats.settings):
            await until(on_nats.none_waits)
    finally:
        await client.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


async def test_published_rows_are_forgotten_when_their_time_is_over(database: str) -> None:
    async with asyncpg.create_pool(database, min_size=1, max_size=2) as pool:
        await pool.execute(
            """
            INSERT INTO bus.outbox (type, key, published_at, refused_at)
            SELECT 'tasks.updated', n::text,
                   CASE WHEN n <= 12000 THEN now() - interval '2 days'
                        WHEN n <= 12010 THEN now() END,
                   CASE WHEN n > 12020 THEN now() - interval '9 days' END
            FROM generate_series(1, 12030) AS n
            """
        )
        await PostgresUpkeep(pool, outbox_keep=timedelta(days=1)).maintain()
        query = "SELECT array_agg(key::int ORDER BY outbox_id) FROM bus.outbox"
        assert await pool.fetchval(query) == list(range(12_001, 12_031))


async def test_doctor_names_what_waits_for_long(on_nats: Scene) -> None:
    await insert(on_nats.client, "t-1", 1)
    told = await told_of(on_nats)
    assert [(f.verdict, f.text) for f in told] == [(Verdict.GOOD, "1 rows of bus.outbox wait")]
    await on_nats.client.execute("UPDATE bus.outbox SET recorded_at = now() - interval '1 hour'")
    (late,) = await told_of(on_nats)
    assert late.verdict is Verdict.BAD
    assert "the oldest for 36" in late.text
    assert late.remedy in [found.remedy async for found in findings(on_nats.settings)]


async def test_off_means_off(on_nats: Scene) -> None:
    scene = msgspec.structs.replace(on_nats, given={"kv": "false", "outbox": "false"})
    sent = await insert(scene.client, "t-1", 1)
    async with running(scene.settings) as worker:
        assert not worker._relaying
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert "outbox" not in names
    assert not await scene.published(sent)


@RABBITMQ_LATER
async def test_the_worker_is_killed_while_rows_are_written(scene: Scene, tmp_path: Path) -> None:
    """In small what tests/faults/test_outbox.py does at length."""
    given = {name: value for name, value in scene.given.items() if name != "kv"}
    run = Run(scene.nats_url, scene.dsn, given, tmp_path / "worker.log")
    await run.work(rows=400, kills=1, seed=5)
    await run.check(scene.tap)
