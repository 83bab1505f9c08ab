"""A server that speaks German is understood; one that cannot hold every text is refused."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.worker import migrate
from penstock.worker.commands.doctor import findings
from penstock.worker.embedded import EmbeddedPostgres, ServerFailed
from penstock.worker.errors import MigrationError, PartitionMissing, RowRejected
from penstock.worker.finding import Verdict
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.ports import Message
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.pool import open_pool
from penstock.worker.postgres.sink import PostgresSink
from tests.conftest import FAST, NO_GERMAN
from tests.support.batches import stored_as
from tests.support.clusters import LOCALE, GermanPostgres, german_locale
from tests.support.running import running, settings_for

CATALOGUE = Catalogue.load()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def german() -> AsyncIterator[str]:
    """A migrated database of a server that speaks German."""
    locales = tempfile.mkdtemp(prefix="penstock-locales-")
    try:
        os.environ["LOCPATH"] = str(german_locale(Path(locales)))
        async with GermanPostgres(settings={**FAST, "lc_messages": LOCALE}) as server:
            dsn = await server.create_database("german")
            await migrate.up(dsn)
            yield dsn
    except ServerFailed as missing:
        if os.environ.get("CI"):
            pytest.fail(f"{NO_GERMAN}: {missing}")
        pytest.skip(f"{NO_GERMAN}: {missing}; apt-get install postgresql locales")
    finally:
        os.environ.pop("LOCPATH", None)
        shutil.rmtree(locales, ignore_errors=True)


@pytest.fixture
async def pool(german: str) -> AsyncIterator[asyncpg.Pool]:
    found = await open_pool(german, size=2, statement_timeout=30, lock_timeout=5, name="")
    yield found
    await found.close()


def heartbeat(time: str) -> Event:
    body = {
        "specversion": "1.0",
        "id": time,
        "source": "/s",
        "type": "agents.heartbeat",
        "subject": "a-1",
        "time": time,
        "data": {"status": "busy"},
    }
    decoder = Decoder(CATALOGUE, Window(CATALOGUE, {}, past="unlimited"), max_bytes=1 << 20)
    message = Message(subject="agents.a-1.heartbeat", body=msgspec.json.encode(body))
    (found,) = decoder.decode([message])
    assert isinstance(found, Event)
    return found


async def test_it_does_speak_german(pool: asyncpg.Pool) -> None:
    with pytest.raises(asyncpg.UndefinedTableError, match="existiert nicht"):
        await pool.execute("SELECT * FROM no_such_table")


async def test_a_period_without_a_partition_gets_one(pool: asyncpg.Pool) -> None:
    sink = PostgresSink(pool, CATALOGUE, worker_id="test")
    await sink.prepare()
    written = await sink.write(stored_as([heartbeat("2021-03-04T05:06:07Z")]))
    assert written.new == 1
    assert await pool.fetchval("SELECT count(*) FROM agents.heartbeat") == 1


FAULTS = {
    "INSERT INTO t (n) VALUES (0)": "row_rejected",
    "INSERT INTO t (w) VALUES ('loud')": "row_rejected",
    "INSERT INTO t (n) VALUES (2), (2)": "row_rejected",
    "SELECT 1 / 0": "row_rejected",
    "SELECT 99999::smallint": "out_of_range",
    """SELECT '{"a": "\\u0000"}'::jsonb ->> 'a'""": "nul_character",
    "SELECT convert_from('\\x00', 'UTF8')": "nul_character",
}


async def test_faults_of_the_data_have_their_reasons(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute(
            "CREATE DOMAIN pg_temp.quiet AS text CHECK (VALUE <> 'loud');"
            "CREATE TEMP TABLE t (n int UNIQUE CHECK (n > 0), w pg_temp.quiet)"
        )
        for statement, reason in FAULTS.items():
            with pytest.raises(RowRejected) as caught, translated():
                await connection.execute(statement)
            assert caught.value.reason == reason, statement


async def test_only_a_row_without_a_partition_asks_for_one(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute(
            "CREATE TEMP TABLE parted (n int CHECK (n < 9)) PARTITION BY RANGE (n);"
            "CREATE TEMP TABLE low PARTITION OF parted FOR VALUES FROM (0) TO (5)"
        )
        with pytest.raises(PartitionMissing), translated():
            await connection.execute("INSERT INTO parted VALUES (7)")
        await connection.execute("ALTER TABLE low ADD CHECK (n > 3)")
        with pytest.raises(RowRejected), translated():
            await connection.execute("INSERT INTO parted VALUES (2)")


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_another_encoding_is_refused_everywhere(
    postgres: EmbeddedPostgres, nats_url: str, encoding: str
) -> None:
    name = f"in_{encoding.lower()}"
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute(
        f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 "
        "LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    await connection.close()
    dsn = postgres.dsn_of(name)
    refused = f"encoded in {encoding}, which cannot hold every text; use one made by"
    for attempt in (migrate.up, migrate.status, migrate.check, migrate.down):
        with pytest.raises(MigrationError, match=refused):
            await attempt(dsn)
    settings = settings_for(nats_url, dsn)
    with pytest.raises(MigrationError, match=refused):
        async with running(settings):
            pass
    bad = [one.text async for one in findings(settings) if one.verdict is Verdict.BAD]
    assert len([text for text in bad if f"encoded in {encoding}" in text]) == 1
