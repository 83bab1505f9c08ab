"""What is in the wheel, whichever way it is built."""

import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.docs.sections import ROOT
from tests.wheel.installing import Environment, build

_SAFELY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
"""Pythons before 3.11.4 know no filters, later ones ask for one."""


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_its_top_level_is_penstock_alone(wheel: Path) -> None:
    top = {name.partition("/")[0] for name in contents(wheel)}
    assert top - {name for name in top if name.endswith(".dist-info")} == {"penstock"}


def test_it_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    rooms = {name: ROOT / name for name in ("worker", "schemas", "migrations")}
    rooms["integrations"] = ROOT / "penstock" / "integrations"
    wanted = {f"penstock/{file.name}" for file in (ROOT / "penstock").iterdir() if file.is_file()}
    for name, room in rooms.items():
        files = (file.relative_to(room) for file in room.rglob("*") if file.is_file())
        wanted |= {f"penstock/{name}/{file}" for file in files if file.suffix != ".pyc"}
    assert {name for name in contents(wheel) if ".dist-info/" not in name} == wanted
    assert "penstock/py.typed" in wanted


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    archive = build("sdist", tmp_path)
    with tarfile.open(archive) as unpacked:
        unpacked.extractall(tmp_path, **_SAFELY)  # noqa: S202  (an archive of ours)
    (tree,) = (folder for folder in tmp_path.iterdir() if folder.is_dir())
    assert contents(build("wheel", tmp_path / "again", tree)) == contents(wheel)


def test_what_the_dockerfile_copies_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    tree = tmp_path / "src"
    tree.mkdir()
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            copy(ROOT / line[1:], tree / line[1:])
    assert contents(build("wheel", tmp_path / "again", tree)) == contents(wheel)


def copy(source: Path, target: Path) -> None:
    """As COPY does it: links stay links."""
    if source.is_dir():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, target, symlinks=True, ignore=ignored)
    else:
        shutil.copy(source, target)


@pytest.mark.parametrize("module", ["penstock", "penstock.worker.cli", "penstock.schemas"])
def test_modules_come_from_the_wheel(installed: Environment, tmp_path: Path, module: str) -> None:
    where = installed.run("-c", f"import {module} as m; print(m.__file__)", folder=tmp_path)
    assert Path(where).is_relative_to(installed.packages)
