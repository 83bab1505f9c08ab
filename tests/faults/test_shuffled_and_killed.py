"""Events of every type at least twice, shuffled, to three workers that are killed all the time.

Tables, derived values and buckets must equal those of one undisturbed worker on the ordered events.
"""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

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
from tests.support.mirror import buckets, expected_buckets
from tests.support.roles import migrated_by_its_owner
from tests.support.rows import OF_THE_SERVER, clocks_of, data_tables, work_out_all
from tests.support.waiting import until
from tests.support.workers import WorkerProcess, environment

PACKAGES = ("shop_events", "league_events")
CATALOGUE = Catalogue.load(PACKAGES)
COUNT = int(os.environ.get("PENSTOCK_TEST_KILLED_EVENTS", "100000"))
WEIGHTS = {"agents.heartbeat": 12, "tasks.updated": 12, "agents.state_set": 10, "messages.sent": 8}

_SECONDS = 1800
"""For draining, on a machine that does much else."""

_UNHEARD = 255
"""What asyncio says of a process that had ended before the loop noticed it."""

_DIGEST = """
SELECT count(*), md5(string_agg(h, '' ORDER BY h))
FROM (SELECT md5((to_jsonb(t) - $1::text[])::text) AS h FROM {table} AS t) AS rows
"""


_ONLY_EVENTS = """
SET session_replication_role = replica;
DELETE FROM audit.log WHERE origin IS DISTINCT FROM 'event'
"""
"""Triggers put on record what migrations did, and when."""


class Servers(NamedTuple):
    """Those of one run, so that neither run sees anything of the other."""

    bus: EmbeddedNats
    dsn: str
    carrier: Carrier

    def settings(self, **more: str) -> dict[str, str]:
        """Of a worker on them. What is told of a result on its way depends on the batches, only the
        result does not: so nothing is told.
        """
        packages = ",".join(PACKAGES)
        given = {"outbox": "false", "event_packages": packages, **self.carrier.settings, **more}
        return environment(self.bus.url, self.dsn, **given)


def make_events(count: int, seed: int) -> list[Message]:
    """Mixed events, each type at least once, about 400 entities, in the order of their making."""
    rng = random.Random(seed)
    kinds = list(CATALOGUE.types.values())
    weights = [WEIGHTS.get(kind.name, 1) for kind in kinds]
    maker = EventMaker(rng, [f"entity-{n}" for n in range(400)], 3000)
    chosen = [*kinds, *rng.choices(kinds, weights, k=count - len(kinds))]
    return [maker.message(kind, number) for number, kind in enumerate(chosen)]


def sent(messages: Sequence[Message]) -> list[Sent]:
    return [(message.subject, message.body, {}) for message in messages]


async def left(servers: Servers) -> dict[str, Any]:
    """What a run has left: for every data table the count of rows and a digest of them, clocks left
    out; letters; and all buckets, which hold what they should. Nothing is still to be worked out.
    """
    views = CATALOGUE.hydrated.values()
    held = await buckets(servers.bus.url, CATALOGUE.buckets)
    assert held == await expected_buckets(servers.dsn, views)
    connection = await asyncpg.connect(servers.dsn)
    assert await connection.fetch("SELECT * FROM bus.due") == []
    for function in CATALOGUE.derived:
        assert await connection.fetch(f"SELECT * FROM {function}()") == [], function
    await work_out_all(connection)
    await connection.execute(_ONLY_EVENTS)
    found: dict[str, Any] = {}
    for table in {*await data_tables(connection)} - {*OF_THE_SERVER}:
        (row,) = await connection.fetch(_DIGEST.format(table=table), clocks_of(table))
        found[table] = tuple(row)
    letters = await connection.fetch("SELECT reason, event_id::text FROM bus.dead_letter")
    await connection.close()
    distinct = sorted({(row[0], row[1]) for row in letters})
    return {**found, "distinct dead letters": (len(distinct), distinct), **counted(held)}


def counted(held: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"bucket {name}": (len(keys), keys) for name, keys in held.items()}


