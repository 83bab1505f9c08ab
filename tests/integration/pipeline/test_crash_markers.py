"""A message that ends workers is found and kept; an outage makes no good event a poison message."""

import asyncio
from pathlib import Path

import asyncpg
import msgspec
import nats
import pytest

from penstock.worker.commands.requeue import Correction, requeue
from penstock.worker.embedded import EmbeddedPostgres
from penstock.worker.errors import Unavailable
from penstock.worker.pipeline.ports import Message
from penstock.worker.postgres.crash_marks import PostgresCrashMarkers
from penstock.worker.postgres.letter_box import Filter
from penstock.worker.postgres.pool import open_pool
from penstock.worker.settings.keys import Settings
from tests.integration.pipeline.test_malformed import HEARTBEAT, TASK, body
from tests.support.carriers import Carrier, Nats, RabbitMq
from tests.support.roles import migrated_by_its_owner
from tests.support.running import running, settings_for
from tests.support.waiting import PATIENCE, until
from tests.support.workers import WorkerProcess, environment

_DEADLY = """
import asyncio, os
from penstock.worker.cli import main
from penstock.worker.pipeline.commit import Committer
from penstock.worker.pipeline.decode import Decoder
decode, commit = Decoder.decode, Committer.commit

def deadly(self, messages):
    if any(b"deadly" in message.body for message in messages):
        os._exit(9)
    if any(b"faulty" in message.body for message in messages):
        raise RuntimeError("a fault of our own")
    return decode(self, messages)

async def slow(self, batch):
    await asyncio.sleep(0.5 * any(b"slow" in message.body for message in batch.messages))
    return await commit(self, batch)

Decoder.decode, Committer.commit = deadly, slow
main()
"""
"""A worker that dies of certain messages, as it would of one that takes all memory, fails at others
by an error of its own, and needs long for others."""


def slow() -> bytes:
    return body(type="tasks.updated", data={"status": "running"}, source="slow")


async def counts(dsn: str) -> tuple[int, list[str]]:
    """Stored heartbeats, and the reasons of the dead letters that are not stored since."""
    connection = await asyncpg.connect(dsn)
    stored = await connection.fetchval("SELECT count(*) FROM agents.heartbeat")
    letters = await connection.fetch(
        "SELECT reason FROM bus.dead_letter WHERE status <> 'stored' ORDER BY reason"
    )
    await connection.close()
    return stored, [row[0] for row in letters]


class WithHeaders(Message, kw_only=True):
    """A message of some broker."""

    raw_headers: bytes


class Way(msgspec.Struct, frozen=True):
    """A broker, and what the worker is told about it."""

    carrier: Carrier
    settings: dict[str, str]


@pytest.fixture(
    params=[
        "jetstream",
        pytest.param("quorum", marks=pytest.mark.faults),
        pytest.param("stream", marks=pytest.mark.faults),
        pytest.param("classic", marks=pytest.mark.faults),
    ]
)
def way(request: pytest.FixtureRequest) -> Way:
    if request.param == "jetstream":
        carrier: Carrier = Nats(request.getfixturevalue("nats_url"))
        return Way(carrier, {"ack_wait": "1s", "heartbeat": "300ms", "watch_after": "1"})
    carrier = RabbitMq(request.getfixturevalue("rabbit_url"))
    more = {"rabbitmq_queue_type": request.param, "kv": "false"}
    return Way(carrier, {**carrier.settings, **more})


async def lives(worker: WorkerProcess) -> int:
    """How often the worker died until it came to rest."""
    for deaths in range(12):
        await worker.start("--until-idle", "0.3")
        if await worker.wait(120) == 0:
            return deaths
    raise AssertionError("it dies for ever")


async def all_requeued(settings: Settings) -> int:
    """The exit code of sending every letter again as it came."""
    return await requeue(
        settings, Filter(), Correction(), wait=PATIENCE, dry_run=False, as_json=True
    )


