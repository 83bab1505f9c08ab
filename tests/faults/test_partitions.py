"""Partitions that come and go while 5,000 events arrive each second."""

from pathlib import Path

import pytest

from penstock.worker.embedded import EmbeddedNats, EmbeddedPostgres
from penstock.worker.settings.keys import load
from tests.support.clocks import ahead
from tests.support.connecting import connection_to
from tests.support.months import ends_in, none_ahead, turn_over
from tests.support.roles import migrated_by_its_owner
from tests.support.rolling import roll_over
from tests.support.waiting import until
from tests.support.workers import WorkerProcess, environment

pytestmark = pytest.mark.faults
RATE = 5_000
SECONDS_BEFORE = 45.0
"""As long as servers may take to start, and some seconds of events."""


async def test_no_event_waits_more_than_a_second_and_none_is_lost(tmp_path: Path) -> None:
    async with EmbeddedNats() as bus, EmbeddedPostgres() as postgres:
        dsn = await postgres.create_database("penstock")
        await migrated_by_its_owner(dsn)
        given = {"nats_url": bus.url, "postgres_dsn": dsn, "archive_folder": str(tmp_path)}
        environ = environment(bus.url, dsn, kv="false", retention="false", outbox="false")
        async with WorkerProcess(environ, tmp_path / "worker.log") as worker:
            await worker.start()
            await until(lambda: worker.said("worker_started"))
            keeper = load(given, environ={})
            found = await roll_over(keeper, rate=RATE, count=100_000, old=200_000)
            print(f"partitions: {found}")
            assert await worker.stop() == 0
        assert found.made == 8
        assert found.longest < 1


async def test_a_month_ends_and_the_next_partitions_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL, worker and publisher live a few days ahead, at the end of this month."""
    end, lead = ends_in(SECONDS_BEFORE)
    clock = ahead(lead.total_seconds())
    for name, value in clock.items():  # read when a program starts: this one has started
        monkeypatch.setenv(name, value)
    async with EmbeddedPostgres() as postgres, EmbeddedNats() as bus:
        dsn = await postgres.create_database("penstock")
        await migrated_by_its_owner(dsn)
        environ = environment(bus.url, dsn, kv="false", retention="false", outbox="false")
        async with (
            connection_to(dsn) as connection,
            WorkerProcess(environ, tmp_path / "worker.log") as worker,
        ):
            await none_ahead(connection)
            await worker.start()
            await until(lambda: worker.said("worker_started"))
            found = await turn_over(connection, bus.url, end=end, ahead=lead, rate=RATE)
            print(f"a month ends: {found}")
            assert await worker.stop() == 0
        assert found.before > RATE
        assert found.after > RATE
        assert found.made >= 2
        assert found.longest < 1