@asynccontextmanager
async def servers(brokers: str) -> AsyncIterator[Servers]:
    async with (
        EmbeddedNats(sync_always=False) as bus,
        EmbeddedPostgres(settings={"fsync": "off"}) as postgres,
        contextlib.AsyncExitStack() as stack,
    ):
        dsn = await postgres.create_database("penstock")
        await migrated_by_its_owner(dsn, PACKAGES)
        carrier: Carrier = Nats(bus.url)
        if brokers != "nats":
            rabbit = await stack.enter_async_context(EmbeddedRabbit())
            both = brokers == "nats,rabbitmq"
            carrier = Both(bus.url, rabbit.url) if both else RabbitMq(rabbit.url)
        yield Servers(bus, dsn, carrier)


async def undisturbed(servers: Servers, messages: Sequence[Message], tmp_path: Path) -> None:
    """One worker on the ordered events."""
    log = tmp_path / "undisturbed.log"
    settings = servers.settings()
    worker = WorkerProcess(settings, log)
    await worker.start("--until-idle", "0.1")
    assert await worker.wait(60) == 0
    await servers.carrier.publish(sent(messages))
    await worker.start()
    async with worker:
        await until(lambda: drained(settings, servers.bus.url), _SECONDS)
        peak = worker.peak_mb()
        assert await worker.stop() == 0
    received, new, duplicate, letters = balance_of(log)
    print(f"\nundisturbed: {received} messages = {new} new + {duplicate} duplicates + ", end="")
    print(f"{letters} letters; {peak:.0f} MB at the peak")
    assert received == new + duplicate + letters >= len(messages)


async def killed(servers: Servers, messages: Sequence[Message], tmp_path: Path, seed: int) -> int:
    """Three workers on every event twice, shuffled; one is killed every second. Returns how many
    were.
    """
    twice = [*messages, *messages]
    random.Random(seed).shuffle(twice)
    async with contextlib.AsyncExitStack() as stack:
        # Workers die by our hand, hundreds of times: no message that this hits is to blame for it.
        settings = servers.settings(batch_size="500", max_crashes="20")
        workers = [WorkerProcess(settings, tmp_path / f"worker-{n}.log") for n in range(3)]
        await workers[0].start("--until-idle", "0.1")
        assert await workers[0].wait(60) == 0
        publishing = asyncio.create_task(servers.carrier.publish(sent(twice)))
        for worker in workers:
            await worker.start()
            await stack.enter_async_context(worker)
        # A few events are stored in the end, however slow the machine; many meet kills throughout.
        killing = asyncio.create_task(kill_in_turn(workers, max(4, len(messages) // 2_000)))
        stack.callback(killing.cancel)
        await publishing
        await until(lambda: drained(settings, servers.bus.url), _SECONDS)
        killing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await killing
        for worker in workers:
            # The last one that was killed may not have been started again, or may not have come to
            # catching signals yet.
            assert await worker.stop() in (0, -signal.SIGTERM, -signal.SIGKILL, _UNHEARD)
        await workers[0].start("--until-idle", "2")
        assert await workers[0].wait(120) == 0
        print_accounts([tmp_path / f"worker-{n}.log" for n in range(3)], len(twice))
    print(f"  {len(PEAKS)} were killed, {max(PEAKS):.0f} MB at the peak")
    return len(PEAKS)


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
        PEAKS.append(worker.peak_mb())
        await worker.kill()
        await worker.start()


async def at_work(worker: WorkerProcess) -> None:
    """Wait until it has stored something, or has found nothing for some time."""

    async def stored() -> bool:
        return worker.said("batch_written")

    with contextlib.suppress(AssertionError):
        await until(stored, 10)


PEAKS: list[float] = []
"""Of each worker that was killed, in MB."""


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
    PEAKS.clear()
    messages = make_events(count, seed)
    async with servers("nats") as ordered, servers(brokers) as shuffled:
        await undisturbed(ordered, messages, tmp_path)
        kills = await killed(shuffled, messages, tmp_path, seed)
        # Both at once: some of it is as of the hour.
        expected, found = await left(ordered), await left(shuffled)
    assert {name: rows for name, rows in found.items() if rows != expected[name]} == {}
    print(f"{count} events of {len(CATALOGUE.types)} types twice; rows:")
    for name, (rows, _) in sorted(found.items()):
        print(f"  {name}: {rows}")
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
    assert await compare(COUNT, 2, tmp_path, brokers) >= 10
