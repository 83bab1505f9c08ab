"""Workers stopped in turn by SIGTERM, for a minute, under load: they return nothing."""

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from penstock.worker.commands.provision import provision
from tests.support.running import settings_for
from tests.support.traffic import STREAM, all_of, grown, hardly_any_again, traffic
from tests.support.waiting import until
from tests.support.workers import WorkerProcess, environment

pytestmark = pytest.mark.faults
SECONDS = 60
BETWEEN_SECONDS = 5


async def test_replicas_that_are_replaced_return_nothing(
    nats_url: str, database: str, tmp_path: Path
) -> None:
    await provision(settings_for(nats_url, database), dry_run=False)
    # Nothing may come again because a busy machine was slow.
    settings = environment(nats_url, database, ack_wait="30s")
    stops = 0
    async with AsyncExitStack() as stack, traffic(nats_url) as confirmed:
        workers = [
            await stack.enter_async_context(WorkerProcess(settings, tmp_path / f"log-{n}"))
            for n in range(3)
        ]
        await asyncio.gather(*(worker.start("--streams", STREAM) for worker in workers))
        for worker in workers:
            await until(partial(worker.said, "worker_started"))
        over = time.monotonic() + SECONDS
        while time.monotonic() < over:
            worker = workers[stops % 3]
            assert await worker.stop() == 0
            await worker.start("--streams", STREAM)
            await asyncio.sleep(BETWEEN_SECONDS)
            await until(partial(worker.said, "worker_started"))
            await grown(database, 50)
            stops += 1
        for worker in workers:
            assert await worker.stop() == 0
    async with WorkerProcess(settings, tmp_path / "log") as worker:
        await worker.start("--streams", STREAM)
        await all_of(database, confirmed)
        await hardly_any_again(nats_url, len(confirmed), stops + 3)
    print(f"\n{stops} stops, {len(confirmed)} events")
