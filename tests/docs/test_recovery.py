"""The commands of the page about recovery, one after the other, on a database that was lost."""

import asyncio
import os
import shlex
import sys
from pathlib import Path

import asyncpg
import msgspec
import pytest

from tests.docs.pages import blocks
from tests.docs.sections import ROOT
from tests.support.replaying import events, held, stored, write
from tests.support.running import settings_for

PAGE = ROOT / "docs" / "recovery.md"


@pytest.mark.faults
async def test_the_page_brings_everything_back(
    nats_url: str, database: str, postgres_dsn: str, tmp_path: Path
) -> None:
    sane = [one for one in events(300) if not itself(one.body)]
    await stored(settings_for(nats_url, database), write(tmp_path / "events", sane))
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("PENSTOCK_")},
        "PENSTOCK_NATS_URL": nats_url,
        "PENSTOCK_POSTGRES_DSN": postgres_dsn,
    }
    lost, damaged = blocks(PAGE, "console")
    for line in lost.splitlines():
        await run(line.removeprefix("$ "), environment)
    assert await held(postgres_dsn) == await held(database)
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("UPDATE agents.agent SET status = NULL")
    await run(damaged.strip().removeprefix("$ "), environment)
    assert await held(postgres_dsn) == await held(database)
    (query,) = blocks(PAGE, "sql")
    assert {row["state"] for row in await connection.fetch(query)} == {"finished"}
    await connection.close()


def itself(body: bytes) -> bool:
    """Whether something depends on itself, or trusts itself, which the database refuses."""
    event = msgspec.json.decode(body)
    others = (event["data"].get(name) for name in ("depends_on", "to_agent"))
    return event["subject"] in others


async def run(command: str, environment: dict[str, str]) -> None:
    program, *rest = shlex.split(command)
    assert program == "penstock"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", program, *rest, cwd=ROOT, env=environment
    )
    assert await asyncio.wait_for(process.wait(), 120) == 0, command
