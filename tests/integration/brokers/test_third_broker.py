"""A broker that Penstock has never heard of: one room and one entry, and everything works."""

import asyncio
import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from penstock import Publisher, PublishRefused, StateMissing
from penstock.schemas import AgentHeartbeat, AgentStateSet
from penstock.worker.brokers.registry import BROKERS, Entry
from penstock.worker.commands import one_worker
from penstock.worker.commands.doctor import findings
from penstock.worker.commands.provision import provision
from penstock.worker.commands.publish import publish_file
from penstock.worker.errors import StateStoreUnavailable, TopologyError
from penstock.worker.finding import Finding, Verdict
from penstock.worker.settings.keys import Settings
from tests.support import memory_broker
from tests.support.memory_server import MemoryServer
from tests.support.running import running, settings_for
from tests.support.waiting import until

ENTRY = Entry(
    title="Memory",
    broker="tests.support.memory_broker",
    sender="tests.support.memory_broker",
    schemes=("memory",),
    client="nothing",
)
NO_NATS = "nats://127.0.0.1:9"


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> MemoryServer:
    """An empty one, in the registry for the length of a test."""
    monkeypatch.setitem(BROKERS, "memory", ENTRY)
    found = MemoryServer()
    monkeypatch.setattr(memory_broker, "SERVER", found)
    return found


@pytest.fixture
def settings(database: str) -> Settings:
    return settings_for(NO_NATS, database, brokers="memory", kv="false")


async def stored(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        found: int = await connection.fetchval("SELECT count(*) FROM agents.heartbeat")
        return found
    finally:
        await connection.close()


def left(server: MemoryServer) -> int:
    """Messages that nobody has acknowledged."""
    return sum(len(s.waiting) + len(s.held) for s in server.streams.values())


async def test_events_are_rows_once_and_a_repetition_is_a_duplicate(
    settings: Settings, server: MemoryServer
) -> None:
    time = datetime.now(UTC)
    async with running(settings) as worker, Publisher("memory://", source="/test") as bus:
        for count in (500, 100):  # the first hundred come again
            for number in range(count):
                beat = AgentHeartbeat(agent_id=f"a-{number}")
                await bus.publish(beat, id=f"e-{number}", time=time)
            await until(lambda: left(server) == 0)
        await bus.send("agents.x.heartbeat", b"no event", "m-1")
        await until(lambda: left(server) == 0)
        counts = {
            outcome: worker._metrics.registry.get_sample_value(
                "penstock_events_total", {"source": "AGENT_STATE", "outcome": outcome}
            )
            for outcome in ("written", "duplicate", "rejected")
        }
    assert await stored(settings.postgres_dsn) == 500
    assert counts == {"written": 500, "duplicate": 100, "rejected": 1}


async def test_run_drains_at_sigterm(settings: Settings, server: MemoryServer) -> None:
    """What is acknowledged is stored, what is not is given back, and nothing is in between."""
    await provision(settings, dry_run=False)
    published = 0

    async def traffic() -> None:
        nonlocal published
        async with Publisher("memory://", source="/test") as bus:
            while True:
                await bus.publish(AgentHeartbeat(agent_id=f"a-{published}"))
                published += 1
                await asyncio.sleep(0)

    sending = asyncio.create_task(traffic())
    working = asyncio.create_task(one_worker.run(settings))
    await until(lambda: at_least(settings, 1000))
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(working, 30) == 0
    sending.cancel()
    assert not any(stream.held for stream in server.streams.values())
    assert await stored(settings.postgres_dsn) == published - left(server)

    assert await one_worker.run(settings, until_idle=0.5) == 0
    assert await stored(settings.postgres_dsn) == published
    assert left(server) == 0


async def at_least(settings: Settings, count: int) -> bool:
    return await stored(settings.postgres_dsn) >= count


async def test_the_commands_know_it(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await provision(settings, dry_run=True) == 0
    assert "stream AGENT_STATE: missing" in capsys.readouterr().out
    assert "stream AGENT_STATE: missing" in str(await said(settings))
    file = tmp_path / "events.ndjson"
    file.write_text(
        '{"specversion": "1.0", "id": "e", "source": "/t", "type": "agents.heartbeat", '
        '"subject": "a", "time": "2026-01-01T00:00:00Z", "data": {}}\n'
    )
    assert await publish_file(settings, str(file), None) == 0
    assert "1 published" in capsys.readouterr().out
    assert "missing" not in str(found := await said(settings))
    assert Finding(Verdict.GOOD, "memory of this process") in found


async def said(settings: Settings) -> list[Finding]:
    return [finding async for finding in findings(settings)]


async def test_what_is_missing_is_said_and_not_made_without_leave(database: str) -> None:
    careful = settings_for(NO_NATS, database, brokers="memory", kv="false", provision="false")
    with pytest.raises(TopologyError, match="AGENT_STATE: missing"):
        async with running(careful):
            raise AssertionError


async def test_state_is_mirrored_whichever_broker_carries_the_events(
    nats_url: str, database: str
) -> None:
    settings = settings_for(nats_url, database, brokers="memory")
    async with running(settings), Publisher("memory://", source="/test") as bus:
        await bus.publish(AgentStateSet(agent_id="a", state_key="k", value=7), sequence=1)
        with pytest.raises(StateStoreUnavailable, match="connected to Memory"):
            await bus.state("a", "k")
        async with Publisher(nats_url, source="/test") as reader:
            await until(lambda: holds(reader, 7))


async def holds(reader: Publisher, value: int) -> bool:
    try:
        return bool((await reader.state("a", "k")).value == value)
    except StateMissing:
        return False


async def test_a_subject_of_no_stream_is_refused(server: MemoryServer) -> None:
    assert not server.streams
    async with Publisher("memory://", source="/test") as bus:
        with pytest.raises(PublishRefused, match="no stream"):
            await bus.publish(AgentHeartbeat(agent_id="a"))
