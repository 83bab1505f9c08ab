"""`penstock replay` from JetStream: what is lost comes back, what is there stays as it is."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from penstock.worker.commands.provision import provision
from penstock.worker.commands.publish import publish_file
from penstock.worker.commands.replay import Report, read_again
from penstock.worker.errors import MigrationError, PenstockError
from penstock.worker.postgres.replays import turn
from penstock.worker.replay.asked import Asked
from penstock.worker.settings.keys import Settings
from tests.conftest import fresh_database
from tests.support.connecting import connected
from tests.support.damage import TASKS_UNTIED
from tests.support.mirror import bucket, expected_bucket
from tests.support.replaying import (
    CATALOGUE,
    STREAMS,
    change,
    consumers,
    events,
    held,
    stored,
    totals,
    write,
)
from tests.support.running import settings_for
from tests.support.traffic import traffic
from tests.support.waiting import PATIENCE, until

COUNT = 1500
AGENTS, TASKS = "AGENT_STATE", "TASK_EXECUTION"
READER = f"{TASKS} penstock"
EARLIER = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
async def empty(postgres_address: str, migrated: str) -> AsyncIterator[str]:
    """Another database, with all migrations applied and no rows."""
    async with fresh_database(postgres_address, migrated) as dsn:
        yield dsn


async def everything(settings: Settings, **options: Any) -> list[Report]:
    return [
        await read_again(settings, Asked(source="nats", stream=name), **options) for name in STREAMS
    ]


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

    rejected = len(before["letters"])
    assert totals(await everything(later, dry_run=True))[1:] == (0, 0, 0)
    assert not await bucket(nats_url)
    reports = await everything(later)
    inserted, present, *others = totals(reports)
    assert (inserted + present, *others) == (COUNT - rejected, 0, rejected)
    assert present < 10, "an event without a history may change no row"
    assert all(report.finished for report in reports)
    assert await held(empty) == before
    assert await bucket(nats_url) == mirrored == await expected_bucket(empty)
    assert totals(await everything(later)) == (0, COUNT - rejected, 0, rejected)
    assert totals(await everything(later, dry_run=True))[1:3] == (COUNT - rejected, 0)
    assert await held(empty) == before
    assert await consumers(nats_url) == readers


DAMAGE = f"""
{TASKS_UNTIED};
DELETE FROM tasks.dependency;
DELETE FROM tasks.task;
UPDATE agents.agent SET status = NULL, name = CASE WHEN profile_event IS NOT NULL THEN 'x' END,
    created_by = CASE WHEN created_event IS NOT NULL THEN 'y' END, last_heartbeat = NULL;
