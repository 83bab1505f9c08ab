"""RabbitMQ killed, and connections cut in the middle of a frame, under load: each event is one row.

Worker processes read, a `Publisher` sends all the time. What was confirmed is in its table once,
sums have counted it once, and nothing else is there.

For a stream queue that holds of what the queue itself has: RabbitMQ 3.10 confirms messages and
drops them, when a stream's writer is started twice after a crash (docs/operations.md).
"""

import asyncio
import contextlib
import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aio_pika
import asyncpg
import psutil  # type: ignore[import-untyped]
import pytest
from shop_events import OrderPaid

from penstock.schemas.agents import AgentHeartbeat
from penstock.schemas.event import EventData
from penstock.schemas.tasks import TaskUpdated
from penstock.schemas.vocabulary import TaskStatus
from penstock.worker.embedded.rabbitmq import EmbeddedRabbit
from penstock.worker.publisher import Publisher
from penstock.worker.publisher.encoding import uuid7
from penstock.worker.rabbitmq.topology import Kind
from tests.support.rabbitmq import stream_queues_on_disk
from tests.support.relay import Relay
from tests.support.waiting import until
from tests.support.workers import WorkerProcess, environment

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("rabbitmq_package")]
ROUNDS = 10
EVENTS_A_ROUND = 1_500
BACK_AFTER_SECONDS = 20.0
MEMORY_MB = 160
KINDS = pytest.mark.parametrize("kind", ["quorum", "classic", "stream"])

HISTORIES = """(
SELECT event_id FROM agents.heartbeat
UNION ALL SELECT event_id FROM events.log
UNION ALL SELECT event_id FROM shop.order_event
) AS histories"""


class Load:
    """Publishes without end, and remembers what it tried and what was confirmed."""

    def __init__(self, bus: Publisher) -> None:
        self._bus = bus
        self._numbers = itertools.count()
        self.tried: set[str] = set()
        self.confirmed: set[str] = set()

    async def publish(self) -> None:
        while True:
            for _ in range(3):
                await self.send()
            await asyncio.sleep(0.002)

    async def send(self) -> str:
        """One more event, once there is room for it. Returns its id."""
        chosen = uuid7()
        self.tried.add(chosen)
        sent = await self._bus.publish_soon(event(next(self._numbers)), id=chosen)
        sent.add_done_callback(partial(self._settled, chosen))
        return chosen

    def _settled(self, chosen: str, done: asyncio.Future[object]) -> None:
        if not done.cancelled() and done.exception() is None:
            self.confirmed.add(chosen)


def event(number: int) -> EventData:
    """Of three streams in turn; every payment is of one cent."""
    entity = f"e-{number % 50}"
    return (
        AgentHeartbeat(agent_id=entity),
        TaskUpdated(task_id=entity, status=TaskStatus.RUNNING),
        OrderPaid(order_id=entity, amount_cents=1),
    )[number % 3]


class Scene:
    """Load on a server, and workers that bring it into a database."""

    def __init__(self, load: Load, workers: Sequence[WorkerProcess], tables: asyncpg.Pool) -> None:
        self._load = load
        self._dropped: set[str] = set()
        self._workers = workers
        self._tables = tables

    async def again_and_again(self, harm: Callable[[int], Awaitable[None]]) -> None:
        """Do harm under load and see how long a fresh event takes afterwards, ten times."""
        begun, waits = time.monotonic(), list[float]()
        pids = [worker.pid for worker in self._workers]
        for number in range(ROUNDS):
            await until(partial(self._grown_to, await self._count() + EVENTS_A_ROUND), 60)
            await harm(number)
            healed = time.monotonic()
            fresh = await self._load.send()
            await until(partial(self._has_since, fresh), BACK_AFTER_SECONDS)
            waits.append(round(time.monotonic() - healed, 2))
        assert [worker.pid for worker in self._workers if worker.running] == pids
        memory = [round(psutil.Process(pid).memory_info().rss / 2**20) for pid in pids]
        assert max(memory) < MEMORY_MB
        sent, seconds = len(self._load.confirmed), time.monotonic() - begun
        print(f"\n{sent} events in {seconds:.0f} s; a fresh one was stored after {waits} s")
        print(f"memory of the workers: {memory} MiB")

    async def compare(self, server: EmbeddedRabbit) -> None:
        """Do not wait for what stream queues do not have, however surely it was confirmed."""
        self._dropped = self._load.confirmed - await held(server)
        assert len(self._dropped) < len(self._load.confirmed) / 4
        print(f"confirmed, and dropped by the server: {len(self._dropped)}")

    async def complete(self) -> bool:
        return self._load.confirmed - self._dropped <= set(await self._ids())

    async def check(self) -> None:
        stored = Counter(await self._ids())
        assert set(stored.values()) == {1}
        assert self._load.confirmed - self._dropped <= stored.keys() <= self._load.tried
        paid = "SELECT sum(paid_cents) FROM shop.customer_order"
        assert await self._value(paid) == await self._value("SELECT count(*) FROM shop.order_event")
        assert await self._value("SELECT count(*) FROM bus.dead_letter") == 0
        assert await self._value("SELECT count(*) FROM bus.gap") == 0

    async def _ids(self) -> list[str]:
        rows = await self._tables.fetch(f"SELECT event_id FROM {HISTORIES}")
        return [str(found) for (found,) in rows]

    async def _count(self) -> int:
        return int(await self._value(f"SELECT count(*) FROM {HISTORIES}"))

    async def _grown_to(self, count: int) -> bool:
        return await self._count() >= count

    async def _has_since(self, chosen: str) -> bool:
        """It, or one that was sent after it: the ids sort by time."""
        found = await self._value(f"SELECT 1 FROM {HISTORIES} WHERE event_id >= $1 LIMIT 1", chosen)
        return bool(found)

    async def _value(self, query: str, *values: object) -> Any:
        return await self._tables.fetchval(query, *values)


