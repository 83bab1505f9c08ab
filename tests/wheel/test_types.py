"""What the type checkers of an agent's author say, who has installed the wheel.

Both checkers come as wheels, with all that they need; neither asks the network.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from tests.docs.pages import blocks
from tests.docs.sections import README, ROOT
from tests.wheel.installing import Environment, clean_environment

MISTAKES = {
    "a wrong field": 'TaskUpdated(task_id="t-1", status=TaskStatus.RUNNING, assignee="a-7")',
    "a wrong enumeration": 'TaskUpdated(task_id="t-1", status=AgentStatus.ACTIVE)',
    "a text for an enumeration": 'TaskUpdated(task_id="t-1", status="running")',
    "a wrong type": "TaskUpdated(task_id=1, status=TaskStatus.RUNNING)",
    "a missing field": 'TaskUpdated(task_id="t-1")',
    "an unknown attribute": "await bus.publish(right, sequnce=3)",
    "an unknown attribute of the answer": "print((await bus.publish(right)).offset)",
    "a name that is not there": "from penstock import Publishr",
    "no event at all": 'await bus.publish({"task_id": "t-1", "status": "running"})',
}
MISTAKEN = """\
from penstock import Publisher
from penstock.schemas import AgentStatus, TaskStatus, TaskUpdated


async def mistaken(bus: Publisher) -> None:
    right = TaskUpdated(task_id="t-1", status=TaskStatus.RUNNING)
    await bus.publish(right)
    print(AgentStatus.ACTIVE)
"""


class Found(NamedTuple):
    """An error of a checker; lines count from 1."""

    file: str
    line: int
    message: str


def mypy(folder: Path, environment: Environment) -> list[Found]:
    cache = environment.python.parents[1] / "mypy-cache"
    where = ("--python-executable", str(environment.python), "--cache-dir", str(cache))
    said = run("mypy", "--strict", *where, ".", folder=folder)
    pattern = re.compile(r"^([^:\n]+):(\d+): error: (.*)$", re.MULTILINE)
    return [Found(file, int(line), text) for file, line, text in pattern.findall(said)]


def pyright(folder: Path, environment: Environment) -> list[Found]:
    where = ("--pythonpath", str(environment.python))
    said = run("pyright", "--outputjson", *where, ".", folder=folder)
    return [
        Found(Path(error["file"]).name, error["range"]["start"]["line"] + 1, error["message"])
        for error in msgspec.json.decode(said)["generalDiagnostics"]
        if error["severity"] == "error"
    ]


def run(module: str, *arguments: str, folder: Path) -> str:
    """What a checker of ours prints about a folder. Errors are no failure here, crashes are."""
    ended = subprocess.run(
        (sys.executable, "-m", module, *arguments),
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr
    return ended.stdout


Checker = Callable[[Path, Environment], Sequence[Found]]
both = pytest.mark.parametrize("check", [mypy, pyright], ids=["mypy", "pyright"])


@both
def test_the_code_of_the_readme_is_clean(
    installed: Environment, tmp_path: Path, check: Checker
) -> None:
    for number, text in enumerate(blocks(README, "python")):
        (tmp_path / f"agent_{number}.py").write_text(f"# pyright: strict\n{text}")
    assert not check(tmp_path, installed)


@both
def test_a_package_with_events_of_its_own_is_clean(
    installed: Environment, tmp_path: Path, check: Checker
) -> None:
    shutil.copytree(ROOT / "examples" / "shop_events", tmp_path / "shop_events")
    assert not check(tmp_path, installed)


@both
def test_each_mistake_is_found_where_it_is_and_nothing_else(
    installed: Environment, tmp_path: Path, check: Checker
) -> None:
    planted = "".join(f"    {line}\n" for line in MISTAKES.values())
    (tmp_path / "mistaken.py").write_text(MISTAKEN + planted)
    first = MISTAKEN.count("\n") + 1
    found = check(tmp_path, installed)
    lines = list(range(first, first + len(MISTAKES)))
    # A checker may say of one call that no overload takes it, and then why.
    assert list(dict.fromkeys([error.line for error in found])) == lines, found
