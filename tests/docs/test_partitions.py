"""The commands of the page about partitions, one after the other, as an operator types them."""

import asyncio
import os
import re
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from tests.docs.pages import blocks
from tests.docs.sections import ROOT
from tests.support.partitions import HEARTBEAT
from tests.support.waiting import PATIENCE

PAGE = ROOT / "docs" / "partitions.md"
AUGUST = datetime(2026, 8, 17, 12, tzinfo=UTC)


@pytest.mark.faults
async def test_the_runbook_works(database: str, tmp_path: Path) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("SELECT partitions.ensure_for('agents', 'heartbeat', $1)", AUGUST)
    await connection.execute(HEARTBEAT, AUGUST)
    for statement in blocks(PAGE, "sql"):
        await connection.execute(statement)
    # It is the page's partition, whenever the test runs.
    await connection.execute("UPDATE partitions.policy SET retention = '99 years' WHERE export")
    commands = re.findall(r"^    (penstock .+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(commands) == 7
    for command in commands:
        await run(command, database, tmp_path)
    assert await connection.fetchval("SELECT count(*) FROM agents.heartbeat") == 1
    await connection.close()


async def run(command: str, database: str, folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *shlex.split(command)),
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PENSTOCK_POSTGRES_DSN": database,
            "PENSTOCK_ARCHIVE_FOLDER": "archive",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 0, f"{command}: {said.decode()}"
