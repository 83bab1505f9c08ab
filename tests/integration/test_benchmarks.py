"""``make bench`` runs, stores everything in every way and says what it measured."""

import asyncio
import json
import os
import random
import sys
from pathlib import Path

import asyncpg
import pytest

from benchmarks.company import fill, scaled
from benchmarks.queries import QUERIES, explained
from benchmarks.rival import missing
from penstock.worker.embedded import ServerFailed, nats_server, postgres_programs

ROOT = Path(__file__).parents[2]


@pytest.fixture
def servers_of_wheels() -> None:
    """The benchmarks start servers themselves, from nowhere else."""
    try:
        nats_server()
        postgres_programs()
    except ServerFailed as error:
        pytest.skip(str(error))


@pytest.mark.faults
@pytest.mark.usefixtures("servers_of_wheels")
async def test_a_quick_run_measures_every_way(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks", "--quick", "--only", "heartbeats", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
    )
    out, error = await asyncio.wait_for(process.communicate(), 480)
    assert process.returncode == 0, error.decode()
    answer = json.loads(out)
    assert {"date", "machine", "cores", "commit", "versions", "rounds"} <= answer.keys()
    compared = answer["compared"]["heartbeats"]
    assert compared["count"] == 2_000
    absent = {
        way: why
        for way, why in (("faststream", missing("faststream")), ("go", missing("go")))
        if why is not None
    }
    ways = {"penstock", "copy", "go", "faststream", "stock", "staged"}
    assert compared["ways"].keys() == ways
    for way in ways - absent.keys():
        (run,) = compared["ways"][way]["runs"]
        assert compared["ways"][way]["median"] == run
        assert run["events"] == (2_000 if way in {"penstock", "copy", "go"} else 500)
        assert run["events_per_second"] > 0
        assert run["peak_mb"] > 10
        assert run["cpu"].keys() == {"worker", "postgres", "nats"}
    for way, why in absent.items():
        assert compared["ways"][way]["trouble"] == why
    assert compared["ways"]["penstock"]["median"]["startup_s"] > 0
    assert "heartbeats: limit" in answer["ratios"]


async def test_every_target_query_finds_rows_by_an_index(
    database: str, connection: asyncpg.Connection
) -> None:
    size = scaled(0)
    await fill(database, size, lambda _: None)
    await connection.execute("SET enable_seqscan = off")  # which is right for so few rows
    rng = random.Random(1)
    for name, query in QUERIES.items():
        found = await explained(connection, query, query.draw(rng, size))
        assert found.rows > 0 or "hour" in name, name
        assert found.pages > 0, name
        assert found.reads, name
        assert [one for one in found.reads if one.startswith("all of")] == [], name
