"""What doctor says of servers that it cannot work with: at once, once, and with what helps."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from penstock.worker.commands.doctor import findings
from penstock.worker.embedded import EmbeddedNats, EmbeddedPostgres
from penstock.worker.finding import Finding, Verdict
from tests.support.running import settings_for

SECONDS = 20
"""A busy machine has them; a worker that starts waits longer."""


async def bad(nats_url: str = "nats://127.0.0.1:1", **given: str) -> list[Finding]:
    settings = settings_for(nats_url, "postgresql://127.0.0.1:1/x", **given)
    async with asyncio.timeout(SECONDS):
        found = [finding async for finding in findings(settings)]
    return [finding for finding in found if finding.verdict is Verdict.BAD]


@pytest.fixture
async def strict_postgres() -> AsyncIterator[EmbeddedPostgres]:
    """A server that asks for a password."""
    async with EmbeddedPostgres(settings={"fsync": "off"}) as server:
        connection = await asyncpg.connect(server.dsn)
        await connection.execute("CREATE ROLE worker LOGIN PASSWORD 'right'")
        rules = server.folder / "data" / "pg_hba.conf"
        rules.write_text("host all postgres 127.0.0.1/32 trust\nhost all all all scram-sha-256\n")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()
        yield server


async def test_a_wrong_password_of_postgresql(strict_postgres: EmbeddedPostgres) -> None:
    dsn = f"postgresql://worker:wrong@127.0.0.1:{strict_postgres.port}/postgres"
    [found] = [f for f in await bad(postgres_dsn=dsn) if "PostgreSQL" in f.text]
    assert "password authentication failed" in found.text
    assert found.remedy == "give the role's password in postgres_dsn or postgres_dsn_file"
    assert "wrong" not in found.text


async def test_a_database_that_is_not_there(postgres: EmbeddedPostgres) -> None:
    [found] = [f for f in await bad(postgres_dsn=postgres.dsn_of("nowhere")) if "Postgre" in f.text]
    assert "does not exist" in found.text
    assert found.remedy == "create the database, then run `penstock migrate up`"


async def test_servers_that_are_away() -> None:
    found = await bad()
    assert ["PostgreSQL" in f.text for f in found] == [True, False]
    assert ["NATS" in f.text for f in found] == [False, True]
    assert {f.remedy for f in found} == {"start it or correct its address"}


async def test_a_login_that_nats_does_not_know() -> None:
    users = "authorization { users: [ { user: worker, password: right } ] }"
    async with EmbeddedNats(extra_config=users) as server:
        given = {"nats_url": server.url, "nats_user": "worker", "nats_password": "wrong"}
        [found] = [f for f in await bad(**given) if "NATS" in f.text]
    assert "uthorization" in found.text
    assert "nats_user" in found.remedy
    assert "start" not in found.remedy
