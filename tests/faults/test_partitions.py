"""Partitions that come and go while 5,000 events arrive each second."""

from pathlib import Path

import pytest

from penstock.worker.embedded import EmbeddedNats, EmbeddedPostgres
from penstock.worker.settings.keys import load
from tests.support.roles import migrated_by_its_owner
from tests.support.rolling import roll_over
from tests.support.waiting import until
from tests.support.workers import WorkerProcess, environment

pytestmark = pytest.mark.faults


async def test_no_event_waits_more_than_a_second_and_none_is_lost(tmp_path: Path) -> None:
    async with EmbeddedNats() as bus, EmbeddedPostgres() as postgres:
        dsn = await postgres.create_database("penstock")
        await migrated_by_its_owner(dsn)
        given = {"nats_url": bus.url, "postgres_dsn": dsn, "archive_folder": str(tmp_path)}
        environ = environment(bus.url, dsn, kv="false", retention="false")
        async with WorkerProcess(environ, tmp_path / "worker.log") as worker:
            await worker.start()
            await until(lambda: worker.said("worker_started"))
            keeper = load(given, environ={})
            found = await roll_over(keeper, rate=5_000, count=100_000, old=200_000)
            print(f"partitions: {found}")
            assert await worker.stop() == 0
        assert found.made == 8
        assert found.longest < 1
