"""The examples, run as a reader runs them."""

import asyncio
import os
import sys

from tests.docs.sections import ROOT


async def run_example(url: str, name: str, *arguments: str) -> tuple[int | None, list[str]]:
    """Its exit code, and the lines that it printed."""
    environ = {**os.environ, "PENSTOCK_NATS_URL": url, "PYTHONPATH": f"{ROOT}:{ROOT / 'examples'}"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", name, *arguments),
        env=environ,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode().splitlines()
