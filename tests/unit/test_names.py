"""`worker/`, `schemas/` and `migrations/` are folders of the tree; imported they are `penstock.…`.

A module that is loaded under both names exists twice: its classes are not the same, its registers
and caches are not shared. So the old names appear nowhere, in code, in texts or in commands.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, blocks
from tests.docs.sections import ROOT

FOLDERS = ("worker", "schemas", "migrations")
CODE = sorted(
    file
    for top in ("worker", "schemas", "penstock", "tests", "benchmarks", "examples")
    for file in (ROOT / top).rglob("*.py")
    if not file.is_symlink()
)
TEXTS = sorted(
    [
        *CODE,
        *PAGES,
        *(ROOT / name for name in ("Makefile", "Dockerfile", "pyproject.toml")),
        *(file for file in (ROOT / "deploy").rglob("*") if file.is_file()),
        *ROOT.glob("*.yml"),
        *ROOT.glob("*.toml"),
    ]
)
ABOUT_THEM = {Path(__file__), ROOT / "tests" / "wheel" / "test_collisions.py"}
MODULES = {
    f"{folder}.{file.relative_to(ROOT / folder).with_suffix('').parts[0]}"
    for folder in ("worker", "schemas")
    for file in (ROOT / folder).rglob("*.py")
}
DOTTED = re.compile(r"(?<![\w.])(?:worker|schemas)\.\w+")
STARTED = re.compile(r"-m (?:worker|schemas)\b")


def imported(text: str) -> Iterator[str]:
    """The top-level names that a program imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def short(file: Path) -> str:
    return str(file.relative_to(ROOT))


def test_no_module_imports_by_an_old_name() -> None:
    assert len(CODE) > 150
    wrong = [short(file) for file in CODE if set(imported(file.read_text())) & set(FOLDERS)]
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=short)
def test_no_program_of_a_page_imports_by_an_old_name(page: Path) -> None:
    for program in blocks(page, "python"):
        assert not set(imported(program)) & set(FOLDERS)


def test_no_text_names_a_module_by_an_old_name() -> None:
    """Strings are imported too: names for `import_module`, entry points, `python -m`."""
    wrong = {}
    for file in set(TEXTS) - ABOUT_THEM:
        text = file.read_text("utf-8")
        named = {*DOTTED.findall(text)} & MODULES | {*STARTED.findall(text)}
        if named:
            wrong[short(file)] = sorted(named)
    assert not wrong


def test_no_file_is_loaded_under_two_names() -> None:
    """Every module of the package is imported, and the command has run, in one process."""
    program = """
import pkgutil, sys
from pathlib import Path
import penstock
from penstock.worker.cli import main
main(["events", "--format", "markdown"], standalone_mode=False)
for found in pkgutil.walk_packages(penstock.__path__, "penstock."):
    if found.name != "penstock.__main__":
        __import__(found.name)
names = {}
for name, module in list(sys.modules.items()):
    if getattr(module, "__file__", None):
        names.setdefault(Path(module.__file__).resolve(), []).append(name)
print([known for file, known in names.items() if len(known) > 1 and "penstock" in str(known)])
print(sorted({"worker", "schemas", "migrations"} & set(sys.modules)))
print(len([name for name in sys.modules if name.startswith("penstock.worker.")]))
"""
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    twice, old, loaded = said.stdout.splitlines()[-3:]
    assert (twice, old) == ("[]", "[]")
    assert int(loaded) > 80
