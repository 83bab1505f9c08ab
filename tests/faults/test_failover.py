"""PostgreSQL fails over under 2,000 events/s: the worker goes on at the promoted standby by itself.

The standby is synchronous, so what the old primary acknowledged is there.
"""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import nats
import pytest

from penstock.worker.embedded import EmbeddedNats, EmbeddedPostgres
from tests.support.clusters import StandbyPostgres, any_of, ask
from tests.support.roles import migrated_by_its_owner
from tests.support.waiting import until
from tests.support.workers import WorkerProcess, environment

pytestmark = pytest.mark.faults

RATE = 2_000
TICKS = 20
"""Each second; so many times a part of the rate is published."""

SECONDS = 16
FENCE = "ALTER SYSTEM SET default_transaction_read_only = on"
STREAMING = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
STORED = "SELECT count(*) FROM agents.heartbeat"
DISTINCT = "SELECT count(DISTINCT event_id) FROM agents.heartbeat"
LETTERS = "SELECT count(*) FROM bus.dead_letter"
NEWEST = "SELECT coalesce(max(occurred_at), '-infinity') FROM agents.heartbeat"


class Traffic:
    """Heartbeats at a steady rate."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.published = 0

    async def flow(self) -> None:
        began = time.monotonic()
        async with await nats.connect(self._url) as client:
            stream = client.jetstream(publish_async_max_pending=RATE)
            for tick in range(SECONDS * TICKS):
                made = [self._event() for _ in range(RATE // TICKS)]
                await asyncio.gather(*[await stream.publish_async(*event) for event in made])
                await asyncio.sleep(max(0, began + tick / TICKS - time.monotonic()))  # the pace

    def _event(self) -> tuple[str, bytes]:
        self.published += 1
        agent = f"a-{self.published % 50}"
        body = {
            "specversion": "1.0",
            "id": f"e-{self.published}",
            "source": "/s",
            "type": "agents.heartbeat",
            "subject": agent,
            "time": datetime.now(UTC),
            "data": {"status": "busy"},
        }
        return f"agents.{agent}.heartbeat", msgspec.json.encode(body)


async def replicate(primary: EmbeddedPostgres) -> None:
    """Have nothing acknowledged that the standby does not hold."""
    await ask(primary, "ALTER SYSTEM SET synchronous_standby_names = 'second'")
    await ask(primary, "SELECT pg_reload_conf()")

    async def streams() -> bool:
        return bool(await ask(primary, STREAMING) == 1)

    await until(streams)


@pytest.mark.parametrize("end", ["killed", "fenced"])
async def test_the_worker_goes_on_at_the_promoted_standby(tmp_path: Path, end: str) -> None:
    async with EmbeddedNats(sync_always=False) as bus, EmbeddedPostgres() as primary:
        await migrated_by_its_owner(primary.dsn)
        async with StandbyPostgres(primary, "second", {"max_connections": "200"}) as standby:
            await replicate(primary)
            more = {"ack_wait": "30s", "heartbeat": "5s"}
            settings = environment(bus.url, any_of(primary, standby), **more)
            async with WorkerProcess(settings, tmp_path / "worker.log") as worker:
                await worker.start()
                await until(lambda: worker.said("worker_started"))
                traffic = Traffic(bus.url)
                flow = asyncio.create_task(traffic.flow())

                async def busy() -> bool:
                    return bool(await ask(primary, STORED) > 2 * RATE)

                await until(busy)
                seconds = await failover(primary, standby, end)
                print(f"{end}: first fresh event stored after {seconds:.1f} s")
                await flow

                async def all_stored() -> bool:
                    return bool(await ask(standby, STORED) >= traffic.published)

                await until(all_stored)
                assert await ask(standby, STORED) == traffic.published == RATE * SECONDS
                assert await ask(standby, DISTINCT) == traffic.published
                assert await ask(standby, LETTERS) == 0
                assert await worker.stop() == 0
            assert seconds < 10


async def failover(primary: EmbeddedPostgres, standby: EmbeddedPostgres, end: str) -> float:
    """The seconds until an event is stored that was published after it."""
    if end == "killed":
        primary.kill()
    else:
        await ask(primary, FENCE, "SELECT pg_reload_conf()")
    happened, began = datetime.now(UTC), time.monotonic()
    await ask(standby, "SELECT pg_promote()")

    async def fresh() -> bool:
        return bool(await ask(standby, NEWEST) > happened)

    await until(fresh)
    return time.monotonic() - began