@asynccontextmanager
async def scene(
    server: EmbeddedRabbit,
    kind: Kind,
    database: str,
    log: Path,
    *,
    workers_at: str = "",
    publisher_at: str = "",
) -> AsyncIterator[Scene]:
    """Everything at work; at the end, everything stored, settled, ended and checked.

    Both may be told another address of the server.
    """
    environ = settings(kind, database, workers_at or server.url)
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(WorkerProcess(environ, log))
            for _ in range(1 if kind == "stream" else 2)
        ]
        for worker in workers:
            await worker.start()
        await until(partial(started, log, len(workers)), 60)
        if kind == "stream":
            await stream_queues_on_disk()
        tables = await stack.enter_async_context(asyncpg.create_pool(database, min_size=1))
        async with Publisher(publisher_at or server.url, source="/test", max_pending=2_000) as bus:
            load = Load(bus)
            publishing = asyncio.create_task(load.publish())
            running = Scene(load, workers, tables)
            try:
                yield running
            finally:
                publishing.cancel()
                await asyncio.wait({publishing})
        if kind == "stream":
            await running.compare(server)
        await until(running.complete, 60)
        if kind != "stream":
            await until(partial(empty, server), 60)
        assert [await worker.stop() for worker in workers] == [0] * len(workers)
        await running.check()
    assert [line for line in lines(log) if line["level"] == "error"] == []


def settings(kind: Kind, database: str, url: str) -> dict[str, str]:
    """Of the workers, as environment variables."""
    return environment(
        "nats://127.0.0.1:1",
        database,
        brokers="rabbitmq",
        rabbitmq_url=url,
        rabbitmq_queue_type=kind,
        event_packages="shop_events",
        migrate="true",
        kv="false",
        log_format="json",
    )


async def started(log: Path, count: int) -> bool:
    return [line["event"] for line in lines(log)].count("worker_started") == count


async def empty(server: EmbeddedRabbit) -> bool:
    """True if no queue has a message, delivered or not."""
    listed = await server.control("list_queues", "--no-table-headers", "messages")
    return set(listed.split()) == {"0"}


async def held(server: EmbeddedRabbit) -> set[str]:
    """The ids of all that its stream queues have."""
    found = set[str]()
    listed = await server.control("list_queues", "--no-table-headers", "type", "name")
    async with await aio_pika.connect(server.url) as connection:
        for queue_type, name in (line.split("\t") for line in listed.splitlines()):
            if queue_type == "stream":
                channel = await connection.channel()
                await channel.set_qos(prefetch_count=1_000)
                queue = await channel.get_queue(name, ensure=False)
                with contextlib.suppress(TimeoutError):
                    async with queue.iterator(
                        arguments={"x-stream-offset": "first"}, timeout=5
                    ) as arriving:
                        async for message in arriving:
                            found.add(str(message.message_id))
                            await message.ack()
    return found


def lines(log: Path) -> list[dict[str, Any]]:
    """What the workers say."""
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


@KINDS
async def test_a_node_killed_ten_times(kind: Kind, database: str, tmp_path: Path) -> None:
    async with EmbeddedRabbit() as server:

        async def crash(_: int) -> None:
            server.kill()
            await server.restart()

        async with scene(server, kind, database, tmp_path / "worker.log") as running:
            await running.again_and_again(crash)


@KINDS
async def test_connections_cut_in_a_frame_ten_times(
    kind: Kind, database: str, tmp_path: Path
) -> None:
    """Those of the workers while they are sent messages, or while they acknowledge; those of the
    publisher while it sends.
    """
    async with EmbeddedRabbit() as server, Relay(server.port) as near, Relay(server.port) as far:

        async def cut(number: int) -> None:
            near.cut_after(1_000 + 37 * number, answers=number % 2 == 0)
            far.cut_after(2_000 + 41 * number, answers=False)
            await until(partial(were_cut, number + 1))

        async def were_cut(times: int) -> bool:
            return near.cuts == far.cuts == times

        async with scene(
            server,
            kind,
            database,
            tmp_path / "worker.log",
            workers_at=server.url.replace(f":{server.port}", f":{near.port}"),
            publisher_at=server.url.replace(f":{server.port}", f":{far.port}"),
        ) as running:
            await running.again_and_again(cut)
