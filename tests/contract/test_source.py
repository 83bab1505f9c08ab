"""What every `Source` promises, shown on each way to read a broker.

A broker comes in by a `Bus`: how to publish to it and open sources on it. What a way to read it
cannot do is declared in its features, and the suite shows that too.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from nats.aio.client import Client

from penstock.worker.embedded import EmbeddedNats, EmbeddedServer, ServerFailed
from penstock.worker.embedded.rabbitmq import EmbeddedRabbit
from penstock.worker.errors import SourceUnavailable
from penstock.worker.nats import topology
from penstock.worker.nats.client_source import ClientJetStreamSource
from penstock.worker.nats.connection import connect
from penstock.worker.nats.options import NatsOptions, ReadingOptions
from penstock.worker.nats.source import JetStreamSource
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.budget import Budget, Share
from penstock.worker.pipeline.ports import Message
from penstock.worker.pipeline.source import Source, WatchedSource
from tests.contract.features import Bus, Features
from tests.contract.rabbitmq_bus import WAYS
from tests.support.fetching import fetch_all, patient_fetch
from tests.support.rabbitmq import stream_queues_on_disk
from tests.support.waiting import PATIENCE, until

ACK_WAIT = 2.0
PATIENT_ACK_WAIT = 600.0
"""Usual, so that on a slow machine nothing comes again because the ack wait is over."""
SHORT = pytest.mark.parametrize("ack_wait", [ACK_WAIT], ids=["short"])
"""For tests of what comes again, or does not, once it is over."""
STREAM, DURABLE = "CONTRACT", "replica"


class JetStreamBus:
    """One empty stream with one durable consumer; every source has a connection of its own."""

    def __init__(
        self, features: Features, url: str, stack: AsyncExitStack, ack_wait: float
    ) -> None:
        self.features = features
        self._url = url
        self._stack = stack
        self._ack_wait = ack_wait
        self._clients: dict[int, Client] = {}

    async def open(self) -> None:
        self._admin = await self._connect()
        await self.provision()

    async def remove(self) -> None:
        """The next test empties the server."""

    async def provision(self) -> None:
        plan = topology.StreamPlan(name=STREAM, subjects=("c.>",))
        consumer = topology.ConsumerPlan(
            durable=DURABLE, ack_wait=self._ack_wait, max_ack_pending=20_000
        )
        await topology.provision(self._admin, [plan], consumer)

    async def remake(self) -> None:
        await self._admin.jetstream().delete_stream(STREAM)
        await self.provision()

    async def publish(self, bodies: Sequence[bytes], headers: dict[str, str] | None = None) -> None:
        stream = self._admin.jetstream()
        for number, body in enumerate(bodies):
            await stream.publish(f"c.{number}", body, headers=headers)

    async def ready(self, source: WatchedSource) -> WatchedSource:
        return await self._stack.enter_async_context(source)

    async def open_source(self, share: Share | None = None, **options: Any) -> WatchedSource:
        client = await self._connect()
        given: dict[str, Any] = {"batch_size": 100, "batch_bytes": 1 << 20, "linger": 0.02}
        given["heartbeat"] = 0.5
        reading = ReadingOptions(durable=DURABLE, ack_wait=self._ack_wait, **(given | options))
        source = self.features.make(client, STREAM, reading, share)
        self._clients[id(source)] = client
        return source

    async def cut(self, source: WatchedSource) -> None:
        """Lose the connection of a replica as if its process had died."""
        await self._clients[id(source)].close()

    async def deafen(self, source: WatchedSource) -> None:
        client = self._clients[id(source)]
        assert client._reading_task is not None
        client._reading_task.cancel()
        assert client.is_connected

    async def _connect(self) -> Client:
        client = await connect(NatsOptions(url=self._url), name="contract")
        self._stack.push_async_callback(client.close)
        return client


JETSTREAM: dict[str, Any] = {"bus": JetStreamBus, "address": "nats_url", "server": "shaky_nats"}
FAST = Features(name="jetstream", make=JetStreamSource, **JETSTREAM)
STOCK = Features(
    name="jetstream-client",
    make=ClientJetStreamSource,
    status_headers_are_data=False,
    notices_remakes=False,
    eager=False,
    overshoot=1 << 20,
    **JETSTREAM,
)


def _later(features: Features) -> Any:
    """The client library's own way of RabbitMQ takes as long again as ours, and a classic queue as
    long as a quorum queue, which is read in the same way.
    """
    later = "stock" in features.name or features.kind == "classic"
    return pytest.param(features, id=features.name, marks=pytest.mark.faults if later else ())


@pytest.fixture(params=[FAST, STOCK, *map(_later, WAYS)], ids=lambda features: features.name)
def features(request: pytest.FixtureRequest) -> Features:
    found: Features = request.param
    return found


@pytest.fixture
def address(features: Features, request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(features.address)
    return found


@pytest.fixture
def ack_wait() -> float:
    return PATIENT_ACK_WAIT


@pytest.fixture
async def bus(features: Features, address: str, ack_wait: float) -> AsyncIterator[Bus]:
    async with AsyncExitStack() as stack:
        bus = await open_bus(features, address, stack, ack_wait)
        stack.push_async_callback(bus.remove)
        yield bus


async def open_bus(
    features: Features, url: str, stack: AsyncExitStack, ack_wait: float = ACK_WAIT
) -> Bus:
    bus = features.bus(features, url, stack, ack_wait)
    await bus.open()
    return bus


@pytest.fixture
async def source(bus: Bus) -> WatchedSource:
    return await bus.ready(await bus.open_source())


@pytest.fixture
async def shaky_nats() -> AsyncIterator[EmbeddedNats]:
    async with EmbeddedNats(sync_always=False) as server:
        yield server


@pytest.fixture
def server(features: Features, request: pytest.FixtureRequest) -> EmbeddedServer:
    """A broker that the test may kill and stop."""
    found: EmbeddedServer = request.getfixturevalue(features.server)
    return found


@pytest.fixture
async def shaky(server: Any, features: Features) -> AsyncIterator[Bus]:
    try:
        _ = server.pid
    except ServerFailed:
        await server.restart()
    async with AsyncExitStack() as stack:
        bus = await open_bus(features, server.url, stack)
        if features.kind == "stream":
            await stream_queues_on_disk()
        yield bus


async def collect(source: WatchedSource, expected: Collection[bytes]) -> dict[bytes, Message]:
    """Fetch and acknowledge until all of these bodies came; the messages by body."""
    return {message.body: message for message in await fetch_all(source, expected)}


async def nothing_comes(source: WatchedSource, seconds: float) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(source.fetch(), seconds)


async def settled(source: WatchedSource) -> bool:
    try:
        backlog = await source.backlog()
    except SourceUnavailable:
        return False
    return backlog.pending == 0 and backlog.ack_pending == 0


async def drain(source: WatchedSource) -> None:
    """Acknowledge what comes until nothing is left: a killed server may have forgotten some."""

    async def forever() -> None:
        while True:
            await (await patient_fetch(source)).ack()

    task = asyncio.create_task(forever())
    try:
        await until(lambda: settled(source))
    finally:
        task.cancel()


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


async def test_everything_published_arrives_with_where_it_stood(
    bus: Bus, source: WatchedSource
) -> None:
    before = time.time()
    await bus.publish(numbered(250))
    first = await patient_fetch(source)
    found = await collect(source, set(numbered(250)) - {m.body for m in first.messages})
    await first.ack()
    messages = [*first.messages, *found.values()]
    if bus.features.first_offset is not None:
        messages.sort(key=lambda message: message.offset or 0)
        begin = bus.features.first_offset
        assert [message.offset for message in messages] == list(range(begin, begin + 250))
    assert [message.body for message in messages] == numbered(250)
    assert [message.subject for message in messages] == [f"c.{number}" for number in range(250)]
    assert {message.deliveries for message in messages} == {1}
    assert all(before - 1 <= (message.stored_at or 0) <= time.time() + 1 for message in messages)
    assert source.healthy
    assert bool(first.epoch) is bus.features.names_epochs


@SHORT
async def test_what_was_acknowledged_never_comes_again(bus: Bus) -> None:
    await bus.publish(numbered(50))
    async with await bus.open_source() as first:
        await collect(first, numbered(50))
    async with await bus.open_source() as second:
        await until(lambda: settled(second))
        await nothing_comes(second, ACK_WAIT * 1.5)


async def test_leaving_gives_back_what_was_not_acknowledged(bus: Bus) -> None:
    await bus.publish(numbered(50))
    async with await bus.open_source(batch_size=10) as first:
        kept = await first.fetch()
        await kept.ack()
        assert await first.fetch()
    rest = set(numbered(50)) - {message.body for message in kept.messages}
    async with await bus.open_source() as second:
        assert (await collect(second, rest)).keys() == rest


@SHORT
async def test_what_a_dead_replica_held_comes_again(bus: Bus) -> None:
    await bus.publish(numbered(30))
    async with await bus.open_source() as dead:
        await dead.fetch()
        await bus.cut(dead)
        async with await bus.open_source() as other:
            found = await collect(other, numbered(30))
    counted = {message.deliveries > 1 for message in found.values()}
    assert counted == {bus.features.counts_deliveries}


async def test_a_dead_connection_is_said_and_not_waited_for(bus: Bus) -> None:
    async with await bus.open_source() as dead:
        await bus.cut(dead)
        with pytest.raises(SourceUnavailable):
            await asyncio.wait_for(dead.fetch(), PATIENCE)
        with pytest.raises(SourceUnavailable):
            await dead.backlog()
        assert not dead.healthy


@pytest.mark.parametrize("delay", [0.0, 0.8])
async def test_nack_redelivers_after_the_delay(
    bus: Bus, source: WatchedSource, delay: float
) -> None:
    await bus.publish([b"once more"])
    batch = await source.fetch()
    started = time.monotonic()
    await batch.nack(delay)
    [again] = (await asyncio.wait_for(source.fetch(), PATIENCE)).messages
    assert time.monotonic() - started >= delay * 0.95
    assert again.body == batch.messages[0].body
    assert again.deliveries == 2


async def test_two_replicas_share_without_overlap(bus: Bus) -> None:
    first = await bus.ready(await bus.open_source(batch_size=20))
    second = await bus.ready(await bus.open_source(batch_size=20))
    shares: list[list[bytes]] = [[], []]

    async def work(source: WatchedSource, share: list[bytes]) -> None:
        while batch := await source.fetch():
            share.extend(message.body for message in batch.messages)
            await batch.ack()

    tasks = [
        asyncio.create_task(work(source, share))
        for source, share in zip((first, second), shares, strict=True)
    ]
    await bus.publish(numbered(400))
    await until(lambda: settled(first))
    first.stop()
    second.stop()
    await asyncio.gather(*tasks)
    if bus.features.shares:
        assert sorted(shares[0] + shares[1]) == sorted(numbered(400))
    else:
        assert set(shares[0]) | set(shares[1]) == set(numbered(400))


async def test_headers_arrive_as_sent(bus: Bus, source: WatchedSource) -> None:
    await bus.publish([b"none"])
    await bus.publish([b"id"], {"Nats-Msg-Id": "m-1"})
    await bus.publish([b"binary"], dict(bus.features.attributes))
    found = await collect(source, [b"none", b"id", b"binary"])
    none, marked, binary = found[b"none"], found[b"id"], found[b"binary"]
    assert none.plain
    assert not none.headers
    assert marked.plain
    assert marked.headers == {"Nats-Msg-Id": "m-1"}
    assert not binary.plain
    assert binary.headers == bus.features.attributes


@SHORT
@pytest.mark.parametrize("status", ["100", "404", "408", "409", "500", "503"])
async def test_a_status_header_of_a_user_is_data(
    bus: Bus, source: WatchedSource, status: str
) -> None:
    await bus.publish([b"before"])
    await bus.publish([b"trap"], {"Status": status})
    await bus.publish([b"after"])
    if bus.features.status_headers_are_data:
        found = await collect(source, [b"before", b"trap", b"after"])
        assert found[b"trap"].headers == {"Status": status}
    else:
        await collect(source, [b"before", b"after"])
        backlog = await source.backlog()
        assert backlog.ack_pending >= 1, "the trap was delivered, but taken for the server's word"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00",
        b"\r\n",
        b"MSG c.0 1 $JS.ACK 5\r\nhello\r\n",
        b"PING\r\n" * 7,
        bytes(range(256)),
        b"\xff" * 900_000,
    ],
    ids=["empty", "nul", "crlf", "frame", "pings", "all bytes", "large"],
)
async def test_bodies_are_bytes(bus: Bus, source: WatchedSource, body: bytes) -> None:
    await bus.publish([b"first", body, b"last"])
    assert (await collect(source, [b"first", body, b"last"])).keys() == {b"first", body, b"last"}


async def test_a_batch_is_bounded_by_count(bus: Bus) -> None:
    await bus.publish(numbered(95))
    async with await bus.open_source(batch_size=30, linger=0.5) as source:
        sizes: list[int] = []
        while sum(sizes) < 95:
            batch = await source.fetch()
            sizes.append(len(batch))
            await batch.ack()
    assert max(sizes) <= 30


async def test_a_batch_is_bounded_by_bytes_and_a_larger_message_comes_alone(
    bus: Bus,
) -> None:
    bodies = [b"%d" % number + b"." * 30_000 for number in range(10)]
    bodies.insert(5, b"huge" + b"." * 300_000)
    await bus.publish(bodies)
    async with await bus.open_source(batch_bytes=100_000, linger=0.3) as source:
        found: list[bytes] = []
        async with asyncio.timeout(PATIENCE):
            while len(found) < len(bodies):
                batch = [message.body for message in (await source.fetch()).messages]
                assert len(batch) == 1 or sum(map(len, batch)) <= 100_000
                found += batch
    assert sorted(found) == sorted(bodies)


async def test_linger_waits_for_company_while_something_is_in_work(bus: Bus) -> None:
    linger = PATIENCE if bus.features.eager else 3.0
    async with await bus.open_source(linger=linger, batch_size=20) as source:
        await bus.publish(numbered(1))
        in_work = await source.fetch()
        fetching = asyncio.ensure_future(source.fetch())
        await bus.publish(numbered(20))
        assert len(await asyncio.wait_for(fetching, PATIENCE)) == 20
        await in_work.ack()


async def test_a_message_that_comes_alone_goes_at_once(bus: Bus) -> None:
    if not bus.features.eager:
        pytest.skip("a declared weakness: it always waits for the linger time")
    async with await bus.open_source(linger=2 * PATIENCE) as source:
        for _ in range(3):
            await bus.publish(numbered(1))
            alone = await asyncio.wait_for(source.fetch(), PATIENCE)
            assert len(alone) == 1
            await alone.ack()


async def test_what_is_settled_ends_the_wait_for_company(bus: Bus) -> None:
    if not bus.features.eager:
        pytest.skip("a declared weakness: it always waits for the linger time")
    async with await bus.open_source(linger=2 * PATIENCE) as source:
        await bus.publish(numbered(1))
        in_work = await source.fetch()
        await bus.publish(numbered(1))
        fetching = asyncio.ensure_future(source.fetch())
        await asyncio.wait({fetching}, timeout=0.3)
        assert not fetching.done()
        await in_work.ack()
        assert len(await asyncio.wait_for(fetching, PATIENCE)) == 1


async def test_cancelling_fetch_loses_nothing(bus: Bus) -> None:
    async with await bus.open_source(linger=0.05, batch_size=500) as source:
        publishing = asyncio.create_task(bus.publish(numbered(300)))
        for wait in range(40):
            fetching = asyncio.ensure_future(source.fetch())
            await asyncio.wait({fetching}, timeout=wait / 1000)
            if fetching.done():
                await fetching.result().nack(0)
            else:
                fetching.cancel()
                await asyncio.wait({fetching})
        await publishing
        await collect(source, numbered(300))


async def test_stop_ends_a_waiting_fetch(source: WatchedSource) -> None:
    fetching = asyncio.ensure_future(source.fetch())
    await asyncio.wait({fetching}, timeout=0.1)
    source.stop()
    source.stop()
    assert not await asyncio.wait_for(fetching, PATIENCE)
    assert not await asyncio.wait_for(source.fetch(), PATIENCE)


async def test_backlog_counts_over_all_replicas(bus: Bus) -> None:
    await bus.publish(numbered(40))
    async with await bus.open_source(batch_size=40) as source:
        assert sum(map(len, await batches_of(source, 40))) == 40
        held = await source.backlog()
        assert (held.pending, held.ack_pending, held.redelivered) == (0, 40, 0)
    async with await bus.open_source(batch_size=40) as source:
        held_here = await batches_of(source, 40)
        again = 40 if bus.features.counts_deliveries else 0
        assert (await source.backlog()).redelivered == again
        await ack_all(held_here)
        await until(lambda: settled(source))


async def batches_of(source: Source, count: int) -> list[Batch]:
    """Batches, not settled, with so many messages together."""
    batches: list[Batch] = []
    async with asyncio.timeout(PATIENCE):
        while sum(map(len, batches)) < count:
            batches.append(await source.fetch())
    return batches


async def ack_all(batches: Sequence[Batch]) -> None:
    for batch in batches:
        await batch.ack()


@SHORT
async def test_work_that_takes_longer_than_the_ack_wait_is_not_redelivered(
    bus: Bus, source: WatchedSource
) -> None:
    await bus.publish(numbered(5))
    held = await batches_of(source, 5)
    await nothing_comes(source, ACK_WAIT * 2)
    await ack_all(held)
    await until(lambda: settled(source))


async def remembered(server: EmbeddedServer) -> None:
    """RabbitMQ 3.10 writes bindings later: a crash may forget one of the last moments."""
    if isinstance(server, EmbeddedRabbit):
        await server.control("eval", "mnesia:dump_log().")


async def test_a_killed_server_is_followed_to_its_return(
    server: EmbeddedServer, shaky: Bus
) -> None:
    source = await shaky.ready(await shaky.open_source(batch_size=10))
    await shaky.publish(numbered(40))
    done = await source.fetch()
    await done.ack()
    held = await source.fetch()
    await remembered(server)
    server.kill()
    await until(lambda: went_red(source))
    await held.ack()
    await server.restart()
    await until(lambda: turned_green(source))
    await shaky.publish(numbered(20, start=40))
    came = {message.body for batch in (done, held) for message in batch.messages}
    await collect(source, set(numbered(60)) - came)
    await drain(source)


async def test_a_server_stopped_for_seconds_is_noticed_and_taken_up_again(
    server: EmbeddedServer, shaky: Bus
) -> None:
    source = await shaky.ready(await shaky.open_source())
    await shaky.publish(numbered(10))
    await collect(source, numbered(10))
    server.pause()
    try:
        await until(lambda: went_red(source))
    finally:
        server.resume()
    await shaky.publish(numbered(10, start=10))
    await collect(source, numbered(10, start=10))
    await until(lambda: turned_green(source))


@SHORT
async def test_a_read_loop_that_died_silently_is_revived(bus: Bus, source: WatchedSource) -> None:
    await bus.publish(numbered(3))
    await collect(source, numbered(3))
    await bus.deafen(source)
    await bus.publish(numbered(3, start=3))
    await collect(source, numbered(3, start=3))


async def test_a_stream_made_anew_is_another_epoch_and_old_acknowledgements_do_no_harm(
    bus: Bus,
) -> None:
    if not bus.features.notices_remakes:
        pytest.skip("a declared weakness: it learns of a remake only while it fetches")
    source = await bus.ready(await bus.open_source(batch_size=5))
    await bus.publish(numbered(5))
    old = await batches_of(source, 5)
    await bus.remake()
    await bus.publish([b"first of the new one"])
    async with asyncio.timeout(PATIENCE):
        new = await patient_fetch(source)
    assert (new.epoch not in {"", old[0].epoch}) is bus.features.names_epochs
    await new.ack()
    await bus.publish(numbered(5, start=100))
    await ack_all(old)
    await until(lambda: holds(source, 5))
    assert (await collect(source, numbered(5, start=100))).keys() == set(numbered(5, start=100))


async def holds(source: WatchedSource, count: int) -> bool:
    backlog = await source.backlog()
    return backlog.ack_pending + backlog.pending == count


async def went_red(source: WatchedSource) -> bool:
    return not source.healthy


async def turned_green(source: WatchedSource) -> bool:
    return source.healthy


async def test_halves_and_single_messages_settle_themselves(bus: Bus) -> None:
    source = await bus.ready(await bus.open_source(batch_size=20, linger=1.0))
    await bus.publish(numbered(1))
    alone = await source.fetch()  # so that the others wait for each other
    await bus.publish(numbered(8, start=1))
    batch = await source.fetch()
    assert len(batch) == 8
    await alone.ack()
    first, second = batch.halves()
    await second.ack()
    await second.nack(0)  # without effect: it is settled
    await first.part(first.messages[1:]).ack()
    await first.part(first.messages[:1]).nack(0)
    [again] = (await asyncio.wait_for(source.fetch(), PATIENCE)).messages
    assert again.body == batch.messages[0].body


async def test_what_is_asked_for_and_held_stays_within_the_share(bus: Bus) -> None:
    """All that is too much waits at the broker, and goes on once something is settled."""
    budget = Budget(200_000, 2, 100_000)
    other, share = budget.share(), budget.share()
    other.hold(150_000)
    source = await bus.ready(await bus.open_source(share=share, batch_bytes=1 << 20))
    bodies = [b"%02d" % number + b"." * 30_000 for number in range(20)]
    await bus.publish(bodies)
    found: list[bytes] = []
    async with asyncio.timeout(PATIENCE):
        while len(found) < len(bodies):
            batch = await source.fetch()
            assert batch.size <= 100_000
            assert share.held <= bus.features.overshoot + 100_000
            found += [message.body for message in batch.messages]
            await batch.ack()
    assert sorted(found) == bodies
    assert share.held == 0
