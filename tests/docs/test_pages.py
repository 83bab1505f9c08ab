"""What the documents refer to is there, and their code works."""

import ast
import asyncio
import os
import re
import sys
import tomllib
from pathlib import Path

import asyncpg
import pytest

from penstock.schemas.identity import entity_uuid
from penstock.worker.pipeline.decode import REASONS
from penstock.worker.settings.keys import SETTINGS
from tests.docs.pages import PAGES, anchors, blocks, links, paths
from tests.docs.sections import README, ROOT
from tests.support.running import running, settings_for
from tests.support.waiting import PATIENCE, until

DECISIONS = ROOT / "docs" / "decisions"
LOGGED = re.compile(r'log\.(?:debug|info|warning|error|exception)\(\s*"(\w+)"')


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for path, fragment in links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not fragment or fragment in anchors(target), f"{path}#{fragment}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_path_is_there(page: Path) -> None:
    """A module may be named without its suffix; ``*`` stands for any name."""
    for path in paths(page):
        found = [*ROOT.glob(path), *ROOT.glob(f"{path}.py")]
        assert found, path


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_in_a_page_can_be_read(page: Path) -> None:
    for text in blocks(page, "python"):
        ast.parse(text)


def test_contributing_names_every_room() -> None:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    layers = rules["contracts"][0]["layers"]
    rooms = {room for layer in layers for room in re.split(r" [|:] ", layer)}
    page = ROOT / "CONTRIBUTING.md"
    listed = re.findall(r"^\| `(\w+)` \|", page.read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(rooms)
    (picture,) = blocks(page, "mermaid")
    assert rooms <= set(re.findall(r"\w+", picture))


def test_the_index_lists_every_decision() -> None:
    index = DECISIONS / "README.md"
    files = sorted(page.name for page in DECISIONS.glob("[0-9]*.md"))
    assert [path for path, _ in links(index)] == files
    for name in files:
        number = int(name[:4])
        text = (DECISIONS / name).read_text("utf-8")
        title = text.partition("\n")[0].removeprefix(f"# {number}. ")
        assert f"- [{number:04d}]({name}): {title}\n" in index.read_text("utf-8")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
            "Context",
            "Decision",
            "Consequence",
        ]


def test_words_of_the_log_are_those_of_the_code() -> None:
    """A name in backticks that looks like one of ours is one of ours."""
    logged = {
        name
        for file in (ROOT / "worker").rglob("*.py")
        for name in LOGGED.findall(file.read_text("utf-8"))
    }
    heads = {name.partition("_")[0] for name in logged}
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    ours = {
        name for name in re.findall(r"`([a-z]+_[a-z]+)`", text) if name.partition("_")[0] in heads
    }
    named = ours - {*REASONS, *SETTINGS}
    assert len(named) > 10
    assert named <= logged


async def test_the_programs_of_the_readme_run(nats_url: str, database: str) -> None:
    """The first publishes, the second reads what the first has stored."""
    first, second = blocks(README, "python")
    async with running(settings_for(nats_url, database)):
        assert await output_of(first, nats_url) == ""
        connection = await asyncpg.connect(database)
        task = entity_uuid("task", "t-1")
        query = "SELECT status FROM tasks.task WHERE task_id = $1 AND status IS NOT NULL"
        await until(lambda: connection.fetchval(query, task))
        await until(lambda: connection.fetchval("SELECT count(*) FROM agents.state"))
        await connection.close()
    assert await output_of(second, nats_url) == "7 {'line': 42}\n"


async def output_of(program: str, nats_url: str) -> str:
    """What a program prints that finds NATS at the address of the test."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program.replace("nats://127.0.0.1:4222", nats_url)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    printed, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 0
    return printed.decode()
