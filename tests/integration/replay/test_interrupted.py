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
from penstock.worker.commands.replay import Report, read_again
from penstock.worker.embedded import EmbeddedNats
from penstock.worker.replay.asked import Asked
from tests.conftest import fresh_database
from tests.integration.pipeline.test_malformed import HEARTBEAT, body
from tests.support.carriers import Nats
from tests.support.connecting import connection_to
from tests.support.replaying import events, held, totals, write
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


async def replayed(url: str, dsn: str) -> Report | None:
    """What a replay says that dies of certain messages; None if it died."""
    command = (sys.executable, "-c", _DEADLY, "replay", "--stream", STREAM, "--json")
    environ = os.environ | environment(url, dsn, max_crashes="2", batch_size="20", kv="false")
    process = await asyncio.create_subprocess_exec(
        *command, env=environ, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    if process.returncode == 9:
        return None
    return msgspec.json.decode(printed.splitlines()[-1], type=Report)


async def test_a_message_that_ends_replays_is_stepped_over_and_rejected(
    nats_url: str, database: str
) -> None:
    """It takes some deaths to find it. The next replay knows it, and does not try."""
    await provision(settings_for(nats_url, database), dry_run=False)
    bodies = [body() for _ in range(100)]
    bodies[50] = body(source="deadly")
    await Nats(nats_url).publish([(HEARTBEAT, one, {}) for one in bodies])
    deaths = 0
    while (report := await replayed(nats_url, database)) is None:
        deaths += 1
        assert deaths < 6, "it dies for ever"
    assert deaths >= 2
    assert totals([report]) == (99, 0, 0, 1)
    async with connection_to(database) as connection:
        letters = await connection.fetch("SELECT reason, body FROM bus.dead_letter")
        assert [tuple(one) for one in letters] == [("crashes_workers", bodies[50])]
        assert await connection.fetchval("SELECT count(*) FROM bus.crash_marker") == 0
    again = await replayed(nats_url, database)
    assert again is not None
    assert totals([again]) == (0, 99, 0, 1)
