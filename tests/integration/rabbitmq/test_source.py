"""RabbitMQ as a source: topology, few rights, retries, stream queues and their offsets."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import aio_pika
import asyncpg
import pytest
from pamqp.commands import Basic

from penstock.schemas.catalogue import Catalogue
from penstock.worker.embedded.rabbitmq import EmbeddedRabbit
from penstock.worker.errors import SettingsError, TopologyError
from penstock.worker.finding import Verdict
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.ports import Message
from penstock.worker.postgres.offsets import PostgresOffsets
from penstock.worker.postgres.pool import open_pool
from penstock.worker.postgres.sink import PostgresSink
from penstock.worker.rabbitmq import topology
from penstock.worker.rabbitmq.broker import RabbitMqBroker
from penstock.worker.rabbitmq.connection import connect, open_channel
from penstock.worker.rabbitmq.link import Link
from penstock.worker.rabbitmq.message import RabbitMqMessage
from penstock.worker.rabbitmq.options import RabbitOptions, ReadingOptions
from penstock.worker.rabbitmq.source import RabbitMqSource
from penstock.worker.rabbitmq.stream import RabbitMqStreamSource, Start
from penstock.worker.rabbitmq.topology import Kind, QueuePlan
from penstock.worker.settings.keys import load
from tests.support.waiting import PATIENCE, stays, until

CATALOGUE = Catalogue.load()
QUEUE = "AGENT_STATE"
BATCH = 50
AHEAD = 4 * BATCH
"""Of a stream, messages that a worker holds at most: three batches in work and the next one."""


def plan(kind: Kind = "quorum", **more: Any) -> QueuePlan:
    return QueuePlan(name=QUEUE, subjects=("agents.>", "sessions.>"), kind=kind, **more)


@pytest.fixture
async def control(rabbit_url: str) -> AsyncIterator[aio_pika.RobustConnection]:
    connection = await connect(RabbitOptions(url=rabbit_url), name="test")
    yield connection
    await connection.close()


async def publish(
    control: aio_pika.RobustConnection, bodies: Sequence[bytes], **properties: Any
) -> None:
    async with open_channel(control, confirms=True) as channel:
        for body in bodies:
            await channel.basic_publish(
                body,
                exchange=topology.EXCHANGE,
                routing_key="agents.a-1.heartbeat",
                properties=Basic.Properties(delivery_mode=2, **properties),
                mandatory=True,
            )


def source_of(control: aio_pika.RobustConnection, url: str, **more: Any) -> RabbitMqSource:
    given = {"batch_size": 100, "batch_bytes": 1 << 20, "linger": 0.01, **more}
    return RabbitMqSource(
        control, RabbitOptions(url=url, heartbeat=1), QUEUE, ReadingOptions(**given)
    )


async def bodies_of(source: RabbitMqSource, count: int) -> list[bytes]:
    found: list[bytes] = []
    async with asyncio.timeout(PATIENCE):
        while len(found) < count:
            batch = await source.fetch()
            await batch.ack()
            found += [message.body for message in batch.messages]
    return found


async def test_provision_makes_everything_once_and_a_dry_run_nothing(
    control: aio_pika.RobustConnection,
) -> None:
    missing = await topology.provision(control, [plan()], dry_run=True)
    assert all(difference.missing and not difference.fixed for difference in missing)
    with pytest.raises(TopologyError, match=f"queue {QUEUE}: missing"):
        await topology.check(control, [plan()])
    made = await topology.provision(control, [plan()])
    assert [d.what for d in made] == [d.what for d in missing]
    assert all(difference.fixed for difference in made)
    assert await topology.provision(control, [plan()]) == []
    assert await topology.check(control, [plan()]) == []


async def test_a_queue_of_another_kind_is_named_with_all_that_differs(
    control: aio_pika.RobustConnection,
) -> None:
    await topology.provision(control, [plan("quorum")])
    found = await topology.provision(control, [plan("classic")])
    differing = {d.what.rpartition(" ")[2]: (d.found, d.wanted) for d in found}
    assert differing["x-queue-type"] == ("quorum", "classic")
    assert differing["x-delivery-limit"] == (str(topology.DELIVERY_LIMIT), "none")
    assert not any(d.fatal for d in found), "a worker can read either"
    with pytest.raises(TopologyError, match="x-queue-type: found quorum, wanted stream"):
        await topology.check(control, [plan("stream")])


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("x-message-ttl", 60_000, "what waits longer is taken out"),
        ("x-expires", 600_000, "is deleted, with what it holds"),
        ("x-max-length", 1_000, "dropped or refused"),
        ("x-max-length-bytes", 1 << 20, "dropped or refused"),
        ("x-overflow", "drop-head", "drops the oldest message"),
        ("x-dead-letter-exchange", "elsewhere", "goes elsewhere"),
        ("x-dead-letter-routing-key", "other", "goes elsewhere"),
        ("x-delivery-limit", 3, "gives up what was returned so often"),
    ],
)
async def test_an_argument_that_can_lose_a_message_is_named(
    control: aio_pika.RobustConnection, argument: str, value: Any, said: str
) -> None:
    async with open_channel(control) as channel:
        arguments = {**plan().arguments, argument: value}
        await channel.queue_declare(QUEUE, durable=True, arguments=arguments)
    await topology.provision(control, [plan()])
    found = {d.what: d for d in await topology.provision(control, [plan()], dry_run=True)}
    difference = found[f"queue {QUEUE}: {argument}"]
    assert difference.found == str(value)
    assert said in difference.remedy


async def test_an_alternate_exchange_is_named(control: aio_pika.RobustConnection) -> None:
    async with open_channel(control) as channel:
        await channel.exchange_declare(
            topology.EXCHANGE,
            exchange_type="topic",
            durable=True,
            arguments={"alternate-exchange": "elsewhere"},
        )
    [found] = [d for d in await topology.provision(control, [plan()]) if not d.missing]
    assert found.what == "exchange events: alternate-exchange"
    assert "its publisher is not told" in found.remedy


@pytest.mark.parametrize("kind", ["quorum", "classic"])
async def test_what_rabbitmq_itself_gave_up_is_counted_and_named(
    rabbit_url: str, control: aio_pika.RobustConnection, kind: Kind
) -> None:
    await topology.provision(control, [plan(kind)])
    settings = load({"rabbitmq_url": rabbit_url}, environ={})
    broker = RabbitMqBroker(control, settings, [plan(kind)])
    assert [one for one in await broker.examine() if one.verdict is not Verdict.GOOD] == []
    await publish(control, [b"%d" % n for n in range(3)], expiration="1")
    source = source_of(control, rabbit_url)

    async def counted() -> bool:
        return (await source.backlog()).given_up == 3

    await until(counted)
    [finding] = [one for one in await broker.examine() if one.verdict is Verdict.BAD]
    assert "penstock.dead holds 3 messages" in finding.text


async def test_a_user_without_the_right_to_configure_can_work_and_check(
    rabbit: EmbeddedRabbit, rabbit_url: str, control: aio_pika.RobustConnection
) -> None:
    user = f"reader-{uuid4().hex[:6]}"
    await rabbit.control("add_user", user, "pw")
    await rabbit.control("set_permissions", user, "^$", r"^(amq\.default|penstock\..*)$", ".*")
    url = rabbit_url.replace("guest:guest", f"{user}:pw")
    poor = await connect(RabbitOptions(url=url), name="poor")
    try:
        with pytest.raises(TopologyError, match=r"queue AGENT_STATE.*no right to configure"):
            await topology.provision(poor, [plan()])
        await topology.provision(control, [plan()])
        [note] = await topology.provision(poor, [plan()])
        assert note.note
        assert await topology.check(poor, [plan()]) == [note]
        await publish(control, [b"x"])
        async with source_of(poor, url) as source:
            await (await source.fetch()).nack(0.5)
            assert await bodies_of(source, 1) == [b"x"]
            assert (await source.backlog()).ack_pending == 0
    finally:
        await poor.close()


async def test_a_missing_queue_is_said_at_the_start(
    rabbit_url: str, control: aio_pika.RobustConnection
) -> None:
    with pytest.raises(TopologyError, match="penstock provision"):
        async with source_of(control, rabbit_url):
            raise AssertionError


async def test_a_copy_for_later_keeps_headers_and_leaves_out_what_would_stop_it(
    rabbit_url: str, control: aio_pika.RobustConnection
) -> None:
    await topology.provision(control, [plan()])
    headers = {"cloudEvents:type": "agents.heartbeat", "CC": ["agents.a-2.heartbeat"]}
    await publish(control, [b"x"], headers=headers, user_id="guest", message_id="m-1")
    async with source_of(control, rabbit_url) as source:
        found = await source.fetch()
        first, *others = found.messages
        await found.part(others).ack()
        await found.part([first]).nack(0.2)
        batch = await asyncio.wait_for(source.fetch(), PATIENCE)
        [again] = batch.messages
        assert isinstance(again, RabbitMqMessage)
        assert again.subject == first.subject
        assert again.headers["cloudEvents:type"] == "agents.heartbeat"
        assert again.raw_headers == first.raw_headers
        assert b"m-1" in again.raw_headers
        assert again.digest == first.digest
        assert again.deliveries == 2
        await batch.ack()
        await until(lambda: empty(source))


async def test_without_retry_queues_a_message_waits_here_and_is_not_lost(
    rabbit_url: str, control: aio_pika.RobustConnection
) -> None:
    await topology.provision(control, [plan()])
    for seconds in topology.RETRY_SECONDS:
        async with open_channel(control) as channel:
            await channel.queue_delete(topology.retry_queue(QUEUE, seconds))
    await publish(control, [b"x"])
    async with source_of(control, rabbit_url) as source:
        begun = time.monotonic()
        await (await source.fetch()).nack(0.4)
        assert await bodies_of(source, 1) == [b"x"]
        assert time.monotonic() - begun >= 0.4


async def empty(source: RabbitMqSource) -> bool:
    backlog = await source.backlog()
    return backlog.pending == 0 and backlog.ack_pending == 0


async def test_what_was_settled_out_of_order_stays_settled_when_the_worker_leaves(
    rabbit_url: str, control: aio_pika.RobustConnection
) -> None:
    await topology.provision(control, [plan()])
    bodies = [b"%d" % n for n in range(2000)]
    await publish(control, bodies)
    settled: list[bytes] = []
    for _ in range(5):
        async with source_of(control, rabbit_url) as source:
            batches = [await source.fetch() for _ in range(3)]
            for batch in reversed(batches):
                await batch.ack()
                settled += [message.body for message in batch.messages]
    async with source_of(control, rabbit_url) as source:
        rest = await bodies_of(source, len(bodies) - len(settled))
    assert sorted(settled + rest) == sorted(bodies)


async def test_what_is_read_ahead_is_bounded_by_bytes(
    rabbit_url: str, control: aio_pika.RobustConnection
) -> None:
    await topology.provision(control, [plan()])
    bodies = [b"%03d" % n + b"." * 100_000 for n in range(150)]
    await publish(control, bodies)
    async with source_of(control, rabbit_url, batch_bytes=300_000, batch_size=1000) as source:
        first = await source.fetch()
        await until(lambda: paused(source))
        await first.ack()
        assert source._intake.size < 5_000_000
        # Though the watchdog has its say several times.
        await stays(lambda: not link_of(source).lost.is_set(), 3)
        rest = await bodies_of(source, len(bodies) - len(first))
        assert sorted([message.body for message in first.messages] + rest) == bodies
        assert source.healthy


async def paused(source: RabbitMqSource) -> bool:
    return source._paused


def link_of(source: RabbitMqSource) -> Link:
    assert source._link is not None
    return source._link


def test_tls_files_without_amqps_are_refused() -> None:
    with pytest.raises(SettingsError, match="not amqps"):
        RabbitOptions(url="amqp://u:secret@host/", tls_ca="ca.pem").tls()
    assert "secret" not in RabbitOptions(url="amqp://u:secret@host/").redacted


# Stream queues.


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await open_pool(database, size=3, statement_timeout=30, lock_timeout=5, name="test")
    yield pool
    await pool.close()


class Reader:
    """Reads a stream queue and commits the offsets as the sink does, with each batch.

    Batches are as long as what has come, so it may read more than it was asked for.
    """

    def __init__(self, source: RabbitMqStreamSource, pool: asyncpg.Pool) -> None:
        self.source = source
        self.epoch = ""
        self._pool = pool

    async def read(self, count: int) -> list[int]:
        return [message.offset or 0 for message in await self.read_messages(count)]

    async def read_messages(self, count: int) -> list[Message]:
        messages: list[Message] = []
        async with asyncio.timeout(PATIENCE):
            while len(messages) < count:
                batch = await self.source.fetch()
                await commit(self._pool, batch)
                await batch.ack()
                self.epoch = batch.epoch
                messages += batch.messages
        return messages


async def commit(pool: asyncpg.Pool, batch: Batch) -> None:
    """Nothing but where the batch stood: these messages are no events."""
    await PostgresSink(pool, CATALOGUE, worker_id="test").write(batch)


@asynccontextmanager
async def reading(
    control: aio_pika.RobustConnection, url: str, pool: asyncpg.Pool, start: Start = None
) -> AsyncIterator[Reader]:
    source = RabbitMqStreamSource(
        control,
        RabbitOptions(url=url, heartbeat=1),
        QUEUE,
        ReadingOptions(batch_size=BATCH, batch_bytes=1 << 20, linger=0.01),
        offsets=PostgresOffsets(pool, transport="rabbitmq", worker_id="test"),
        start=start,
    )
    async with source:
        yield Reader(source, pool)


async def test_reading_goes_on_where_it_was_committed(
    rabbit_url: str, control: aio_pika.RobustConnection, pool: asyncpg.Pool
) -> None:
    await topology.provision(control, [plan("stream")])
    await publish(control, [b"%d" % n for n in range(200)])
    async with reading(control, rabbit_url, pool) as reader:
        before = await reader.read(100)
        assert len(await reader.source.fetch()) > 0, "neither committed nor acknowledged"
    async with reading(control, rabbit_url, pool) as reader:
        assert before + await reader.read(200 - len(before)) == list(range(200))
        assert (await reader.source.backlog()).pending == 0


async def test_a_cut_in_the_middle_leaves_no_gap(
    rabbit_url: str, control: aio_pika.RobustConnection, pool: asyncpg.Pool
) -> None:
    await topology.provision(control, [plan("stream")])
    await publish(control, [b"%d" % n for n in range(300)])
    async with reading(control, rabbit_url, pool, start=0) as reader:
        before = await reader.read(100)
        if reader.source._link is not None:  # a busy server may have cut it already
            await link_of(reader.source).close()
        after = await reader.read(300 - len(before))
    assert before + after == list(range(300))
    assert await pool.fetchval("SELECT count(*) FROM bus.gap") == 0


async def test_replay_from_an_offset_and_from_a_time(
    rabbit_url: str, control: aio_pika.RobustConnection, pool: asyncpg.Pool
) -> None:
    await topology.provision(control, [plan("stream")])
    await publish(control, [b"old"] * 50)
    published = int(time.time())
    await until(partial(later_than, published))  # AMQP's times are whole seconds
    moment = datetime.now(UTC)
    await publish(control, [b"new"] * 50)
    async with reading(control, rabbit_url, pool, start=70) as reader:
        assert await reader.read(30) == list(range(70, 100))
    async with reading(control, rabbit_url, pool, start=moment) as reader:
        assert await reader.read(50) == list(range(50, 100))


async def test_what_a_killed_worker_may_have_begun_is_marked_and_nothing_else(
    rabbit_url: str, control: aio_pika.RobustConnection, pool: asyncpg.Pool
) -> None:
    await topology.provision(control, [plan("stream")])
    await publish(control, [b"%d" % n for n in range(1500)])
    assert await doubtful(control, rabbit_url, pool, 600) == (0, [])
    assert (await doubtful(control, rabbit_url, pool, 200))[1] == [], "the one before left in order"
    offsets = PostgresOffsets(pool, transport="rabbitmq", worker_id="test")
    await offsets.begin(QUEUE)  # and is killed
    first, found = await doubtful(control, rabbit_url, pool, 400)
    assert found == list(range(first, first + AHEAD))
    await offsets.begin(QUEUE)
    after = await pool.fetchval("SELECT max(upper(seqs)) FROM bus.position")
    _, found = await doubtful(control, rabbit_url, pool, 1500, start=0)
    assert found == [*range(AHEAD), *range(after - AHEAD, min(after + AHEAD, 1500))]
    assert await doubtful(control, rabbit_url, pool, 1500, start=0) == (0, [])


async def doubtful(
    control: aio_pika.RobustConnection,
    url: str,
    pool: asyncpg.Pool,
    count: int,
    start: Start = None,
) -> tuple[int, list[int]]:
    """The first offset that a worker reads, and those that a worker may have begun before."""
    async with reading(control, url, pool, start) as reader:
        messages = await reader.read_messages(count)
    # Where reading was interrupted, a message may come twice.
    found = {message.offset or 0 for message in messages if message.begun_before}
    return messages[0].offset or 0, sorted(found)


async def later_than(second: int) -> bool:
    return int(time.time()) > second


async def test_a_stream_made_anew_is_another_epoch_read_from_its_beginning(
    rabbit_url: str, control: aio_pika.RobustConnection, pool: asyncpg.Pool
) -> None:
    await topology.provision(control, [plan("stream")])
    await publish(control, [b"%d" % n for n in range(100)])
    async with reading(control, rabbit_url, pool) as reader:
        assert await reader.read(100) == list(range(100))
        first = reader.epoch
    async with open_channel(control) as channel:
        await channel.queue_delete(QUEUE)
    await topology.provision(control, [plan("stream")])
    await publish(control, [b"%d" % n for n in range(20)])
    async with reading(control, rabbit_url, pool) as reader:
        assert await reader.read(20) == list(range(20))
        assert reader.epoch not in {first, ""}
        second = reader.epoch
    await publish(control, [b"more"])
    async with reading(control, rabbit_url, pool) as reader:
        assert await reader.read(1) == [20]
        assert reader.epoch == second


@pytest.mark.parametrize("start", [None, 0, 70, 5_000, datetime(2001, 1, 1, tzinfo=UTC)])
async def test_a_first_batch_that_is_not_committed_comes_again(
    rabbit_url: str, control: aio_pika.RobustConnection, pool: asyncpg.Pool, start: Start
) -> None:
    await topology.provision(control, [plan("stream")])
    await publish(control, [b"%d" % n for n in range(200)])
    first = await overtaken(control, rabbit_url, pool, start)
    async with reading(control, rabbit_url, pool) as reader:
        assert (await reader.read(1))[0] == first


async def overtaken(
    control: aio_pika.RobustConnection, url: str, pool: asyncpg.Pool, start: Start
) -> int:
    """Commit what follows the first batch, and leave. Returns where that first batch began."""
    async with reading(control, url, pool, start) as reader:
        if start == 5_000:  # behind the end: what comes next is the first
            await publish(control, [b"more"] * 3 * BATCH)
        first = await asyncio.wait_for(reader.source.fetch(), PATIENCE)
        await reader.read(BATCH)
    return first.messages[0].offset or 0


async def test_a_stream_made_anew_begins_at_its_first_batch_too(
    rabbit_url: str, control: aio_pika.RobustConnection, pool: asyncpg.Pool
) -> None:
    await topology.provision(control, [plan("stream")])
    await publish(control, [b"old"] * 200)
    async with reading(control, rabbit_url, pool) as reader:
        await reader.read(200)
    async with open_channel(control) as channel:
        await channel.queue_delete(QUEUE)
    await topology.provision(control, [plan("stream")])
    async with reading(control, rabbit_url, pool):
        pass  # noticed while it was empty; then it grows beyond what was read of the old one
    await publish(control, [b"new"] * 300)
    assert await overtaken(control, rabbit_url, pool, None) == 0
    await commit_late(pool, "")
    async with reading(control, rabbit_url, pool) as reader:
        assert await reader.read(300) == list(range(300))
        assert reader.epoch


async def commit_late(pool: asyncpg.Pool, epoch: str) -> None:
    """A batch of the stream as it was before is the last that commits."""
    offsets = PostgresOffsets(pool, transport="rabbitmq", worker_id="test")
    await offsets.skip(QUEUE, epoch, 150, 200)


async def test_offsets_that_hold_nothing_do_not_hold_reading_back(pool: asyncpg.Pool) -> None:
    offsets = PostgresOffsets(pool, transport="rabbitmq", worker_id="test")
    assert await offsets.resume(QUEUE) == ("", None)
    for first, after in ((0, 10), (15, 20)):
        await offsets.skip(QUEUE, "", first, after)
    assert await offsets.resume(QUEUE) == ("", 10)
    await offsets.skip(QUEUE, "", 10, 15)
    assert await offsets.resume(QUEUE) == ("", 20)
