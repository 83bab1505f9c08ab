"""Functions fit on a screen, and modules can be read in one sitting."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("worker", "schemas", "penstock/integrations", "benchmarks", "tests/support")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

FUNCTION_LINES = 40
MODULE_LINES = 300

LONG_MODULES = {
    "schemas/__init__.py": "a list: every name that agents and packages import",
    "schemas/agents.py": "a list of declarations: the events of one domain",
    "schemas/vocabulary.py": "a list of declarations: every enumeration",
    "worker/settings/keys.py": "a list of declarations: one field per setting",
}
LONG_FUNCTIONS = {
    "worker/nats/wire.py:_cut": "the hot loop, where a call per frame costs",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Every function of a module with its number of lines, as ``path:name``."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            yield f"{name_of(path)}:{node.name}", node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_function_and_no_module_is_too_long(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= MODULE_LINES or name_of(path) in LONG_MODULES
    long = {name: length for name, length in functions(path) if length > FUNCTION_LINES}
    assert not long.keys() - LONG_FUNCTIONS.keys(), f"longer than {FUNCTION_LINES} lines: {long}"


def test_every_exception_is_still_needed() -> None:
    lengths = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    assert all(lengths[name] > MODULE_LINES for name in LONG_MODULES)
    found = {name: length for path in MODULES for name, length in functions(path)}
    assert all(found[name] > FUNCTION_LINES for name in LONG_FUNCTIONS)
