"""`penstock replay` from JetStream: what is lost comes back, what is there stays, compared."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock.worker.commands.replay import Report, read_again
from penstock.worker.replay.asked import Asked
from penstock.worker.settings.keys import Settings
from tests.conftest import fresh_database
from tests.support.connecting import connected
from tests.support.mirror import bucket, expected_bucket
from tests.support.replaying import STREAMS, events, held, stored, write
from tests.support.running import settings_for

COUNT = 1500


@pytest.fixture
async def empty(postgres_address: str, migrated: str) -> AsyncIterator[str]:
    """Another database, with all migrations applied and no rows."""
    async with fresh_database(postgres_address, migrated) as dsn:
        yield dsn


async def everything(settings: Settings, **options: Any) -> list[Report]:
    return [
        await read_again(settings, Asked(source="nats", stream=name), **options) for name in STREAMS
    ]


def totals(reports: list[Report]) -> tuple[int, int, int, int]:
    names = ("inserted", "present", "differing", "rejected")
    found = [sum(getattr(report, name) for report in reports) for name in names]
    return found[0], found[1], found[2], found[3]


async def consumers(url: str) -> dict[str, Any]:
    """Every consumer, and how far it is."""
    async with connected(url) as client:
        js = client.jetstream()
        return {
            f"{stream} {info.name}": (info.ack_floor, info.num_pending)
            for stream in STREAMS
            for info in await js.consumers_info(stream)
        }


async def test_a_lost_database_and_bucket_come_back(
    nats_url: str, database: str, empty: str, tmp_path: Path
) -> None:
    live, later = settings_for(nats_url, database), settings_for(nats_url, empty)
    await stored(live, write(tmp_path / "events", events(COUNT)))
    before, mirrored, readers = (
        await held(database),
        await bucket(nats_url),
        await consumers(nats_url),
    )
    assert mirrored
    async with connected(nats_url) as client:
        await client.jetstream().purge_stream("KV_AGENT_STATE")

    assert totals(await everything(later, dry_run=True))[0] == COUNT
    assert not await bucket(nats_url)
    reports = await everything(later)
    assert totals(reports) == (COUNT, 0, 0, 0)
    assert all(report.finished for report in reports)
    assert await held(empty) == before
    assert await bucket(nats_url) == mirrored == await expected_bucket(empty)
    assert totals(await everything(later)) == (0, COUNT, 0, 0)
    assert totals(await everything(later, dry_run=True)) == (0, COUNT, 0, 0)
    assert await held(empty) == before
    assert await consumers(nats_url) == readers
