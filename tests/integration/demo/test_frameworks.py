"""``penstock demo --agents NAME``: examples of agents' frameworks, run as their readers do."""

import io
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner
from rich.console import Console

from penstock.schemas.catalogue import Catalogue
from penstock.worker.cli import main
from penstock.worker.demo import examples
from penstock.worker.demo.examples import EXAMPLES, Example, Run, example_of
from penstock.worker.demo.figures import Ledger
from penstock.worker.demo.frameworks import amiss, follow
from penstock.worker.demo.view import landed
from penstock.worker.errors import PenstockError
from penstock.worker.groups.demo import FRAMEWORKS
from tests.docs.sections import ROOT
from tests.support.running import running, settings_for


@pytest.fixture
async def bus(nats_url: str, database: str) -> AsyncIterator[str]:
    async with running(settings_for(nats_url, database)):
        yield nats_url


def _later(name: str) -> object:
    """The one that takes twice as long as the others; its adapter has tests of its own."""
    return pytest.param(name, marks=pytest.mark.faults if name == "openai" else ())


@pytest.mark.parametrize("name", [_later(name) for name in FRAMEWORKS])
async def test_an_example_is_run_and_what_it_left_is_shown(
    bus: str, connection: asyncpg.Connection, name: str
) -> None:
    example, printed = example_of(name), io.StringIO()
    console = Console(file=printed, width=200)
    shown = await follow(example, bus, Ledger(connection, Catalogue.load()), console)
    assert list(amiss(example, shown)) == [], printed.getvalue()
    assert all(shown.answers.values())
    landed(console, shown.answers, shown.rows)
    text = printed.getvalue()
    assert all(line in text for line in (*shown.said, *shown.answers))
    if name == "langgraph":
        assert [line.partition(" ")[0] for line in shown.said] == ["plan", "write", "review"]
        first, *others = [line.rpartition(" ")[2] for line in shown.said]
        assert first not in others
        assert "  killed\n" in text
    elif name == "openai":
        answer = "Your order is on its way."
        assert shown.said == ["0 items so far", answer, "6 items so far", answer]
        assert shown.rows["conversations.item"] == 12
        assert "function_call_output" in text
    else:
        assert shown.said == ['{"forecast":"sun in a"}']
        assert shown.rows["spans.span"] == 4
        assert "execute_tool" in text


async def test_an_example_that_fails_is_told(connection: asyncpg.Connection) -> None:
    wrong = Example(
        package="nowhere",
        distribution="rich",
        runs=(Run(("there",)),),
        arrived="SELECT true",
        shown={},
    )
    shown = await follow(wrong, "", Ledger(connection, Catalogue.load()), Console(quiet=True))
    (said,) = amiss(wrong, shown)
    assert said.startswith("python -m nowhere there ended with 1, expected 0")
    assert "No module named nowhere" in said


def test_what_is_missing_is_named_before_a_server_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert list(EXAMPLES) == list(FRAMEWORKS)
    openai = EXAMPLES["openai"]
    absent = Example(
        package=openai.package, distribution="no-such-sdk", arrived="", shown=openai.shown
    )
    monkeypatch.setattr(examples, "EXAMPLES", {"openai": absent})
    with pytest.raises(PenstockError, match=r"no-such-sdk.*pip install 'penstock\[examples\]'"):
        example_of("openai")
    monkeypatch.setattr(examples, "FOLDER", tmp_path)
    asked = CliRunner().invoke(main, ["demo", "--agents", "openai"])
    assert asked.exit_code == 2
    assert 'make demo ARGS="--agents openai"' in asked.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("0",), "0 is not in the range"),
        (("langchain",), "'langchain' is not one of 'langgraph'"),
        (("langgraph", "--rate", "7"), "--rate is for simulated agents, not for langgraph"),
    ],
)
def test_what_cannot_be_shown_is_refused(arguments: tuple[str, ...], said: str) -> None:
    asked = CliRunner().invoke(main, ["demo", "--agents", *arguments])
    assert asked.exit_code == 2
    assert said in asked.output


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [("", "embedded"), ("--agents 20", "embedded")]
    + [(f"--agents {name} --keep", "examples") for name in FRAMEWORKS]
    + [("--agents=langgraph", "examples")],
)
def test_make_installs_what_the_demo_needs(tmp_path: Path, arguments: str, extra: str) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    done = subprocess.run(
        ["make", "--dry-run", "demo", f"ARGS={arguments}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"installing penstock[{extra}]" in done.stdout
    assert f"penstock demo {arguments}".rstrip() in done.stdout
