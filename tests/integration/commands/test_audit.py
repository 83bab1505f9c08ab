"""``penstock audit verify``, and what honest use of the audit history must not look like."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import msgspec
import pytest

from penstock.worker.checks.runner import examine
from penstock.worker.finding import Verdict
from penstock.worker.postgres.pool import open_pool
from penstock.worker.postgres.seal_check import SealCheck
from penstock.worker.settings.keys import Settings
from tests.integration.postgres.test_due import events, stored
from tests.support.commands import said, typed
from tests.support.partitions import keeper_of, place, step
from tests.support.roles import INGEST, OWNER, READER, execute, logged_in, of_worker
from tests.support.running import settings_for
from tests.support.seals import DELAY, RECORD, examined, seal, sealed_in_rounds, unrecorded
from tests.support.waiting import until

VERIFY = ("audit", "verify")
OLD = datetime(2020, 2, 3, 4, tzinfo=UTC)
ADD = "INSERT INTO audit.log (event_id, occurred_at, actor) VALUES (gen_random_uuid(), $1, 'me')"


@pytest.fixture
def settings(database: str) -> Settings:
    return settings_for("nats://127.0.0.1:1", of_worker(database))


async def as_sent(dsn: str) -> int:
    """Take the events of the seals out of the outbox, and store them as a worker does."""
    pool = await open_pool(dsn, size=2, statement_timeout=30, lock_timeout=5, name="test")
    rows = await pool.fetch("DELETE FROM bus.outbox RETURNING key, data, time")
    made = []
    for key, data, at in rows:
        [event] = events("audit.sealed", key, **msgspec.json.decode(data))
        made.append(msgspec.structs.replace(event, time=at))
    await stored(pool, made)
    await pool.close()
    return len(made)


async def test_it_tells_what_it_found_and_by_its_exit_code(
    connection: asyncpg.Connection, settings: Settings, postgres_dsn: str
) -> None:
    nothing = await said(settings, *VERIFY)
    assert (nothing["intact"], nothing["seals"], nothing["last"]) == (True, 0, None)
    await sealed_in_rounds(connection)
    await connection.execute(ADD, datetime.now(UTC))
    before = await said(settings, *VERIFY)
    assert (before["intact"], before["seals"], before["rows"], before["waiting"]) == (
        True,
        6,
        24,
        1,
    )
    text = (await typed(settings, *VERIFY, "--expect", before["last"])).stdout
    assert "24 rows in 6 seals are as they were sealed" in text
    assert f"--expect {before['last']}" in text
    [good] = await examine(SealCheck(settings, None), repair=False, pause=0)
    assert good.verdict is Verdict.GOOD

    await connection.execute("UPDATE audit.log SET actor = 'me' WHERE entity_id LIKE 'late%'")
    failed = await typed(settings, *VERIFY)
    assert failed.exit_code == 1
    assert "the chain is broken at seal 1: row " in failed.stdout
    assert "Somebody changed the audit history" in failed.stdout
    broken = (await said(settings, *VERIFY, code=1))["broken"]
    assert len(broken) == 12
    assert {one["kind"] for one in broken} == {"changed"}
    [bad] = await examine(SealCheck(settings, None), repair=True, pause=0)
    assert (bad.verdict, bad.count) == (Verdict.BAD, 12)

    for wrong in ("6", "6:abc", f"x:{'0' * 64}"):
        refused = await typed(settings, *VERIFY, "--expect", wrong)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert repr(wrong) in refused.stderr
    empty = settings_for("nats://127.0.0.1:1", postgres_dsn)
    refused = await typed(empty, *VERIFY)
    assert refused.exit_code == 2
    assert "penstock migrate up" in refused.stderr


async def test_who_seals_anew_what_he_changed_is_found_out_by_what_was_told(
    connection: asyncpg.Connection, database: str, settings: Settings
) -> None:
    await sealed_in_rounds(connection)
    kept = (await said(settings, *VERIFY))["last"]
    await connection.execute(
        "DELETE FROM audit.seal WHERE seal_id > 4;"
        "UPDATE audit.log SET actor = 'me' WHERE entity_id = 'this 2 1'"
    )
    await seal(connection, 30 * 60)
    told = await connection.fetch("SELECT data FROM bus.outbox ORDER BY outbox_id")
    assert len(told) == 8
    assert (await said(settings, *VERIFY))["intact"], "the database alone does not know better"
    [broken] = (await said(settings, *VERIFY, "--expect", kept, code=1))["broken"]
    assert (broken["seal_id"], broken["what"], broken["kind"]) == (6, "seal", "changed")
    assert await as_sent(settings.postgres_dsn) == 8
    found = await said(settings, *VERIFY, code=1)
    assert [(one["seal_id"], one["kind"]) for one in found["broken"]] == [
        (5, "changed"),
        (6, "changed"),
    ]
    # A database that is filled again from the streams has a chain of its own.
    await connection.execute("TRUNCATE audit.seal")
    assert not (await examined(database)).intact
    await seal(connection, 10)
    later = await examined(database)
    assert (later.intact, later.foreign) == (True, 8)


async def test_late_events_and_many_who_seal_at_once_are_no_tampering(
    connection: asyncpg.Connection, database: str
) -> None:
    now = datetime.now(UTC)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    await unrecorded(connection, DELAY, 0)
    await execute(
        database,
        *(
            f'ALTER DATABASE "{database.rpartition("/")[2]}" SET {odd}'
            for odd in (
                "datestyle = 'German, DMY'",
                "timezone = 'Asia/Kolkata'",
                "bytea_output = 'escape'",
                "intervalstyle = 'sql_standard'",
            )
        ),
    )
    writer, *sealers = [await asyncpg.connect(database) for _ in range(4)]
    open_one = writer.transaction()
    await open_one.start()
    await writer.execute(ADD, now)
    sealing = [asyncio.create_task(one.fetch("SELECT * FROM audit.seal()")) for one in sealers]
    waits = "SELECT count(*) = 3 FROM pg_stat_activity WHERE query = 'SELECT * FROM audit.seal()'"
    waits += " AND state = 'active' AND datname = current_database()"
    await until(lambda: connection.fetchval(waits))
    await connection.execute(ADD, now)  # is committed before the one that is older
    await open_one.commit()
    done = await asyncio.gather(*sealing)
    assert sum(len(rows) for rows in done) >= 1
    await connection.execute(ADD, month - timedelta(days=1))  # late, of a day that is sealed
    await connection.execute(ADD, now)
    assert len(await seal(connection)) == 2
    found = await examined(database)
    assert (found.intact, found.rows, found.waiting) == (True, 4, 0)
    for one in (writer, *sealers):
        await one.close()
    assert await as_sent(of_worker(database)) == found.seals
    assert await seal(connection) == [], "not of the events of seals alone"
    assert (await examined(database)).waiting == found.seals
    with pytest.raises(asyncpg.PostgresError, match="as a whole") as refused:
        await connection.fetch("SELECT * FROM audit.seal(ARRAY['x'])")
    assert refused.value.sqlstate == "22023"


async def test_partitions_that_retention_takes_out_keep_their_seals(
    connection: asyncpg.Connection, database: str, tmp_path: Path
) -> None:
    keeper = keeper_of(database, tmp_path)
    await connection.execute("SELECT partitions.ensure_for('audit', 'log', $1)", OLD)
    await unrecorded(
        connection, "UPDATE partitions.policy SET export = true WHERE schema_name = 'audit'"
    )
    name = "audit.log_y2020m02"
    await connection.execute(RECORD, "old", 3, OLD, datetime.now(UTC) - timedelta(hours=1))
    assert name not in await step(keeper), "it waits for the seal"
    assert await seal(connection) == ["log_y2020m02"]
    assert (await step(keeper))[name] == ["detach", "move to archive", "export"]
    found = await examined(of_worker(database))
    assert (found.intact, found.rows, found.gone) == (True, 3, [])
    await connection.execute("UPDATE archive.log_y2020m02 SET actor = 'me' WHERE version = 2")
    assert [one.kind for one in (await examined(database)).broken] == ["changed"]
    dropping = "UPDATE partitions.policy SET drop_after = '2 years' WHERE schema_name = 'audit'"
    await unrecorded(connection, dropping)
    await step(keeper)
    assert await place(connection, name) == "gone"
    found = await examined(database)
    assert (found.intact, [(one.partition, one.rows) for one in found.gone]) == (
        True,
        [("log_y2020m02", 3)],
    )
    owner = keeper_of(logged_in(database, OWNER), tmp_path)  # so that workers may read it
    back = await typed(owner, "partitions", "import", str(tmp_path / f"{name}.parquet"))
    assert back.exit_code == 0, back.output
    found = await examined(database)
    assert (found.intact, found.gone, found.rows) == (True, [], 3), found
    await connection.execute("DROP TABLE audit.log_y2020m02; DELETE FROM partitions.detached")
    [broken] = (await examined(database)).broken
    assert (broken.what, broken.kind, broken.partition) == (
        "partition",
        "removed",
        "log_y2020m02",
    )


async def test_keys_are_never_in_the_clear_and_seals_are_made_by_their_function_alone(
    connection: asyncpg.Connection, database: str
) -> None:
    add = "INSERT INTO audit.encryption_key (key_name, key_version, wrapped_key, reference) VALUES "
    await connection.execute(f"{add} ('config', 1, NULL, 'vault:config/1')")
    for wrong in (
        "('config', 2, NULL, 'x')",
        "('other', 1, NULL, NULL)",
        "('other', 1, decode(repeat('00', 32), 'hex'), NULL)",
    ):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await connection.execute(add + wrong)
    await connection.execute(
        "UPDATE audit.encryption_key SET active = false, rotated_at = now();"
        f"{add} ('config', 2, decode(repeat('00', 40), 'hex'), NULL)"
    )
    for role in (INGEST, READER):
        reading = await asyncpg.connect(logged_in(database, role))
        rows = await reading.fetch("SELECT key_version FROM audit.encryption_key WHERE active")
        assert [version for (version,) in rows] == [2]
        for refused in (
            "SELECT wrapped_key FROM audit.encryption_key",
            "UPDATE audit.seal SET rows = 0",
            "DELETE FROM audit.seal",
            "UPDATE audit.log SET actor = NULL",
            "INSERT INTO audit.encryption_key DEFAULT VALUES",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reading.execute(refused)
        await reading.close()