async def test_what_workers_fail_at_becomes_letters_and_is_stored_once_they_are_mended(
    way: Way, nats_address: str, database: str, tmp_path: Path
) -> None:
    settings = environment(nats_address, database, max_crashes="2", **way.settings)
    deadly, faulty = body(source="deadly"), body(source="faulty")
    async with WorkerProcess(settings, tmp_path / "log", program=("-c", _DEADLY)) as worker:
        assert await lives(worker) == 0
        await way.carrier.publish(
            [(HEARTBEAT, one, {}) for one in (body(), deadly, faulty, body())]
        )
        # In another queue, and in work whenever the worker dies: it must not be taken for guilty.
        await way.carrier.publish([(TASK, slow(), {})])
        assert await lives(worker) >= 2
        await way.carrier.publish([(HEARTBEAT, body(), {})])
        assert await lives(worker) == 0
    assert await counts(database) == (3, ["crashes_workers", "internal_error"])
    assert await left_in(database) == (1, 0)
    mended = settings_for(nats_address, database, **way.settings)
    async with running(mended):
        operator = msgspec.structs.replace(mended, postgres_dsn=database)
        assert await all_requeued(operator) == 0
    assert await counts(database) == (5, [])


async def test_a_marker_that_postgresql_did_not_delete_is_no_crash(database: str) -> None:
    message = Message(subject=HEARTBEAT, body=body())
    pool = await open_pool(database, size=2, statement_timeout=30, lock_timeout=5, name="test")
    markers = PostgresCrashMarkers(pool, asyncio.Lock(), transport="nats", stream="AGENT_STATE")
    with pytest.raises(Unavailable):
        async with markers.handling([message]):
            await pool.execute("ALTER TABLE bus.crash_marker RENAME TO away")
    await pool.execute("ALTER TABLE bus.away RENAME TO crash_marker")
    assert await markers.crashes([message]) == [0]
    await pool.close()


@pytest.mark.parametrize(
    "other",
    [
        Message(subject=TASK, body=b"same"),
        WithHeaders(subject=HEARTBEAT, body=b"same", raw_headers=b"ce-id: 2"),
    ],
    ids=["subject", "headers"],
)
async def test_a_message_is_not_marked_for_the_crash_of_one_with_an_equal_body(
    database: str, other: Message
) -> None:
    one = WithHeaders(subject=HEARTBEAT, body=b"same", raw_headers=b"ce-id: 1")
    pool = await open_pool(database, size=2, statement_timeout=30, lock_timeout=5, name="test")
    markers = PostgresCrashMarkers(pool, asyncio.Lock(), transport="rabbitmq", stream="TASKS")
    async with markers.handling([one]):  # and until then the worker may crash
        assert await markers.crashes([other, one]) == [0, 1]
    await pool.close()


async def left_in(dsn: str) -> tuple[int, int]:
    """Tasks stored, and crash markers that remain."""
    connection = await asyncpg.connect(dsn)
    tasks = await connection.fetchval("SELECT count(*) FROM tasks.task")
    markers = await connection.fetchval("SELECT count(*) FROM bus.crash_marker")
    await connection.close()
    return tasks, markers


async def test_an_outage_makes_no_dead_letters(nats_url: str, tmp_path: Path) -> None:
    async with EmbeddedPostgres(settings={"fsync": "off"}) as postgres:
        dsn = await postgres.create_database("penstock")
        await migrated_by_its_owner(dsn)
        settings = environment(
            nats_url, dsn, retry_for="100ms", nack_delay="100ms", watch_after="1", max_crashes="2"
        )
        async with WorkerProcess(settings, tmp_path / "log") as worker:
            await worker.start()
            await until(lambda: worker.said("worker_started"))
            postgres.kill()
            await Nats(nats_url).publish([(HEARTBEAT, body(), {}) for _ in range(50)])
            await until(lambda: delivered_often(nats_url, 5))
            await postgres.restart()

            async def recovered() -> bool:
                return (await counts(dsn))[0] == 50

            await until(recovered)
            assert await counts(dsn) == (50, [])
            assert await worker.stop() == 0


async def delivered_often(url: str, times: int) -> bool:
    """True once the consumer has delivered 50 messages that often on average."""
    async with await nats.connect(url) as nc:
        info = await nc.jetstream().consumer_info("AGENT_STATE", "penstock")
        assert info.delivered is not None
        return bool(info.delivered.consumer_seq >= 50 * times)
