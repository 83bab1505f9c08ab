"""``penstock run`` as an operator sees it end."""

import asyncio
import os
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.support.roles import migrated_by_its_owner
from tests.support.waiting import until
from tests.support.workers import WorkerProcess, environment


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        (("--streams", "TASKS"), "did you mean TASK_EXECUTION?"),
        (("--http-host", "192.0.2.1", "--http-port", "0"), "cannot listen there"),
    ],
    ids=["stream", "address"],
)
async def test_a_fault_of_ours_is_all_that_is_said(
    nats_url: str, database: str, flag: tuple[str, ...], said: str
) -> None:
    """What was open by then is closed without a word."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "penstock", "run", "--log-level", "warning", *flag),
        *("--nats-url", nats_url, "--postgres-dsn", database),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    (line,) = error.decode().splitlines()
    assert line.startswith("Error: ")
    assert said in line


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_signal_while_a_server_is_waited_for_ends_it_at_once(
    database: str, processes: str, tmp_path: Path
) -> None:
    settings = environment(
        "nats://127.0.0.1:9", database, start_timeout="600s", processes=processes
    )
    async with WorkerProcess(settings, tmp_path / "log") as worker:
        await worker.start()
        await until(lambda: worker.said("waiting_for_server"))
        assert await worker.stop() == 0
        assert worker.said("worker_stopped")


async def penstock(dsn: str, nats_url: str, *words: str) -> tuple[int | None, str]:
    """How a command for the shop's events ends, and what it says."""
    path = os.pathsep.join(filter(None, sys.path))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "penstock", *words, "--nats-url", nats_url),
        *("--postgres-dsn", dsn, "--event-packages", "shop_events"),
        env={**os.environ, "PYTHONPATH": path},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_a_column_that_is_missing_is_named_before_any_event_is_taken(
    nats_url: str, database: str
) -> None:
    """With it missing, every good event of the type would become a dead letter."""
    await migrated_by_its_owner(database, ("shop_events",))
    connection = await asyncpg.connect(database)
    await connection.execute("ALTER TABLE shop.customer_order RENAME items TO itms")
    await connection.close()
    missing = "shop.customer_order.items: no such column"
    code, said = await penstock(database, nats_url, "run", "--http-port", "-1")
    assert (code, missing in said, "of shop_events" in said) == (2, True, True), said
    code, said = await penstock(database, nats_url, "doctor")
    assert (code, f"problem  {missing}" in said) == (1, True), said
