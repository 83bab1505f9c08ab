"""A project with modules named as folders of this tree are: it gets its own, and we get ours."""

from pathlib import Path
from typing import NamedTuple

import pytest
from nats import connect

from tests.wheel.installing import Environment

OTHERS = ("schemas/__init__.py", "schemas/agents.py", "migrations/__init__.py")
AS_MODULE = ("worker.py", *OTHERS)
AS_PACKAGE = ("worker/__init__.py", "worker/publisher.py", *OTHERS)
MARK = 'WHOSE = "theirs"\n'
AGENT = """\
import asyncio
import sys

import migrations, schemas, worker
import schemas.agents

from penstock import Publisher
from penstock.schemas import TaskStatus, TaskUpdated


async def main() -> None:
    async with Publisher(sys.argv[1], source="/agents/a-7") as bus:
        update = TaskUpdated(task_id="t-1", status=TaskStatus.RUNNING)
        print((await bus.publish(update, sequence=3)).stream)


print(worker.WHOSE, schemas.WHOSE, schemas.agents.WHOSE, migrations.WHOSE)
asyncio.run(main())
"""


class Project(NamedTuple):
    """A folder with an agent, and where the modules of the same names are."""

    environment: Environment
    folder: Path
    path: str = ""

    def run(self, *arguments: str, **variables: str) -> str:
        return self.environment.run(
            *arguments, folder=self.folder, PYTHONPATH=self.path, **variables
        )


def plant(folder: Path, files: tuple[str, ...]) -> None:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(MARK)


@pytest.fixture(scope="module")
def crowded(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Where somebody also installed packages called `schemas` and `worker` from PyPI."""
    environment = Environment(tmp_path_factory.mktemp("crowded"), wheel)
    plant(environment.packages, AS_PACKAGE)
    return environment


@pytest.fixture(params=["module beside", "package beside", "on PYTHONPATH", "from PyPI"])
def project(request: pytest.FixtureRequest, installed: Environment, tmp_path: Path) -> Project:
    here, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    here.mkdir()
    (here / "agent.py").write_text(AGENT)
    match request.param:
        case "module beside":
            plant(here, AS_MODULE)
        case "package beside":
            plant(here, AS_PACKAGE)
        case "on PYTHONPATH":
            plant(elsewhere, AS_PACKAGE)
            return Project(installed, here, str(elsewhere))
        case "from PyPI":
            return Project(request.getfixturevalue("crowded"), here)
    return Project(installed, here)


async def test_the_agent_publishes(project: Project, nats_url: str) -> None:
    client = await connect(nats_url)
    await client.jetstream().add_stream(name="TASK_EXECUTION", subjects=["tasks.>"])
    await client.close()
    said = project.run("agent.py", nats_url)
    assert said == "theirs theirs theirs theirs\nTASK_EXECUTION\n"


def test_the_command_runs(project: Project, postgres_dsn: str) -> None:
    assert project.run("-m", "penstock", "--version").startswith("penstock")
    assert "`tasks.updated`" in project.run("-m", "penstock", "events", "--format", "markdown")
    status = project.run("-m", "penstock", "migrate", "status", PENSTOCK_POSTGRES_DSN=postgres_dsn)
    assert "0001_bus" in status


def test_the_installed_script_runs(project: Project) -> None:
    script = project.environment.python.parent / "penstock"
    assert project.run(str(script), "--version").startswith("penstock")
