"""Workers stopped in turn by SIGTERM, for a minute, under load: they return nothing."""

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial
from itertools import cycle
from pathlib import Path

import pytest

from penstock.worker.commands.provision import provision
from tests.support.connecting import connected
from tests.support.running import settings_for
from tests.support.traffic import LONG, STREAM, all_of, grown, settlements, traffic
from tests.support.waiting import until
from tests.support.workers import WorkerProcess, environment

pytestmark = pytest.mark.faults
SECONDS = 60
BETWEEN_SECONDS = 5


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_replicas_that_are_replaced_return_nothing(
    nats_url: str, database: str, tmp_path: Path, processes: str
) -> None:
    await provision(settings_for(nats_url, database, ack_wait=LONG), dry_run=False)
    settings = environment(nats_url, database, ack_wait=LONG, processes=processes)
    stops = 0
    async with settlements(nats_url) as settled, AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(WorkerProcess(settings, tmp_path / f"log-{n}"))
            for n in range(3)
        ]
        await asyncio.gather(*map(started, workers))
        async with traffic(nats_url) as confirmed:
            begun = time.monotonic()
            for worker in cycle(workers):
                if time.monotonic() > begun + SECONDS:
                    break
                assert await worker.stop() == 0
                stops += 1
                await started(worker)
                await grown(database, 50)
                await asyncio.sleep(max(0, begun + BETWEEN_SECONDS * stops - time.monotonic()))
        await all_of(database, confirmed)
        for worker in workers:
            assert await worker.stop() == 0
        await settled.each_once(len(confirmed))
    unseen = await unseen_copies(nats_url)
    print(f"\n{stops} stops, {len(confirmed)} events, {unseen} copies that no worker saw")


async def started(worker: WorkerProcess) -> None:
    await worker.start("--streams", STREAM)
    await until(partial(worker.said, "worker_started"))


async def unseen_copies(nats_url: str) -> int:
    """What the server has picked for a request that had just ended, and picked again."""
    async with connected(nats_url) as client:
        info = await client.jetstream().consumer_info(STREAM, "penstock")
        assert info.delivered is not None
        return int(info.delivered.consumer_seq - info.delivered.stream_seq)
