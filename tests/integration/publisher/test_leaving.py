"""Leaving a Publisher ends, whatever has become of the broker, and leaves nothing running."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from nats import connect

from penstock import (
    Confirmation,
    NatsOptions,
    Publisher,
    PublishFailed,
    PublishRefused,
    RabbitOptions,
    SourceUnavailable,
)
from penstock.schemas import AgentHeartbeat
from penstock.worker.embedded import EmbeddedNats
from penstock.worker.embedded.rabbitmq import EmbeddedRabbit
from penstock.worker.embedded.server import EmbeddedServer
from penstock.worker.rabbitmq import topology
from penstock.worker.rabbitmq.connection import connect as connect_rabbit
from penstock.worker.rabbitmq.topology import QueuePlan
from tests.support.waiting import until

BOUND = 12.0
"""Seconds that leaving may take on a busy machine; without the remedies it never ended."""

LARGE = b"x" * 900_000
"""A few of these fill the buffers of a socket."""

EXCHANGE = "left"
NATS_USERS = """authorization { users: [
    { user: "all", password: "all" }
    { user: "mute", password: "mute", permissions: { publish: { deny: "agents.>" } } }
    { user: "deaf", password: "deaf", permissions: { subscribe: { deny: "_INBOX.>" } } }
] }
"""


def heartbeat() -> AgentHeartbeat:
    return AgentHeartbeat(agent_id="a-7")


def user(server: EmbeddedNats, name: str) -> NatsOptions:
    return NatsOptions(url=server.url, user=name, password=name)


@asynccontextmanager
async def ending_in_time() -> AsyncIterator[None]:
    """What is done within ends in time, and no task that began meanwhile is left."""
    before = asyncio.all_tasks()
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < BOUND

    def nothing_is_left() -> bool:
        left = asyncio.all_tasks() - before
        assert not left
        return True

    await until(nothing_is_left, 10)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def nats() -> AsyncIterator[EmbeddedNats]:
    """With users who may not do everything; a test may pause it and kill it."""
    async with EmbeddedNats(extra_config=NATS_USERS) as server:
        client = await connect(server.url, user="all", password="all")
        await client.jetstream().add_stream(name="AGENT_STATE", subjects=["agents.>"])
        await client.close()
        yield server


@pytest.mark.parametrize("turns", range(8))
async def test_without_the_right_to_publish(nats: EmbeddedNats, turns: int) -> None:
    """At any turn of the loop after the refusal: one of them lost the cancellation."""
    async with ending_in_time(), Publisher(user(nats, "mute"), source="/a") as bus:
        refused = await bus.publish_soon(heartbeat())
        await asyncio.wait({refused})
        for _ in range(turns):
            await asyncio.sleep(0)
    with pytest.raises(PublishRefused, match="not allowed to publish"):
        await refused


async def test_without_the_right_to_hear_an_answer(nats: EmbeddedNats) -> None:
    async with ending_in_time(), Publisher(user(nats, "deaf"), source="/a") as bus:
        with pytest.raises(
            PublishRefused, match=r"permission to subscribe to the inbox, _INBOX\.>"
        ):
            await bus.publish(heartbeat())


class Scene(NamedTuple):
    """A server with something to take the events, and how to reach it."""

    server: EmbeddedServer
    where: NatsOptions | RabbitOptions

    def publisher(self, **options: Any) -> Publisher:
        """Gives up soon, and sends to an exchange of its own."""
        options = {"drain_timeout": 0.5, "exchange": EXCHANGE, **options}
        return Publisher(self.where, source="/a", **options)


@pytest.fixture(params=["nats", "rabbitmq"])
def scene(request: pytest.FixtureRequest) -> Scene:
    if request.param == "nats":
        server = request.getfixturevalue("nats")
        return Scene(server, user(server, "all"))
    node = request.getfixturevalue("rabbitmq")
    return Scene(node, RabbitOptions(url=node.url))


@pytest_asyncio.fixture(loop_scope="session")
async def rabbitmq(shaky_rabbit: EmbeddedRabbit) -> EmbeddedRabbit:
    connection = await connect_rabbit(RabbitOptions(url=shaky_rabbit.url), name="test")
    plan = QueuePlan(name="LEFT", subjects=("agents.>",), exchange=EXCHANGE)
    await topology.provision(connection, [plan])
    await connection.close()
    return shaky_rabbit


@asynccontextmanager
async def paused(server: EmbeddedServer) -> AsyncIterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


@asynccontextmanager
async def killed(server: EmbeddedServer) -> AsyncIterator[None]:
    server.kill()
    try:
        yield
    finally:
        await server.restart()


@asynccontextmanager
async def out_of_memory(server: EmbeddedServer) -> AsyncIterator[None]:
    """RabbitMQ reads no more from who publishes, and goes on sending heartbeats."""
    assert isinstance(server, EmbeddedRabbit)
    await server.control("set_vm_memory_high_watermark", "0.00001")
    try:
        yield
    finally:
        await server.control("set_vm_memory_high_watermark", "0.4")


Away = Callable[[EmbeddedServer], AbstractAsyncContextManager[None]]
ways = pytest.mark.parametrize("away", [paused, killed])
on_both = pytest.mark.parametrize(
    "scene", ["nats", pytest.param("rabbitmq", marks=pytest.mark.faults)], indirect=True
)


async def send_much(bus: Publisher) -> list[asyncio.Future[Confirmation]]:
    """More than the buffers of a socket hold."""
    return [await bus.send("agents.a-7.output", LARGE, f"m-{n}") for n in range(20)]


def check_failed(sent: list[asyncio.Future[Confirmation]]) -> None:
    """All are settled; what was not confirmed before the broker went has failed."""
    assert all(future.done() for future in sent)
    assert any(isinstance(future.exception(), PublishFailed) for future in sent)


async def leave_unconfirmed(scene: Scene, away: Away) -> None:
    bus = await scene.publisher().__aenter__()
    async with away(scene.server):
        sent = await send_much(bus)
        async with ending_in_time():
            with pytest.raises(PublishFailed, match=r"events are not confirmed.*0\.5 s"):
                await bus.__aexit__(None, None, None)
        check_failed(sent)


@on_both
@ways
async def test_while_the_broker_is_away(scene: Scene, away: Away) -> None:
    await leave_unconfirmed(scene, away)


@pytest.mark.faults
async def test_while_rabbitmq_is_out_of_memory(rabbitmq: EmbeddedRabbit) -> None:
    await leave_unconfirmed(Scene(rabbitmq, RabbitOptions(url=rabbitmq.url)), out_of_memory)


@on_both
@ways
async def test_cancelled_while_the_broker_is_away(scene: Scene, away: Away) -> None:
    """Without waiting for what is unconfirmed."""
    ready = asyncio.Event()

    async def work(bus: Publisher) -> None:
        async with bus:
            ready.set()
            await asyncio.Future()

    bus = scene.publisher(drain_timeout=None)
    task = asyncio.create_task(work(bus))
    await ready.wait()
    async with away(scene.server):
        sent = await send_much(bus)
        async with ending_in_time():
            task.cancel()
            await asyncio.wait({task})
        assert task.cancelled()
        check_failed(sent)


async def test_an_error_under_way_is_not_replaced(scene: Scene) -> None:
    bus = await scene.publisher().__aenter__()
    async with paused(scene.server):
        sent = await send_much(bus)
        async with ending_in_time():
            await bus.__aexit__(ValueError, ValueError("of the agent"), None)
        check_failed(sent)


async def test_who_waits_for_room_meanwhile_is_told(scene: Scene) -> None:
    bus = await scene.publisher(max_pending=1).__aenter__()
    async with paused(scene.server):
        first = await bus.publish_soon(heartbeat())
        second = asyncio.create_task(bus.publish(heartbeat()))
        await asyncio.sleep(0)
        async with ending_in_time():
            with pytest.raises(PublishFailed, match="1 events are not confirmed"):
                await bus.__aexit__(None, None, None)
            for waiting in (first, second):
                with pytest.raises(PublishFailed, match="was closed"):
                    await waiting


async def test_a_connection_is_not_left_open_by_a_publisher_that_could_not_open(
    nats: EmbeddedNats,
) -> None:
    async with ending_in_time():
        with pytest.raises(SourceUnavailable):
            await Publisher(
                NatsOptions(url=nats.url, user="all", password="no"), source="/a"
            ).__aenter__()
