"""The commands of the page about dead letters, one after the other, beside a worker."""

import asyncio
import json
import os
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.docs.pages import blocks
from tests.docs.sections import ROOT
from tests.integration.pipeline.test_malformed import HEARTBEAT, body, heartbeat
from tests.support.carriers import Nats
from tests.support.running import running, settings_for
from tests.support.waiting import until

PAGE = ROOT / "docs" / "dead-letters.md"
STILL_WRONG = "requeue 2 --edit"
"""The command whose editor here makes it wrong in another way."""

_COPY = """
INSERT INTO bus.dead_letter (transport, stream, subject, raw_headers, body, digest, reason, status)
SELECT transport, stream, subject, raw_headers, body, convert_to($1, 'UTF8'), $1, $2
FROM bus.dead_letter WHERE letter_id = 1
"""


@pytest.mark.faults
async def test_the_commands_do_what_the_page_says(
    nats_url: str, database: str, tmp_path: Path
) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("ALTER TABLE agents.heartbeat ADD CONSTRAINT calm CHECK (load < 0.7)")
    wrong = heartbeat(data={"load": "high"})
    (tmp_path / "corrected.json").write_text(json.dumps({**wrong, "data": {"load": 0.5}}))
    async with running(settings_for(nats_url, database, kv="false")):
        for sent in (body(data={"load": 0.9}), json.dumps(wrong).encode(), b"hello"):
            await Nats(nats_url).publish([(HEARTBEAT, sent, {})])
            await until(
                lambda sent=sent: connection.fetchval(  # type: ignore[misc]
                    "SELECT count(*) FROM bus.dead_letter WHERE body = $1", sent
                )
            )
        await connection.execute("ALTER TABLE agents.heartbeat DROP CONSTRAINT calm")
        await connection.execute(_COPY, "broker_gave_up", "kept")
        await connection.execute(_COPY, "future", "requeued")
        for command in blocks(PAGE, "sh"):
            code, said = await run(command, tmp_path, nats_url, database)
            assert code == (STILL_WRONG in command), f"{command}{said}"
    rows = await connection.fetch("SELECT letter_id, status, reason FROM bus.dead_letter")
    assert sorted(map(tuple, rows)) == [
        (1, "stored", "row_rejected"),
        (2, "stored", "invalid_data"),
        (3, "discarded", "not_json"),
        (4, "stored", "broker_gave_up"),
        (5, "stored", "future"),
    ]
    (line,) = (tmp_path / "letters.ndjson").read_text().splitlines()
    assert json.loads(line)["body"] == "hello"
    assert await connection.fetchval("SELECT count(*) FROM agents.heartbeat") == 2
    await connection.close()


async def run(command: str, folder: Path, nats_url: str, dsn: str) -> tuple[int | None, str]:
    penstock = folder / "penstock"
    penstock.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m penstock "$@"\n')
    penstock.chmod(0o755)
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", command),
        cwd=folder,
        env={
            "PATH": f"{folder}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
            "EDITOR": "sed -i s/high/higher/",
            "PENSTOCK_POSTGRES_DSN": dsn,
            "PENSTOCK_NATS_URL": nats_url,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()
