"""Every event at least twice, shuffled, to three workers that are killed all the time.

The tables and the bucket must equal those of one undisturbed worker on the ordered events.
"""

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
import asyncpg
import nats
import pytest

from penstock.schemas.catalogue import Catalogue
from penstock.worker.embedded import EmbeddedNats, EmbeddedPostgres
from penstock.worker.embedded.rabbitmq import EmbeddedRabbit
from penstock.worker.pipeline.ports import Message
from tests.support.accounts import balance_of
from tests.support.carriers import Both, Carrier, Nats, RabbitMq, Sent
from tests.support.generated import EventMaker
from tests.support.mirror import bucket, expected_bucket
from tests.support.roles import migrated_by_its_owner
from tests.support.rows import data_tables
from tests.support.waiting import until
from tests.support.workers import WorkerProcess, environment

CATALOGUE = Catalogue.load()
WEIGHTS = {"agents.heartbeat": 12, "tasks.updated": 12, "agents.state_set": 10, "messages.sent": 8}

_UNHEARD = 255
"""What asyncio says of a process that had ended before the loop noticed it."""

_DIGEST = """
SELECT count(*), md5(string_agg(h, '' ORDER BY h))
FROM (SELECT md5((to_jsonb(t) - ARRAY['recorded_at', 'updated_at', 'last_run'])::text) AS h
      FROM {table} AS t) AS rows
"""


def make_events(count: int, seed: int) -> list[Message]:
    """Mixed events of every type about 400 entities, in the order of their making."""
    rng = random.Random(seed)
    kinds = list(CATALOGUE.types.values())
    weights = [WEIGHTS.get(kind.name, 1) for kind in kinds]
    maker = EventMaker(rng, [f"entity-{n}" for n in range(400)], 3000)
    chosen = rng.choices(kinds, weights, k=count)
    return [maker.message(kind, number) for number, kind in enumerate(chosen)]


def sent(messages: Sequence[Message]) -> list[Sent]:
    return [(message.subject, message.body, {}) for message in messages]


async def digests(dsn: str) -> dict[str, Any]:
    """For every data table the count of rows and a digest of them, clocks left out."""
    connection = await asyncpg.connect(dsn)
    found: dict[str, Any] = {}
    for table in await data_tables(connection):
        (row,) = await connection.fetch(_DIGEST.format(table=table))
        found[table] = tuple(row)
    letters = await connection.fetch("SELECT reason, event_id::text FROM bus.dead_letter")
    found["distinct dead letters"] = sorted({(row[0], row[1]) for row in letters})
    await connection.close()
    return found


@asynccontextmanager
async def servers(brokers: str) -> AsyncIterator[tuple[EmbeddedNats, str, Carrier]]:
    """Servers of their own, so that neither run sees anything of the other."""
    async with (
        EmbeddedNats(sync_always=False) as bus,
        EmbeddedPostgres(settings={"fsync": "off"}) as postgres,
        contextlib.AsyncExitStack() as stack,
    ):
        dsn = await postgres.create_database("penstock")
        await migrated_by_its_owner(dsn)
        carrier: Carrier = Nats(bus.url)
        if brokers != "nats":
            rabbit = await stack.enter_async_context(EmbeddedRabbit())
            both = brokers == "nats,rabbitmq"
            carrier = Both(bus.url, rabbit.url) if both else RabbitMq(rabbit.url)
        yield bus, dsn, carrier


async def undisturbed(messages: Sequence[Message], tmp_path: Path) -> tuple[Any, Any]:
    """One worker on the ordered events."""
    async with servers("nats") as (bus, dsn, carrier):
        log = tmp_path / "undisturbed.log"
        worker = WorkerProcess(environment(bus.url, dsn, outbox="false"), log)
        await worker.start("--until-idle", "0.1")
        await worker.wait(60)
        await carrier.publish(sent(messages))
        await worker.start("--until-idle", "2")
        assert await worker.wait(300) == 0
        held = await bucket(bus.url)
        assert held == await expected_bucket(dsn)
        assert balance_of(log)[0] >= len(messages)
        return await digests(dsn), held


