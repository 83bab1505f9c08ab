"""Reading what one has written: after a receipt, by waiting, by watching, and without async."""

import asyncio
import logging
import subprocess
import sys
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from penstock import EventRejected, Publisher, StateMissing, StateNotReached
from penstock.schemas.agents import AgentStateDeleted, AgentStateSet
from penstock.schemas.identity import entity_uuid, kv_key
from penstock.sync import Publisher as SyncPublisher
from penstock.worker.embedded import EmbeddedNats
from penstock.worker.nats.kv.store import JetStreamKv
from penstock.worker.publisher.states import Written
from penstock.worker.sending.state import StateValue
from tests.support.bucket import make_bucket, row
from tests.support.connecting import connected
from tests.support.running import running, settings_for
from tests.support.waiting import until

AGENT = "a-7"


def number(value: int) -> AgentStateSet:
    return AgentStateSet(agent_id=AGENT, state_key="n", value=value)


async def test_after_a_receipt_nothing_older_is_shown(nats_url: str, database: str) -> None:
    async with (
        running(settings_for(nats_url, database)),
        Publisher(nats_url, source="/test") as bus,
        Publisher(nats_url, source="/other") as other,
    ):
        assert await bus.state(AGENT, "n", 7) == StateValue(value=7)
        assert await bus.state(AGENT, "n", None) == StateValue()
        with pytest.raises(StateMissing):
            await bus.state(AGENT, "n")
        async with aclosing(other.watch(AGENT, "n")) as changes:
            assert await anext(changes) is None
            waiting = asyncio.create_task(other.wait_for(AGENT, "n", version=10))
            for value in range(1, 21):
                await bus.publish(number(value), sequence=value, receipt=True)
                found = await bus.state(AGENT, "n")
                assert (found.value, found.version) == (value, value)
            assert (await waiting).version >= 10
            while (seen := await anext(changes)) is None or seen.version < 20:
                pass
            gone = AgentStateDeleted(agent_id=AGENT, state_key="n")
            await bus.publish(gone, sequence=21, receipt=True)
            assert await anext(changes) is None
        with pytest.raises(StateMissing):
            await bus.state(AGENT, "n")
        with pytest.raises(StateNotReached, match=r"'n' of agent 'a-7' is not there, not 3 or"):
            await bus.wait_for(AGENT, "n", version=3, timeout=0.2)


async def test_a_replica_that_is_behind_gets_time(nats_url: str) -> None:
    """The bucket is as a follower would show it: it gets the version later than the receipt."""
    async with connected(nats_url) as client, Publisher(nats_url, source="/test") as bus:
        await make_bucket(client, "AGENT_STATE", atomic=True)
        store = JetStreamKv(client, "AGENT_STATE")
        place = kv_key(entity_uuid("agent", AGENT), "n")
        await store.put([row(place, 4)])
        bus._written.note(number(5), 5)
        reading = asyncio.create_task(bus.state(AGENT, "n"))
        assert not (await asyncio.wait({reading}, timeout=0.3))[0]
        await store.put([row(place, 5)])
        assert (await reading).version == 5


def test_what_was_written_is_remembered_by_key() -> None:
    written = Written()
    written.note(number(5), 5)
    written.note(number(4), 4)
    [place] = written._known
    assert not written.shows(place, StateValue(version=4))
    assert not written.shows(place, None)
    assert written.shows(place, StateValue(version=6))
    written.note(AgentStateDeleted(agent_id=AGENT, state_key="n"), 7)
    assert written.shows(place, None)
    assert not written.shows(place, StateValue(version=6))
    written.forget(place)
    assert written.shows(place, None)


async def test_a_broker_that_is_away_is_waited_for_and_the_log_says_so(
    free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "penstock")
    bus = Publisher(f"nats://127.0.0.1:{free_port}", source="/test", wait=True)
    opening = asyncio.create_task(bus.__aenter__())
    await until(lambda: "publisher_waits" in caplog.text)
    assert not opening.done()
    async with EmbeddedNats(port=free_port):
        await opening
        assert "publisher_open" in caplog.text
        await bus.__aexit__(None, None, None)


async def test_the_same_without_async_beside_a_running_loop(nats_url: str, database: str) -> None:
    async with running(settings_for(nats_url, database)):
        await asyncio.to_thread(use_plainly, nats_url)
        script = await asyncio.to_thread(run_script, nats_url)
    assert (script.returncode, script.stdout, script.stderr) == (0, b"", b"")


def use_plainly(url: str) -> None:
    async def notebook() -> None:
        """As a cell of a notebook: a loop runs in this thread."""
        with SyncPublisher(url, source="/test") as bus:
            assert bus.publish(number(1), sequence=1, receipt=True).outcome == "stored"
            assert bus.state(AGENT, "n").value == 1
            assert bus.wait_for(AGENT, "n", version=1).version == 1
            soon = [bus.publish_soon(number(n), sequence=n) for n in range(2, 30)]
            bus.flush()
            assert all(one.result(30).stream == "AGENT_STATE" for one in soon)
            changes = bus.watch(AGENT, "n")
            assert next(changes) is not None
            changes.close()  # type: ignore[attr-defined]
            with pytest.raises(EventRejected):
                bus.publish(
                    number(1), sequence=1, receipt=True, time=datetime.now(UTC) + timedelta(days=2)
                )
        bus.close()
        with pytest.raises(RuntimeError, match="not open"):
            bus.flush()

    asyncio.run(notebook())


SCRIPT = """
import sys
from penstock.schemas.identity import entity_uuid, kv_key
from penstock.sync import Publisher
from penstock.schemas import AgentHeartbeat

bus = Publisher(sys.argv[1], source="/script").open()
for n in range(50):
    bus.publish_soon(AgentHeartbeat(agent_id="a-8"))
"""
"""Ends without closing anything."""


def run_script(url: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, url], capture_output=True, check=False, timeout=60
    )
