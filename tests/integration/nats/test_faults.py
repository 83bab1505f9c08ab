"""The fast JetStream source against servers and consumers that misbehave."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from nats.aio.client import Client

from penstock.worker.embedded import EmbeddedNats
from penstock.worker.errors import SourceUnavailable, TopologyError
from penstock.worker.nats.api import call
from penstock.worker.nats.connection import connect
from penstock.worker.nats.options import NatsOptions, ReadingOptions
from penstock.worker.nats.source import JetStreamSource
from penstock.worker.nats.topology import ConsumerPlan, StreamPlan, provision
from penstock.worker.nats.wire import size_of
from penstock.worker.pipeline.batch import Batch
from tests.support.fetching import fetch_all, patient_fetch
from tests.support.waiting import PATIENCE, stays, until

PLAN = StreamPlan(name="S", subjects=("s.>",))
ACK_WAIT = 2.0
CONSUMER = ConsumerPlan(durable="D", ack_wait=ACK_WAIT, max_ack_pending=1000)


@pytest.fixture
async def client(nats_url: str) -> AsyncIterator[Client]:
    async with connected(nats_url) as client:
        yield client


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    client = await connect(NatsOptions(url=url), name="faults")
    try:
        await make(client)
        yield client
    finally:
        await client.close()


async def make(client: Client, **consumer: Any) -> None:
    await provision(client, [PLAN], CONSUMER)
    if consumer:
        await call(client, "CONSUMER.DELETE.S.D")
        config = {"name": "D", "durable_name": "D", "ack_policy": "explicit", **consumer}
        request = {"stream_name": "S", "config": config}
        await call(client, "CONSUMER.CREATE.S.D", request)


def source_on(client: Client, stream: str = "S", **options: Any) -> JetStreamSource:
    given: dict[str, Any] = {
        "durable": "D",
        "batch_size": 10,
        "batch_bytes": 1 << 20,
        "linger": 0.01,
        "ack_wait": ACK_WAIT,
        "heartbeat": 0.4,
    }
    return JetStreamSource(client, stream, ReadingOptions(**(given | options)))


async def publish(client: Client, *bodies: bytes) -> None:
    for body in bodies:
        await client.jetstream().publish("s.x", body)


async def test_a_ping_that_timed_out_does_not_silence_the_connection(client: Client) -> None:
    async with source_on(client) as source:
        given_up: asyncio.Future[bool] = asyncio.Future()
        await client._send_ping(given_up)
        given_up.cancel()
        await publish(client, b"after the late pong")
        await fetch_all(source, [b"after the late pong"])
        assert client.stats["reconnects"] == 0


async def test_a_deleted_consumer_is_said_and_taken_up_again_when_it_returns(
    client: Client,
) -> None:
    async with source_on(client) as source:
        await call(client, "CONSUMER.DELETE.S.D")
        with pytest.raises(SourceUnavailable, match="penstock provision"):
            await asyncio.wait_for(source.fetch(), PATIENCE)
        assert not source.healthy
        await make(client)
        await publish(client, b"back")
        await fetch_all(source, [b"back"])
        assert source.healthy


async def test_acknowledgements_of_a_stream_that_was_made_anew_are_dropped(
    client: Client,
) -> None:
    async with source_on(client) as source:
        await publish(client, b"old")
        old = await source.fetch()
        await client.jetstream().delete_stream("S")
        await make(client)
        await publish(client, b"new")
        new = await asyncio.wait_for(patient_fetch(source), PATIENCE)
        assert new.epoch != old.epoch
        assert new.messages[0].offset == old.messages[0].offset == 1
        await old.ack()
        assert (await source.backlog()).ack_pending == 1
        await new.ack()


async def test_a_consumer_that_forbids_such_requests_is_an_error_for_a_person(
    client: Client,
) -> None:
    await make(client, max_batch=2)
    async with source_on(client) as source:
        with pytest.raises(TopologyError, match="MaxRequestBatch"):
            await asyncio.wait_for(source.fetch(), PATIENCE)
        assert not source.healthy


async def test_waiting_at_the_limit_of_unacknowledged_messages_is_not_silence(
    client: Client,
) -> None:
    await make(client, max_ack_pending=3, ack_wait=30_000_000_000)
    async with source_on(client, ack_wait=30.0) as source:
        await publish(client, *(b"%d" % number for number in range(6)))
        held = await source.fetch()
        await stays(lambda: source.healthy, 2.0)
        await held.ack()
        await fetch_all(source, [b"5"])
        assert client.stats["reconnects"] == 0


async def test_what_waits_is_bounded_by_count_and_by_bytes(client: Client) -> None:
    await publish(client, *(b"%d" % number + b"." * 50_000 for number in range(60)))
    async with source_on(client, batch_size=20, batch_bytes=200_000) as source:
        assert await source.fetch()
        await until(lambda: source._pulls.owed == 0)
        held = size_of(source._intake.drain())
        assert 0 < held <= 2 * 200_000


async def test_a_message_larger_than_all_limits_still_comes(client: Client) -> None:
    large = [b"%d" % number + b"." * 500_000 for number in range(3)]
    sent = [b"a", large[0], b"b", large[1], large[2], b"c"]
    await publish(client, *sent)
    async with source_on(client, batch_bytes=1_000) as source:
        found = await fetch_all(source, sent)
        assert [message.deliveries for message in found] == [1] * 6


async def test_a_silent_server_is_noticed_by_its_missing_heartbeats() -> None:
    async with (
        EmbeddedNats() as server,
        connected(server.url) as client,
        source_on(client) as source,
    ):
        await publish(client, b"before")
        await fetch_all(source, [b"before"])
        assert client._ping_interval_task is not None
        client._ping_interval_task.cancel()  # nats-py would notice it too, by its own pings
        server.pause()
        await until(lambda: not source.healthy)
        server.resume()
        await until(lambda: source.healthy)
        await publish(client, b"after")
        await fetch_all(source, [b"after"])


async def test_what_is_acknowledged_while_away_is_not_delivered_again(client: Client) -> None:
    async with source_on(client) as source:
        await publish(client, *(b"%d" % number for number in range(10)))
        done: list[Batch] = []
        while sum(map(len, done)) < 10:
            done.append(await source.fetch())
        await client.force_reconnect()
        assert not source.healthy
        for batch in done:
            await batch.ack()
        await until(lambda: source.healthy)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(source.fetch(), ACK_WAIT * 1.5)
        assert (await source.backlog()).ack_pending == 0


async def test_ten_kills_lose_nothing() -> None:
    async with (
        EmbeddedNats() as server,
        connected(server.url) as client,
        source_on(client, batch_size=50) as source,
    ):
        confirmed: set[bytes] = set()
        seen: set[bytes] = set()

        async def work() -> None:
            while True:
                batch = await patient_fetch(source)
                seen.update(message.body for message in batch.messages)
                await batch.ack()

        working = asyncio.create_task(work())
        for kill in range(10):
            for number in range(50):
                await publish(client, body := b"%d.%d" % (kill, number))
                confirmed.add(body)
            server.kill()
            await server.restart()
            await until(lambda: client.is_connected and source.healthy)
        await until(lambda: confirmed <= seen)
        working.cancel()


async def test_several_sources_share_a_connection(client: Client) -> None:
    other = StreamPlan(name="T", subjects=("t.>",))
    await provision(client, [other], CONSUMER)
    async with source_on(client) as first, source_on(client, "T") as second:
        await publish(client, b"for s")
        await client.jetstream().publish("t.x", b"for t")
        assert [m.body for m in await fetch_all(first, [b"for s"])] == [b"for s"]
        assert [m.body for m in await fetch_all(second, [b"for t"])] == [b"for t"]
        await client.force_reconnect()
        await until(lambda: first.healthy and second.healthy)
        await client.jetstream().publish("t.x", b"again")
        await fetch_all(second, [b"again"])


async def test_fifty_starts_and_stops_in_a_row_leave_nothing_behind(client: Client) -> None:
    await make(client, ack_wait=600_000_000_000)  # what was kept back would not come in time
    await publish(client, *(b"%d" % number for number in range(30)))
    subscriptions = None
    for round_ in range(50):
        async with source_on(client) as source:
            await source.fetch()
        if round_ == 0:
            subscriptions = len(client._subs)
    assert len(client._subs) == subscriptions
    async with source_on(client) as source:
        await fetch_all(source, [b"%d" % number for number in range(30)])


async def test_a_drained_stop_takes_what_it_asked_for_and_returns_nothing(client: Client) -> None:
    """Messages wait that the server goes on sending; not one of them is sent for nobody."""
    async with source_on(client, batch_size=5) as source:
        await publish(client, *[b"%d" % number for number in range(100)])
        source.stop()
        taken = []
        while batch := await source.fetch():
            taken += [message.offset or 0 for message in batch.messages]
            await batch.ack()
    info = await client.jetstream().consumer_info("S", "D")
    assert info.delivered is not None
    # The server deals messages out to all requests that wait, so their order may differ.
    assert sorted(offset or 0 for offset in taken) == list(
        range(1, info.delivered.consumer_seq + 1)
    )
    assert (info.num_ack_pending, info.num_pending) == (0, 100 - len(taken))


def keep_busy(seconds: float) -> None:
    time.sleep(seconds)


async def test_what_is_held_is_extended_by_a_worker_that_is_always_late(client: Client) -> None:
    """Its loop is kept busy, so that every tick of the watchdog comes late."""
    async with source_on(client) as source:
        await publish(client, b"slow")
        batch = await patient_fetch(source)
        over = time.monotonic() + 2 * ACK_WAIT
        while time.monotonic() < over:
            keep_busy(ACK_WAIT / 3)
            for _turn in range(10):
                await asyncio.sleep(0)
        await batch.ack()
    info = await client.jetstream().consumer_info("S", "D")
    assert info.delivered is not None
    assert info.delivered.consumer_seq == 1
