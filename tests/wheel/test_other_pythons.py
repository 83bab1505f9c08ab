"""The Publisher on other versions of Python than the one that runs the tests, where there are any.

Their third-party packages come from the package index: compiled ones fit one version only.
"""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats import connect

from penstock.worker.embedded import EmbeddedNats
from tests.docs.sections import ROOT
from tests.wheel.installing import checked

VERSIONS = ["3.11", "3.12", "3.13", "3.14"]
USERS = """authorization { users: [
    { user: "all", password: "all" }
    { user: "mute", password: "mute", permissions: { publish: { deny: "agents.>" } } }
] }
"""
AGENT = """
import asyncio, sys, time
from penstock import NatsOptions, Publisher, PublishRefused
from penstock.schemas import AgentHeartbeat


async def main(url):
    event = AgentHeartbeat(agent_id="a-7")
    async with Publisher(NatsOptions(url=url, user="all", password="all"), source="/a") as bus:
        print((await bus.publish(event)).stream)
    for turns in range(8):
        mute = NatsOptions(url=url, user="mute", password="mute")
        async with asyncio.timeout(10), Publisher(mute, source="/a") as bus:
            refused = await bus.publish_soon(event)
            await asyncio.wait({refused})
            for _ in range(turns):
                await asyncio.sleep(0)
        print(type(refused.exception()).__name__)


asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture(params=[v for v in VERSIONS if v != "{}.{}".format(*sys.version_info)])
def other(request: pytest.FixtureRequest, wheel: Path, tmp_path: Path) -> Path:
    """A Python of another version with the wheel and what it needs."""
    name = f"python{request.param}"
    found = shutil.which(name)
    works = (
        found and not subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode
    )
    if not works:
        pytest.skip(f"not run: there is no {name} here")
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([str(found), "-m", "venv", tmp_path / "venv"], check=True)
    install = ("-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(wheel))
    ended = subprocess.run([python, *install], capture_output=True, text=True, check=False)
    if ended.returncode:
        pytest.skip(f"not run: {name} cannot install what Penstock needs: {ended.stderr[-200:]}")
    return python


@pytest.fixture
async def server() -> AsyncIterator[str]:
    async with EmbeddedNats(extra_config=USERS) as server:
        client = await connect(server.url, user="all", password="all")
        await client.jetstream().add_stream(name="AGENT_STATE", subjects=["agents.>"])
        await client.close()
        yield server.url


async def test_publishing_and_leaving(other: Path, server: str, tmp_path: Path) -> None:
    said = await asyncio.to_thread(checked, str(other), "-c", AGENT, server, cwd=tmp_path)
    assert said.split() == ["AGENT_STATE", *["PublishRefused"] * 8]
