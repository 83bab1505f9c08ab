"""``penstock partitions``: what it says, does and refuses."""

import asyncio
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from penstock.worker.app import Worker
from penstock.worker.cli import main
from penstock.worker.errors import SettingsError
from penstock.worker.finding import Finding, Verdict
from penstock.worker.postgres.examine import findings as postgres_findings
from penstock.worker.postgres.retention import turn
from penstock.worker.settings.keys import Settings
from tests.support.partitions import (
    OLD,
    PARTITION,
    TABLE,
    contents,
    every_kind,
    keeper_of,
    old_heartbeats,
    place,
    step,
)

ROWS = 3_210


@pytest.fixture
def settings(database: str, tmp_path: Path) -> Settings:
    return keeper_of(database, tmp_path / "archive")


def penstock(settings: Settings, *arguments: str) -> tuple[int, Any]:
    """What a command says, as JSON if it did not fail, and its exit code."""
    dsn = ["--postgres-dsn", settings.postgres_dsn]
    folder = ["--archive-folder", str(settings.archive_folder)]
    said = CliRunner().invoke(main, ["partitions", *arguments, *dsn, *folder, "--json"])
    assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
    text = said.output if said.exit_code == 2 else json.loads(said.stdout)
    return said.exit_code, text


async def command(settings: Settings, *arguments: str) -> tuple[int, Any]:
    return await asyncio.to_thread(penstock, settings, *arguments)


async def test_a_partition_goes_to_a_file_and_comes_back_as_it_was(
    connection: asyncpg.Connection, settings: Settings
) -> None:
    await every_kind(connection, ROWS)
    before = await contents(connection)
    assert len(before) == ROWS

    code, said = await command(settings, "maintain")
    assert code == 2
    assert "--yes" in said
    code, planned = await command(settings, "maintain", "--dry-run")
    steps = [step["action"] for step in planned if step["partition"] == PARTITION]
    assert (code, steps) == (0, ["detach", "move to archive", "export", "drop"])
    assert await contents(connection) == before

    code, done = await command(settings, "maintain", "--yes")
    assert code == 0, done
    assert await contents(connection) == []
    assert await place(connection) == "gone"
    assert (await command(settings, "maintain")) == (0, [])

    file = Path(str(settings.archive_folder)) / f"{PARTITION}.parquet"
    read = pq.read_table(file)
    assert read.num_rows == ROWS
    assert read["n2"][0].as_py() == "1.50"
    assert read["occurred_at"].cast("int64")[0].as_py() % 1_000_000 > 789_012

    code, _ = await command(settings, "import", str(file))
    assert code == 0
    assert await contents(connection) == before
    assert await place(connection) == "attached"
    assert (await command(settings, "maintain")) == (0, []), "it is left alone for a while"
    code, said = await command(settings, "import", str(file))
    assert code == 2
    assert "holds this period already" in said


async def test_a_file_that_is_damaged_or_does_not_fit_is_refused_and_nothing_is_touched(
    connection: asyncpg.Connection, settings: Settings
) -> None:
    await every_kind(connection, 20)
    code, _ = await command(settings, "archive", PARTITION, "--yes")
    assert code == 0
    file = Path(str(settings.archive_folder)) / f"{PARTITION}.parquet"
    manifest = file.with_name(f"{PARTITION}.manifest.json")
    good, described = file.read_bytes(), manifest.read_text()

    async def refused(words: str) -> None:
        code, said = await command(settings, "import", str(file))
        assert (code, words in said) == (2, True), said
        assert await contents(connection) == []
        assert await place(connection) == "gone"

    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    await refused("its manifest says")
    file.unlink()
    await refused(f"cannot read {file}")
    file.write_bytes(good)
    manifest.write_text(described[:-30])
    await refused("is no manifest of a partition")
    manifest.unlink()
    await refused("cannot read")
    manifest.write_text(described.replace('"rows": 20', '"rows": 21'))
    await refused("gave 20 rows of 21")
    manifest.write_text(described)
    await connection.execute(f"ALTER TABLE {TABLE} ALTER n2 TYPE numeric")
    await refused("has a column n2 numeric(12,2)")
    await connection.execute(f"ALTER TABLE {TABLE} ALTER n2 TYPE numeric(12,2)")
    await connection.execute("UPDATE partitions.policy SET table_name = 'x' WHERE export")
    await refused("has no row in partitions.policy here")
    await connection.execute(
        "UPDATE partitions.policy SET table_name = 'Kind of.rows' WHERE export"
    )
    assert (await command(settings, "import", str(manifest), "--dry-run"))[0] == 0
    assert await place(connection) == "gone"
    assert (await command(settings, "import", str(manifest), "--keep", "1"))[0] == 0
    assert len(await contents(connection)) == 20