UPDATE agents.state SET value = NULL, deleted_at = now();
"""


@pytest.mark.faults
async def test_what_was_changed_behind_its_back_is_named_and_stays(
    nats_url: str, database: str, tmp_path: Path
) -> None:
    settings = settings_for(nats_url, database)
    await stored(settings, write(tmp_path / "events", events(COUNT)))
    whole = await held(database)
    connection = await asyncpg.connect(database)
    changed = sorted(chain(*(await change(database)).values()))
    before = await held(database)
    for dry_run in (True, False):
        reports = await everything(settings, dry_run=dry_run)
        refused = len(before["letters"])  # what PostgreSQL refuses, it tells who asks it to write
        assert totals(reports)[0] == (refused if dry_run else 0)
        named = [one for report in reports for one in report.differing_ids]
        assert sorted(named) == changed
        assert totals(reports)[2] == len(changed) == 100
    assert await held(database) == before

    await connection.execute(DAMAGE)
    rebuilt = ("agents.agent", "agents.state", "tasks.task", "tasks.dependency")
    for name in STREAMS:
        await read_again(settings, Asked(source="nats", stream=name, rebuild=rebuilt))
    after = await held(database)
    expected = {**before, **{table: whole[table] for table in rebuilt}}
    assert [table for table, rows in expected.items() if after[table] != rows] == []
    await connection.close()


async def test_nothing_is_touched_where_nothing_can_be_read(
    nats_url: str, database: str, postgres_dsn: str, tmp_path: Path
) -> None:
    settings = settings_for(nats_url, database)
    await stored(settings, write(tmp_path / "events", events(200)))
    async with connected(nats_url) as client:
        await client.jetstream().purge_stream(TASKS, seq=11)
    later = datetime.now(UTC) + timedelta(hours=1)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"stream": "NONE"}, r"stream NONE: no such stream; the server has .*TASK_EXECUTION"),
        ({"from_seq": 3}, r"messages before 11 are gone, so .* say --from-seq 11"),
        ({"since": EARLIER.isoformat()}, r"messages before .* are gone, so .* say --from-seq 11"),
        ({"from_seq": 4000}, "nothing is in the range; it has 11 to"),
        ({"to_seq": 10}, "nothing is in the range; it has 11 to"),
        ({"since": later.isoformat()}, "no message matches; it has 11 to"),
        ({"until": EARLIER.isoformat()}, "nothing is as old as"),
        ({"subject": "tasks.nobody.>"}, "no message matches"),
        ({"agent": "entity-1"}, "none of [1-9][0-9]* messages matches; widen the filters"),
        ({"type": "tasks.craeted"}, r"no such type of event; did you mean tasks\.created"),
        ({"subject": "tasks..x"}, "tokens between dots"),
        ({"rebuild": ("agents.stats",)}, r"no events state its rows; known are agents\.agent"),
    ]
    readers = await consumers(nats_url)
    for options, said in refused:
        with pytest.raises(PenstockError, match=said):
            await read_again(settings, Asked(**{"source": "nats", "stream": TASKS, **options}))
    with pytest.raises(MigrationError, match="run `penstock migrate up` before"):
        await read_again(settings, Asked(source="nats", stream=TASKS), into=postgres_dsn)
    async with turn(settings, Asked(source="nats", stream=TASKS).text):
        with pytest.raises(PenstockError, match="the same replay is running already"):
            await read_again(settings, Asked(source="nats", stream=TASKS))
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SELECT count(*) FROM bus.replay") == 0
    await connection.close()
    assert await consumers(nats_url) == readers


async def test_a_part_is_read_by_filters_and_range(
    nats_url: str, database: str, empty: str, tmp_path: Path
) -> None:
    live, other = settings_for(nats_url, database), settings_for(nats_url, empty)
    await stored(live, write(tmp_path / "events", events(COUNT)))
    chosen: list[dict[str, Any]] = [
        {"type": "agents.activity"},
        {"subject": "agents.*.activity"},
        {"from_seq": 5, "to_seq": 24},
    ]
    each = -(-COUNT // len(CATALOGUE.types))  # of a type, or one less
    for options, count in zip(chosen, (each, each, 20), strict=True):
        report = await read_again(other, Asked(source="nats", stream=AGENTS, **options))
        assert report.read in {count, count - 1}
    report = await read_again(other, Asked(source="nats", stream=AGENTS, agent="entity-2"))
    connection = await asyncpg.connect(empty)
    keys = "SELECT count(*) FROM events.log WHERE entity_id = 'entity-2' AND domain = 'agents'"
    assert 0 < await connection.fetchval(keys) <= report.read < 100
    assert await connection.fetchval("SELECT count(*) FROM bus.gap WHERE transport <> 'nats'") == 0
    await connection.close()
    keys_before = (await bucket(nats_url)).keys()
    report = await read_again(live, Asked(source="nats", stream=AGENTS), into=empty)
    assert report.inserted > 0
    assert (await bucket(nats_url)).keys() == keys_before


async def test_it_ends_although_the_stream_goes_on(
    nats_url: str, empty: str, tmp_path: Path
) -> None:
    settings = settings_for(nats_url, empty)
    await provision(settings, dry_run=False)
    assert await publish_file(settings, str(write(tmp_path / "events", events(300))), None) == 0
    async with traffic(nats_url) as confirmed:
        await until(lambda: len(confirmed) >= 20)
        asked = Asked(source="nats", stream=TASKS)
        report = await asyncio.wait_for(read_again(settings, asked), PATIENCE)
    assert report.finished
    assert report.inserted > 50
    assert {name for name in await consumers(nats_url) if name.startswith(TASKS)} == {READER}
