"""The Publisher on RabbitMQ: confirmed, refused or sent again, as on NATS."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import aiormq
import pytest
from pamqp.commands import Basic

from penstock.schemas.agents import AgentHeartbeat
from penstock.schemas.streams import STREAMS
from penstock.worker.brokers.ports import Copy
from penstock.worker.embedded.rabbitmq import EmbeddedRabbit
from penstock.worker.errors import SourceUnavailable, StateStoreUnavailable
from penstock.worker.publisher import (
    Confirmation,
    EventInvalid,
    Publisher,
    PublishFailed,
    PublishRefused,
)
from penstock.worker.rabbitmq import topology
from penstock.worker.rabbitmq.connection import connect
from penstock.worker.rabbitmq.options import RabbitOptions
from penstock.worker.rabbitmq.resend import resend
from penstock.worker.rabbitmq.topology import QueuePlan
from tests.support.waiting import PATIENCE

QUEUE = "AGENT_STATE"
PLAN = QueuePlan(name=QUEUE, subjects=tuple(f"{domain}.>" for domain in STREAMS[QUEUE]))


async def provision(url: str, *plans: QueuePlan) -> None:
    connection = await connect(RabbitOptions(url=url), name="test")
    await topology.provision(connection, plans or [PLAN])
    await connection.close()


async def stored(url: str, queue: str = QUEUE) -> list[tuple[str, Basic.Properties]]:
    """Routing keys and properties of everything in the queue, taken out."""
    found: list[tuple[str, Basic.Properties]] = []
    async with aiormq.connect(url) as connection:
        channel = await connection.channel()
        while True:
            message = await channel.basic_get(queue, no_ack=True)
            if not isinstance(message.delivery, Basic.GetOk):
                return found
            found.append((str(message.delivery.routing_key), message.header.properties))


def heartbeat(agent: str = "a-1") -> AgentHeartbeat:
    return AgentHeartbeat(agent_id=agent)


async def test_an_event_arrives_once_confirmed_with_its_key_and_id(rabbit_url: str) -> None:
    await provision(rabbit_url)
    begun = datetime.now(UTC).replace(microsecond=0)
    async with Publisher(rabbit_url, source="/agents/a-1") as bus:
        confirmation = await bus.publish(heartbeat(), id="0190a6a0-0000-7000-8000-000000000001")
    assert (confirmation.stream, confirmation.duplicate) == (topology.EXCHANGE, False)
    [(key, properties)] = await stored(rabbit_url)
    assert key == "agents.a-1.heartbeat"
    assert properties.message_id == "0190a6a0-0000-7000-8000-000000000001"
    assert (properties.delivery_mode, properties.content_type) == (
        2,
        "application/cloudevents+json",
    )
    assert properties.timestamp is not None
    assert begun <= properties.timestamp <= datetime.now(UTC)


async def test_many_in_flight_are_all_confirmed(rabbit_url: str) -> None:
    await provision(rabbit_url)
    async with Publisher(rabbit_url, source="/test", max_pending=300) as bus:
        sent = [await bus.publish_soon(heartbeat(f"a-{n}")) for n in range(1500)]
        await bus.flush()
        assert all(future.result() for future in sent)
    assert len(await stored(rabbit_url)) == 1500


async def test_what_no_queue_takes_is_refused_by_name_and_its_neighbours_are_stored(
    rabbit_url: str,
) -> None:
    await provision(rabbit_url)
    async with Publisher(rabbit_url, source="/test") as bus:
        good = [await bus.send(f"agents.a-{n}.heartbeat", b"{}", f"g-{n}") for n in range(20)]
        lost = await bus.send("nowhere.a-1.seen", b"{}", "lost")
        with pytest.raises(PublishRefused, match=r"'nowhere\.a-1\.seen'.*penstock provision"):
            await lost
        await bus.flush()
        assert all(future.result() for future in good)
    assert len(await stored(rabbit_url)) == 20


async def test_one_id_sent_twice_is_told_apart(rabbit_url: str) -> None:
    """The server returns what no queue takes, and aiormq knows it by nothing but its id."""
    await provision(rabbit_url)
    async with Publisher(rabbit_url, source="/test") as bus:
        lost = [await bus.send("nowhere.a-1.seen", b"{}", "one") for _ in range(3)]
        stays = await bus.send("agents.a-1.heartbeat", b"{}", "one")
        outcomes = await asyncio.gather(*lost, stays, return_exceptions=True)
    assert [type(one) for one in outcomes] == [*[PublishRefused] * 3, Confirmation]


@pytest.fixture
async def limited(rabbit: EmbeddedRabbit, rabbit_url: str) -> AsyncIterator[RabbitOptions]:
    """A user who may publish about agents alone, on a server that takes 100 KB."""
    user = f"agent-{uuid4().hex[:6]}"
    await rabbit.control("add_user", user, "pw")
    await rabbit.control("set_permissions", user, "^$", "^events$", "^$")
    await rabbit.control("set_topic_permissions", user, "events", r"^agents\..*", "^$")
    await rabbit.control("eval", "application:set_env(rabbit, max_message_size, 100000).")
    await provision(rabbit_url)
    yield RabbitOptions(url=rabbit_url, user=user, password="pw")
    await rabbit.control("eval", "application:set_env(rabbit, max_message_size, 134217728).")
    await rabbit.control("delete_user", user)


async def test_what_the_server_has_against_one_message_is_said_of_that_one_alone(
    limited: RabbitOptions, rabbit_url: str
) -> None:
    """It ends the channel, with all that is under way there."""
    wrong = {7: ("tasks.t-1.deleted", b"{}"), 13: ("agents.a-13.output", b"x" * 200_000)}
    sent = [wrong.get(n, (f"agents.a-{n}.heartbeat", b"{}")) for n in range(20)]
    async with Publisher(limited, source="/test") as bus:
        asked = [await bus.send(*one, f"m-{n}") for n, one in enumerate(sent)]
        outcomes = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), PATIENCE)
        assert {n for n, one in enumerate(outcomes) if isinstance(one, PublishRefused)} == {7, 13}
        assert [type(one) for one in outcomes].count(Confirmation) == 18
    assert len({properties.message_id for _, properties in await stored(rabbit_url)}) == 18
    connection = await connect(limited, name="test")
    copies = [Copy(subject, b"", body, f"c-{n}") for n, (subject, body) in enumerate(sent)]
    told = await resend(connection, topology.EXCHANGE, copies)
    await connection.close()
    assert {n for n, one in enumerate(told) if one is not None} == {7, 13}


async def test_without_the_exchange_the_refusal_says_so(rabbit_url: str) -> None:
    async with Publisher(rabbit_url, source="/test") as bus:
        with pytest.raises(PublishRefused, match="no exchange 'events'"):
            await asyncio.wait_for(bus.publish(heartbeat()), PATIENCE)


async def test_a_wrong_event_and_a_key_too_long_are_refused_before_sending(
    rabbit_url: str,
) -> None:
    await provision(rabbit_url)
    async with Publisher(rabbit_url, source="/test") as bus:
        with pytest.raises(EventInvalid):
            await bus.publish(heartbeat(), time=datetime(2026, 1, 1))  # noqa: DTZ001  (the point)
        with pytest.raises(PublishRefused, match="255 bytes"):
            await (await bus.send("agents." + "a" * 300, b"{}", "long"))
    assert await stored(rabbit_url) == []


async def test_state_needs_nats(rabbit_url: str) -> None:
    async with Publisher(rabbit_url, source="/test") as bus:
        with pytest.raises(StateStoreUnavailable, match="connected to RabbitMQ"):
            await bus.state("a-1", "cursor")


async def test_a_server_that_is_not_there_is_named_without_its_password(free_port: int) -> None:
    url = f"amqp://someone:secret@127.0.0.1:{free_port}/"
    with pytest.raises(SourceUnavailable, match=f"127.0.0.1:{free_port}") as refused:
        async with Publisher(url, source="/test"):
            raise AssertionError
    assert "secret" not in str(refused.value)


@pytest.mark.faults
async def test_what_was_not_confirmed_before_a_crash_is_sent_again(
    shaky_rabbit: EmbeddedRabbit,
) -> None:
    plan = QueuePlan(name="PUBLISHED", subjects=("agents.>",), exchange="published")
    await provision(shaky_rabbit.url, plan)
    # RabbitMQ 3.10 writes bindings later: one of the last moments before a kill may route nothing.
    await shaky_rabbit.control("eval", "mnesia:dump_log().")
    async with Publisher(shaky_rabbit.url, source="/test", exchange="published") as bus:
        sent = [await bus.publish_soon(heartbeat("before"))]
        await bus.flush()
        shaky_rabbit.kill()
        sent += [await bus.publish_soon(heartbeat(f"a-{n}")) for n in range(50)]
        await shaky_rabbit.restart()
        async with asyncio.timeout(PATIENCE):
            await bus.flush()
        assert all(future.result() for future in sent)
    keys = {key for key, _ in await stored(shaky_rabbit.url, "PUBLISHED")}
    assert len(keys) == 51


@pytest.mark.faults
async def test_patience_ends_when_it_is_limited(shaky_rabbit: EmbeddedRabbit) -> None:
    async with Publisher(shaky_rabbit.url, source="/test", give_up=0.5) as bus:
        shaky_rabbit.kill()
        try:
            with pytest.raises(PublishFailed, match=r"0\.5 s"):
                await asyncio.wait_for(bus.publish(heartbeat()), PATIENCE)
        finally:
            await shaky_rabbit.restart()