async def test_it_waits_for_nobody_who_is_at_it(
    connection: asyncpg.Connection, settings: Settings
) -> None:
    await old_heartbeats(connection)
    async with turn(settings, {}):
        code, said = await command(settings, "maintain", "--yes")
        assert (code, "another process" in said) == (2, True)


async def test_the_list_says_what_happens_next(
    connection: asyncpg.Connection, settings: Settings
) -> None:
    await old_heartbeats(connection)
    await connection.execute(f"ANALYZE {OLD}")
    code, found = await command(settings, "list", "agents.heartbeat")
    assert (code, len(found)) == (0, 10)
    oldest, newest = found[0], found[-1]
    assert (oldest["partition"], oldest["next"], oldest["rows"]) == (OLD, "detach", 1)
    assert oldest["lower"] == "2020-02-03T00:00:00Z"
    upper, leaves = (datetime.fromisoformat(newest[name]) for name in ("upper", "due"))
    assert (leaves - upper).days == 90
    assert all(one["bytes"] > 0 and one["place"] == "attached" for one in found)
    code, said = await command(settings, "list", "agents.hartbeat")
    assert (code, "no table agents.hartbeat in partitions.policy" in said) == (2, True)
    code, said = await command(settings, "archive", newest["partition"], "--yes")
    assert (code, "events of this period still come" in said) == (2, True)
    code, said = await command(settings, "archive", "agents.none", "--yes")
    assert (code, "no partition agents.none" in said) == (2, True)


async def test_partitions_are_made_where_they_are_missing(
    connection: asyncpg.Connection, settings: Settings
) -> None:
    await old_heartbeats(connection)
    await step(settings)
    table, span = "agents.heartbeat", ("--since", "2020-02-02", "--until", "2020-02-04")
    code, planned = await command(settings, "ensure", table, *span, "--dry-run")
    assert (code, len(planned)) == (1, 3)
    assert (
        await connection.fetchval(
            "SELECT count(*) FROM partitions.partition WHERE lower_bound < '2021-01-01'"
        )
        == 0
    )
    code, done = await command(settings, "ensure", table, *span)
    assert [bool(one["error"]) for one in done] == [False, True, False]
    assert (await command(settings, "ensure")) == (0, [])
    await connection.execute(
        "UPDATE partitions.policy SET schema_name = 'nowhere' WHERE table_name = 'output'"
    )
    code, done = await command(settings, "ensure")
    assert code == 1
    assert done
    assert all("nowhere" in one["error"] for one in done)


async def test_a_policy_that_drops_what_a_stream_still_has_is_refused(
    connection: asyncpg.Connection, settings: Settings
) -> None:
    await old_heartbeats(connection)
    await connection.execute(
        "UPDATE partitions.policy SET retention = '6 days' WHERE table_name = 'heartbeat'"
    )
    code, said = await command(settings, "maintain", "--yes")
    assert (code, "agents.heartbeat for 6 days" in said) == (2, True), said
    with pytest.raises(SettingsError, match="stream_max_age keeps messages for 7 days"):
        async with Worker(settings, asyncio.Event()):
            pass
    assert [f.text for f in await said_of(settings) if "6 days" in f.text]
    assert await place(connection, OLD) == "attached"
    shorter = msgspec.structs.replace(settings, stream_max_age=5 * 86400.0)
    assert not [f for f in await said_of(shorter) if "6 days" in f.text]
    assert [f for f in await said_of(shorter) if OLD in f.text], "due for long, and nobody does it"


async def said_of(settings: Settings) -> list[Finding]:
    found = [finding async for finding in postgres_findings(settings)]
    return [finding for finding in found if finding.verdict is Verdict.BAD]
