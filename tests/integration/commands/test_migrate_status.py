"""``penstock migrate status --wait``: what an init container waits with."""

import asyncio

import asyncpg
import pytest

from penstock.worker import migrate
from penstock.worker.commands.migrate import status
from penstock.worker.settings.keys import load
from tests.support.waiting import PATIENCE


async def test_it_waits_until_another_process_has_migrated(
    postgres_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load({"postgres_dsn": postgres_dsn}, environ={})
    waiting = asyncio.create_task(status(settings, PATIENCE))
    await migrate.up(postgres_dsn)
    assert await waiting == 0
    assert "is pending" not in capsys.readouterr().out


async def test_what_is_not_applied_in_time_is_listed(
    postgres_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load({"postgres_dsn": postgres_dsn}, environ={})
    assert await status(settings, 0) == 1
    assert "0001_bus is pending" in capsys.readouterr().out
    assert await status(settings, None) == 0


async def test_what_has_changed_is_not_waited_for(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("UPDATE public.schema_migrations SET checksum = 'x' WHERE version = 1")
    await connection.close()
    settings = load({"postgres_dsn": database}, environ={})
    assert await asyncio.wait_for(status(settings, 10 * PATIENCE), PATIENCE) == 1
