"""A replay whose server is killed meanwhile, and one that a message would end each time."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import msgspec
import pytest

from penstock.worker.commands.provision import provision
from penstock.worker.commands.publish import publish_file
from penstock.worker.commands.replay import Report, question, read_again
from penstock.worker.embedded import EmbeddedNats
from penstock.worker.replay.asked import Asked
from tests.conftest import fresh_database
from tests.integration.pipeline.test_malformed import HEARTBEAT, body
from tests.support.carriers import Nats
from tests.support.connecting import connection_to
from tests.support.mirror import bucket, expected_bucket
from tests.support.replaying import events, held, registrations, totals, write
from tests.support.running import settings_for
from tests.support.waiting import PATIENCE, until
from tests.support.workers import environment

STREAM = "AGENT_STATE"
_DEADLY = """
import os
from penstock.worker.cli import main
from penstock.worker.pipeline.decode import Decoder
decode = Decoder.decode

def deadly(self, messages):
    if any(b"deadly" in message.body for message in messages):
        os._exit(9)
    return decode(self, messages)

Decoder.decode = deadly
main()
"""
_DIES_BEFORE_THE_BUCKET = """
import os
from penstock.worker.cli import main
from penstock.worker.pipeline.hydrate import Hydrator

async def deadly(self, touched):
    os._exit(9)

Hydrator.hydrate = deadly
main()
"""


@pytest.fixture
async def empty(postgres_address: str, migrated: str) -> AsyncIterator[str]:
    """Another database, with all migrations applied and no rows."""
    async with fresh_database(postgres_address, migrated) as dsn:
        yield dsn


async def read_so_far(connection: asyncpg.Connection) -> int:
    return int(await connection.fetchval("SELECT coalesce(max(read), 0) FROM bus.replay"))


def accounted(report: Report) -> tuple[int, int, int]:
    """Whether an event without a history changes a row depends on those before it."""
    return report.inserted + report.present, report.differing, report.rejected


async def test_a_server_that_is_killed_meanwhile_makes_no_difference(
    database: str, empty: str, tmp_path: Path
) -> None:
    """Each message counts once, as in a replay that nothing disturbed."""
    asked = Asked(source="nats", stream=STREAM)
    async with EmbeddedNats() as bus, connection_to(database) as connection:
        disturbed = settings_for(bus.url, database, batch_size="10", kv="false")
        calm = msgspec.structs.replace(disturbed, postgres_dsn=empty, batch_size=500)
        await provision(disturbed, dry_run=False)
        file = write(tmp_path / "events", events(4_000))
        assert await publish_file(disturbed, str(file), None) == 0
        reading = asyncio.create_task(read_again(disturbed, asked))
        for part in (50, 300):
            await until(lambda: above(connection, part))  # noqa: B023  (awaited in this round)
            bus.kill()
            assert not reading.done()
            await bus.restart()
        report = await asyncio.wait_for(reading, PATIENCE)
        undisturbed = await read_again(calm, asked)
        assert accounted(report) == accounted(undisturbed)
        assert report.finished
        assert await held(database) == await held(empty)


async def above(connection: asyncpg.Connection, count: int) -> bool:
    return await read_so_far(connection) > count


async def replayed(
    url: str, dsn: str, *options: str, code: str = _DEADLY, kv: bool = False
) -> Report | None:
    """What a replay says that dies of certain messages; None if it died."""
    command = (sys.executable, "-c", code, "replay", *options, "--json")
    environ = os.environ | environment(
        url, dsn, max_crashes="2", batch_size="20", kv=str(kv).lower()
    )
    process = await asyncio.create_subprocess_exec(
        *command, env=environ, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    if process.returncode == 9:
        return None
    return msgspec.json.decode(printed.splitlines()[-1], type=Report)


async def until_it_lives(url: str, dsn: str, *options: str) -> tuple[Report, int]:
    """What the same command says at last, and how often it died."""
    deaths = 0
    while (report := await replayed(url, dsn, *options)) is None:
        deaths += 1
        assert deaths < 6, "it dies for ever"
    return report, deaths


@pytest.mark.faults
async def test_a_message_that_ends_replays_is_stepped_over_and_rejected(
    nats_url: str, database: str
) -> None:
    """It takes some deaths to find it. The next replay knows it, and does not try. That a part of
    the stream begins so long ago makes no difference; what came meanwhile belongs to it.
    """
    asked = ("--stream", STREAM, "--since", "25h")
    await provision(settings_for(nats_url, database), dry_run=False)
    bodies = [body() for _ in range(100)]
    bodies[50] = body(source="deadly")
    bus = Nats(nats_url)
    await bus.publish([(HEARTBEAT, one, {}) for one in bodies])
    assert await replayed(nats_url, database, *asked) is None
    await bus.publish([(HEARTBEAT, body(), {}) for _ in range(10)])
    report, deaths = await until_it_lives(nats_url, database, *asked)
    assert deaths >= 1
    assert (report.replay, report.went_on, totals([report])) == (1, True, (109, 0, 0, 1))
    async with connection_to(database) as connection:
        letters = await connection.fetch("SELECT reason, body FROM bus.dead_letter")
        assert [tuple(one) for one in letters] == [("crashes_workers", bodies[50])]
        assert await connection.fetchval("SELECT count(*) FROM bus.crash_marker") == 0
        begins = "SELECT since < started_at - interval '25 hours' FROM bus.replay"
        assert await connection.fetchval(begins)
    again = await replayed(nats_url, database, "--stream", STREAM)
    assert again is not None
    assert (again.replay, again.went_on, totals([again])) == (2, False, (0, 109, 0, 1))


@pytest.mark.faults
async def test_a_deadly_event_of_a_history_takes_no_other_with_it(
    nats_url: str, database: str, empty: str, tmp_path: Path
) -> None:
    live = settings_for(nats_url, database, kv="false")
    names = ["deadly" if n == 17 else f"a-{n}" for n in range(50)]
    file = write(tmp_path / "events", registrations(names))
    await read_again(live, Asked(source="file", stream=str(file)))
    report, deaths = await until_it_lives(
        nats_url, database, "--source", "postgres", "--into", empty
    )
    assert deaths >= 2
    assert totals([report]) == (49, 0, 0, 1)
    async with connection_to(empty) as connection:
        assert await connection.fetchval("SELECT count(*) FROM events.log") == 49
        reasons = await connection.fetch("SELECT reason FROM bus.dead_letter")
        assert [reason for (reason,) in reasons] == ["crashes_workers"]


async def test_the_bucket_gets_what_a_killed_replay_left_out(
    nats_url: str, database: str, tmp_path: Path
) -> None:
    settings = settings_for(nats_url, database)
    await provision(settings, dry_run=False)
    file = write(tmp_path / "events", registrations([f"a-{n}" for n in range(100)]))
    killed = await replayed(
        nats_url, database, "--file", str(file), code=_DIES_BEFORE_THE_BUCKET, kv=True
    )
    assert killed is None
    options = {"source": None, "rebuild": None, "stream": None, "subject": None, "type": None}
    options |= dict.fromkeys(["from_seq", "since", "to_seq", "until", "agent"])
    report = await read_again(settings, question(settings, file=str(file), **options))
    assert (report.went_on, report.finished, report.read) == (True, True, 100)
    mirrored = await bucket(nats_url)
    assert len(mirrored) >= 100
    assert mirrored == await expected_bucket(database)
