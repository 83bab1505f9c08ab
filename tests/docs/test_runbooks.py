"""The commands of the pages about agents' state and about verifying, one after the other."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.schemas.agents import AgentStateSet
from penstock.worker.publisher import Publisher
from penstock.worker.settings.keys import Settings
from tests.docs.pages import blocks
from tests.docs.sections import ROOT
from tests.support.commands import outside, said, typed
from tests.support.running import running, settings_for
from tests.support.waiting import until

STATE, VERIFY = ROOT / "docs" / "agents-state.md", ROOT / "docs" / "verify.md"
AGENT = "a-7"


@pytest.fixture
def settings(nats_url: str, database: str) -> Settings:
    return settings_for(nats_url, database)


def commands(page: Path) -> Iterator[list[str]]:
    """What is typed, without what a shell makes of the result."""
    for block in blocks(page, "bash"):
        for line in block.splitlines():
            program, *words = shlex.split(line.partition("||")[0])
            assert program == "penstock"
            yield words


async def plan(settings: Settings, line: int) -> None:
    """Let the agent change its plan, and wait until that is stored."""
    async with Publisher(settings.nats_url, source="/agents/a-7") as bus:
        event = AgentStateSet(agent_id=AGENT, state_key="plan", value={"line": line})
        await bus.publish(event, sequence=line)

    async def stored() -> bool:
        if (await typed(settings, "state", "get", AGENT)).exit_code:
            return False
        found = await said(settings, "state", "get", AGENT)
        return bool(found["keys"][0]["sequence"] == line)

    await until(stored)


async def test_the_page_about_agents_state_does_what_it_says(settings: Settings) -> None:
    async with running(settings):
        await plan(settings, 41)
        await said(settings, "state", "checkpoint", AGENT, "--name", "after-upgrade")
        for words in commands(STATE):
            result = await typed(settings, *words, answer="y\n")
            wanted = 1 if words[:2] == ["state", "diff"] and len(words) == 4 else 0
            assert result.exit_code == wanted, (words, result.output)
            if "before-upgrade" in words and "checkpoint" in words:
                await plan(settings, 42)
        exact = await typed(settings, "state", "get", AGENT, "plan")
        assert exact.stdout == '{"line":41}\n'


@pytest.mark.faults
async def test_the_page_about_verifying_does_what_it_says(settings: Settings) -> None:
    async with running(settings):
        await plan(settings, 41)
        for words in commands(VERIFY):
            assert await outside(settings, *words) == 0, words
