"""A server that stops answering without closing its connections, under load, and comes back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import aiohttp
import asyncpg
import pytest

from penstock.schemas.agents import AgentHeartbeat
from penstock.schemas.tasks import TaskUpdated
from penstock.schemas.vocabulary import TaskStatus
from penstock.worker.embedded import EmbeddedNats, EmbeddedPostgres
from penstock.worker.embedded.server import EmbeddedServer
from penstock.worker.publisher import Publisher
from tests.support.mirror import bucket, expected_bucket
from tests.support.roles import migrated_by_its_owner
from tests.support.waiting import until
from tests.support.workers import WorkerProcess, environment

# nats-py forgets to close the sockets of attempts to connect that got no answer.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed <StreamWriter:ResourceWarning",
    "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning",
)


class Load:
    """An agent that publishes about 500 events a second, and remembers what was confirmed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.heartbeats: set[str] = set()
        self.versions: dict[str, int] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        async with Publisher(self._url, source="/tests") as bus:
            number = 0
            while not self._stopping.is_set():
                number += 1
                await self._publish(bus, number)
                await asyncio.sleep(0.02)

    async def _publish(self, bus: Publisher, number: int) -> None:
        beats = [str(uuid4()) for _ in range(9)]
        agent, task = f"agent-{number % 50}", f"task-{number % 20}"
        waiting = [
            await bus.publish_soon(AgentHeartbeat(agent_id=agent, load=0.5), id=beat)
            for beat in beats
        ]
        update = TaskUpdated(task_id=task, status=TaskStatus.RUNNING, assigned_to=agent)
        waiting.append(await bus.publish_soon(update, sequence=number))
        await asyncio.gather(*waiting)
        self.heartbeats.update(beats)
        self.versions[task] = number

    def stop(self) -> None:
        self._stopping.set()


Bench = tuple[EmbeddedNats, EmbeddedPostgres, str, Load]


@asynccontextmanager
async def loaded(tmp_path: Path, port: int) -> AsyncIterator[Bench]:
    """Servers, a worker process with its health port, and an agent that publishes."""
    async with EmbeddedNats() as bus, EmbeddedPostgres() as postgres:
        dsn = await postgres.create_database("penstock")
        await migrated_by_its_owner(dsn)
        settings = environment(bus.url, dsn, http_port=str(port), ack_wait="10s", heartbeat="2s")
        async with WorkerProcess(settings, tmp_path / "worker.log") as worker:
            await worker.start()
            await until(lambda: ready(port))
            load = Load(bus.url)
            publishing = asyncio.create_task(load.run())
            try:
                yield bus, postgres, dsn, load
            finally:
                load.stop()
                publishing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await publishing
            assert worker.running
            assert await worker.stop() == 0


async def ready(port: int) -> bool:
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/readyz") as answer,
        ):
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def red(port: int) -> bool:
    return not await ready(port)


async def equal(bus: str, dsn: str) -> bool:
    return await bucket(bus) == await expected_bucket(dsn)


async def pause_and_resume(tmp_path: Path, which: str, seconds: float, port: int) -> None:
    async with loaded(tmp_path, port) as (bus, postgres, dsn, load):
        server: EmbeddedServer = {"nats": bus, "postgres": postgres}[which]
        await until(lambda: enough(load, 500))
        clock = asyncio.get_running_loop().time
        server.pause()
        paused = clock()
        await until(lambda: red(port))
        turned_red = clock() - paused
        await asyncio.sleep(max(0.0, seconds - turned_red))
        before = len(load.heartbeats)
        server.resume()
        resumed = clock()
        await until(lambda: ready(port))
        turned_green = clock() - resumed
        await until(lambda: enough(load, before + 500))
        load.stop()
        await until(lambda: stored(dsn, load))
        await until(lambda: equal(bus.url, dsn))  # a heartbeat may wait for its turn
        print(
            f"\n{which} stopped for {seconds} s: red after {turned_red:.1f} s, green "
            f"{turned_green:.1f} s after it went on; {len(load.heartbeats)} heartbeats, each once"
        )


async def enough(load: Load, count: int) -> bool:
    return len(load.heartbeats) >= count


async def stored(dsn: str, load: Load) -> bool:
    """Every confirmed heartbeat is there once, every task at its last version."""
    connection = await asyncpg.connect(dsn)
    found = await connection.fetch("SELECT event_id::text FROM agents.heartbeat")
    tasks = await connection.fetch("SELECT external_id, version FROM tasks.task")
    letters = await connection.fetchval("SELECT count(*) FROM bus.dead_letter")
    await connection.close()
    beats = [row[0] for row in found]
    assert len(beats) == len(set(beats))
    assert letters == 0
    versions: dict[str, int] = {row[0]: row[1] for row in tasks}
    behind = {task for task, sent in load.versions.items() if versions.get(task) != sent}
    return not load.heartbeats - set(beats) and not behind


@pytest.mark.faults
@pytest.mark.parametrize("which", ["postgres", "nats"])
async def test_eight_seconds_of_silence(tmp_path: Path, which: str, free_port: int) -> None:
    await pause_and_resume(tmp_path, which, 8, free_port)


@pytest.mark.faults
@pytest.mark.parametrize("which", ["postgres", "nats"])
async def test_twenty_seconds_of_silence(tmp_path: Path, which: str, free_port: int) -> None:
    await pause_and_resume(tmp_path, which, 20, free_port)