async def killed(
    messages: Sequence[Message], tmp_path: Path, seed: int, brokers: str
) -> tuple[Any, Any, int]:
    """Three workers on every event twice, shuffled; one is killed every second."""
    twice = [*messages, *messages]
    random.Random(seed).shuffle(twice)
    async with servers(brokers) as (bus, dsn, carrier), contextlib.AsyncExitStack() as stack:
        # Workers die by our hand, hundreds of times: no message that this hits is to blame for it.
        # What is told of a result on its way depends on the batches; only the result does not.
        given = {"batch_size": "200", "max_crashes": "20", "outbox": "false", **carrier.settings}
        settings = environment(bus.url, dsn, **given)
        workers = [WorkerProcess(settings, tmp_path / f"worker-{n}.log") for n in range(3)]
        await workers[0].start("--until-idle", "0.1")
        await workers[0].wait(60)
        publishing = asyncio.create_task(carrier.publish(sent(twice)))
        for worker in workers:
            await worker.start()
            await stack.enter_async_context(worker)
        # A few events are stored in the end, however slow the machine; many meet kills throughout.
        killing = asyncio.create_task(kill_in_turn(workers, max(10, len(messages) // 500)))
        stack.callback(killing.cancel)
        await publishing
        await until(lambda: drained(settings, bus.url), 600)
        killing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await killing
        kills = len(KILLS)
        for worker in workers:
            # The last one that was killed may not have been started again, or may not have come to
            # catching signals yet.
            assert await worker.stop() in (0, -signal.SIGTERM, -signal.SIGKILL, _UNHEARD)
        await workers[0].start("--until-idle", "2")
        assert await workers[0].wait(120) == 0
        print_accounts([tmp_path / f"worker-{n}.log" for n in range(3)], len(twice))
        held = await bucket(bus.url)
        assert held == await expected_bucket(dsn)
        return await digests(dsn), held, kills


def print_accounts(logs: Sequence[Path], published: int) -> None:
    """Each batch that was settled comes out even; nobody tells of what a killed worker settled."""
    received, new, duplicate, letters = map(sum, zip(*map(balance_of, logs), strict=True))
    print(f"\n{published} published to each broker; the workers that lived to tell settled")
    print(f"  {received} messages = {new} new + {duplicate} duplicates + {letters} letters")
    assert received == new + duplicate + letters > 0


async def kill_in_turn(workers: Sequence[WorkerProcess], times: int) -> None:
    """One every second, at work; every fourth wherever it is, that is also while it starts.

    On a slow machine they would otherwise all be dead before they have begun.
    """
    for turn in range(times):
        await asyncio.sleep(1.0)
        worker = workers[turn % len(workers)]
        if turn % 4:
            await at_work(worker)
        await worker.kill()
        await worker.start()
        KILLS.append(turn)


async def at_work(worker: WorkerProcess) -> None:
    """Wait until it has stored something, or has found nothing for some time."""

    async def stored() -> bool:
        return worker.said("batch_written")

    with contextlib.suppress(AssertionError):
        await until(stored, 10)


KILLS: list[int] = []


async def drained(settings: Mapping[str, str], url: str) -> bool:
    """True once no broker has anything to deliver, nor waits for an acknowledgement as far as it
    tells: RabbitMQ does not, so a last worker takes what killed ones held.
    """
    brokers = settings.get("PENSTOCK_BROKERS", "nats")
    if "rabbitmq" in brokers and await ready(settings["PENSTOCK_RABBITMQ_URL"]):
        return False
    if "nats" not in brokers:
        return True
    async with await nats.connect(url) as nc:
        js = nc.jetstream()
        infos = [await js.consumer_info(stream, "penstock") for stream in CATALOGUE.streams]
    return not any(info.num_pending or info.num_ack_pending for info in infos)


async def ready(url: str) -> int:
    """Messages in the queues that nobody has got."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queues = [await channel.declare_queue(name, passive=True) for name in CATALOGUE.streams]
        return sum(queue.declaration_result.message_count or 0 for queue in queues)


async def compare(count: int, seed: int, tmp_path: Path, brokers: str) -> int:
    """Both runs on the same events. Returns how many workers were killed."""
    KILLS.clear()
    messages = make_events(count, seed)
    rows, keys = await undisturbed(messages, tmp_path)
    disturbed_rows, disturbed_keys, kills = await killed(messages, tmp_path, seed, brokers)
    assert disturbed_rows == rows
    assert disturbed_keys == keys
    print(f"\n{count} events twice, {kills} workers killed, {len(keys)} keys; rows:")
    for table, found in rows.items():
        print(f"  {table}: {found[0] if table != 'distinct dead letters' else len(found)}")
    return kills


BROKERS = pytest.mark.parametrize("brokers", ["nats", "rabbitmq", "nats,rabbitmq"])


@pytest.mark.parametrize(
    "brokers",
    [
        "nats",
        pytest.param("rabbitmq", marks=pytest.mark.faults),
        pytest.param("nats,rabbitmq", marks=pytest.mark.faults),
    ],
)
async def test_a_few_thousand_events(tmp_path: Path, brokers: str, rabbitmq_package: None) -> None:
    assert rabbitmq_package is None
    await compare(1_000, 1, tmp_path, brokers)


@pytest.mark.faults
@BROKERS
async def test_a_hundred_thousand_events(
    tmp_path: Path, brokers: str, rabbitmq_package: None
) -> None:
    assert rabbitmq_package is None
    assert await compare(100_000, 2, tmp_path, brokers) > 10
