"""A database of very many events is lost and read again; and what was changed in it is named.

PENSTOCK_TEST_REPLAY_EVENTS says how many events.
"""

import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

from penstock.worker.commands.one_worker import run
from penstock.worker.commands.provision import provision
from penstock.worker.commands.publish import publish_file
from penstock.worker.commands.replay import Report, read_again
from penstock.worker.embedded import EmbeddedNats, EmbeddedPostgres
from penstock.worker.embedded.rabbitmq import EmbeddedRabbit
from penstock.worker.replay.asked import Asked
from penstock.worker.settings.keys import Settings
from tests.support.mirror import bucket, expected_bucket
from tests.support.replaying import (
    LOST,
    STREAMS,
    change,
    consumers,
    events,
    held,
    most_present,
    totals,
    write,
)
from tests.support.roles import migrated_by_its_owner
from tests.support.running import settings_for

COUNT = int(os.environ.get("PENSTOCK_TEST_REPLAY_EVENTS", "200000"))
pytestmark = pytest.mark.faults


async def everything(settings: Settings) -> list[Report]:
    return [await read_again(settings, Asked(source="nats", stream=name)) for name in STREAMS]


async def test_a_large_database_comes_back_as_it_was(tmp_path: Path) -> None:
    async with EmbeddedNats(sync_always=False) as bus, EmbeddedPostgres() as postgres:
        dsn = await postgres.create_database("first")
        other = await postgres.create_database("second")
        for database in (dsn, other):
            await migrated_by_its_owner(database)
        live, later = (settings_for(bus.url, at, outbox="false") for at in (dsn, other))
        await provision(live, dry_run=False)
        assert await publish_file(live, str(write(tmp_path / "e", events(COUNT))), None) == 0
        begun = time.monotonic()
        assert await run(live, until_idle=1.0) == 0
        drained = COUNT / (time.monotonic() - begun - 1.0)
        before, mirrored, readers = await held(dsn), await bucket(bus.url), await consumers(bus.url)

        reports = await everything(later)
        rejected = len(before["letters"])
        inserted, present, *others = totals(reports)
        assert (inserted + present, *others) == (COUNT - rejected, 0, rejected)
        assert present <= most_present(COUNT)
        assert await held(other) == before
        assert await bucket(bus.url) == mirrored == await expected_bucket(other)
        rate = COUNT / sum(report.seconds for report in reports)
        again = await everything(later)
        assert totals(again) == (0, COUNT - rejected, 0, rejected)
        compared = COUNT / sum(report.seconds for report in again)
        changed = sorted(chain(*(await change(other)).values()))
        assert named(await everything(later)) == changed
        assert len(changed) == 100
        assert await consumers(bus.url) == readers
        print(f"{COUNT} events: drained {drained:.0f}/s, replayed {rate:.0f}/s, ", end="")
        print(f"compared {compared:.0f}/s")


class Bench(NamedTuple):
    """A database that was filled from a broker, and an empty one."""

    live: Settings
    later: Settings
    dsn: str
    other: str


@asynccontextmanager
async def two_databases(source: str) -> AsyncIterator[Bench]:
    """RabbitMQ with stream queues carries the events if it is the source, else NATS."""
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(EmbeddedNats(sync_always=False))
        postgres = await stack.enter_async_context(EmbeddedPostgres())
        carried = {"outbox": "false"}  # what is told on the way depends on the batches
        if source == "rabbitmq":
            rabbit = await stack.enter_async_context(EmbeddedRabbit())
            carried |= {"brokers": source, "rabbitmq_url": rabbit.url}
            carried["rabbitmq_queue_type"] = "stream"
        dsn = await postgres.create_database("first")
        other = await postgres.create_database("second")
        for database in (dsn, other):
            await migrated_by_its_owner(database)
        live, later = (settings_for(bus.url, at, **carried) for at in (dsn, other))
        yield Bench(live, later, dsn, other)


async def from_source(bench: Bench, source: str, file: Path) -> list[Report]:
    """Read all that there is into the other database."""
    if source == "postgres":
        asked = Asked(source=source, stream="")
        return [await read_again(bench.live, asked, into=bench.other)]
    names = STREAMS if source == "rabbitmq" else [str(file)]
    return [await read_again(bench.later, Asked(source=source, stream=name)) for name in names]


LEFT_OUT: dict[str, set[str]] = {"rabbitmq": set(), "file": {"letters"}, "postgres": LOST}
"""Letters of a file name the file."""


@pytest.mark.parametrize("source", LEFT_OUT)
async def test_it_comes_back_from_other_sources(source: str, tmp_path: Path) -> None:
    async with two_databases(source) as bench:
        await provision(bench.live, dry_run=False)
        file = write(tmp_path / "e", events(COUNT))
        assert await publish_file(bench.live, str(file), None) == 0
        assert await run(bench.live, until_idle=1.0) == 0
        before, mirrored = await held(bench.dsn), await bucket(bench.live.nats_url)
        reports = await from_source(bench, source, file)
        after = await held(bench.other)
        assert {name for name in before if before[name] != after[name]} <= LEFT_OUT[source]
        assert await bucket(bench.live.nats_url) == mirrored
        inserted, present, differing, rejected = totals(reports)
        cannot = sorted(one.type for report in reports for one in report.cannot)
        assert differing == 0
        if source == "postgres":
            assert "messages.sent" in cannot
        else:
            letters = len(before["letters"])
            assert (inserted + present, rejected, cannot) == (COUNT - letters, letters, [])
        again = await from_source(bench, source, file)
        assert totals(again)[::2] == (0, 0)
        changed = await change(bench.other)
        lacking = 5 if source == "postgres" else 0  # no message came back that could be changed
        assert sum(map(len, changed.values())) == 100 - lacking
        reports = await from_source(bench, source, file)
        assert named(reports) == sorted(chain(*changed.values()))
        print(
            f"{source}: {inserted} inserted, {rejected} rejected, {rate(reports):.0f}/s, ", end=""
        )
        print(f"compared {rate(again):.0f}/s; not rebuilt: {', '.join(cannot) or 'nothing'}")


def named(reports: list[Report]) -> list[str]:
    """The events that differ."""
    return sorted(one for report in reports for one in report.differing_ids)


def rate(reports: list[Report]) -> float:
    return sum(one.read for one in reports) / sum(one.seconds for one in reports)
