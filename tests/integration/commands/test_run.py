"""``penstock run`` as an operator sees it end."""

import asyncio
import os
import sys

import pytest


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
