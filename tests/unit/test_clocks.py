"""No test reads the clock while its module is loaded: what is 'ten minutes ahead' then is not any
more when a slow machine comes to it.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CLOCKS = {"now", "utcnow", "today", "time", "time_ns", "monotonic", "perf_counter", "uuid7"}
"""Methods and functions that tell the time, whatever they are called on."""

_LATER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def called(tree: ast.AST) -> Iterator[str]:
    """Names of what is called within, lambdas left out, for they run later."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Call):
            yield name_of(node.func)
        waiting += [found for found in ast.iter_child_nodes(node) if not isinstance(found, _LATER)]


def name_of(function: ast.expr) -> str:
    return str(getattr(function, "attr", getattr(function, "id", "")))


def at_load(tree: ast.Module) -> Iterator[ast.AST]:
    """What runs when a module is loaded: its statements, and of functions what is around them."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ClassDef):
            waiting += [*node.body, *node.decorator_list]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
            waiting += [*node.decorator_list, *defaults]
        else:
            yield node


def clock_readers(trees: Mapping[str, ast.Module]) -> Mapping[str, set[str]]:
    """For each module the names that read the clock when called, by way of others too."""
    known = {module: set(CLOCKS) for module in trees}
    before = -1
    while before != (before := sum(map(len, known.values()))):
        for module, tree in trees.items():
            known[module] |= own_readers(tree, known[module]) | imported_readers(tree, known)
    return known


def own_readers(tree: ast.Module, known: set[str]) -> set[str]:
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(known & set(called(line)) for line in node.body)
    }


def imported_readers(tree: ast.Module, known: Mapping[str, set[str]]) -> set[str]:
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in known.get(node.module or "", ())
    }


def read_at_load(sources: Mapping[str, str]) -> list[str]:
    """Where a module reads the clock when it is loaded."""
    trees = {module: ast.parse(source) for module, source in sources.items()}
    readers = clock_readers(trees)
    return [
        f"{module}:{getattr(node, 'lineno', 0)}"
        for module, tree in trees.items()
        for node in at_load(tree)
        if readers[module] & set(called(node))
    ]


def test_no_module_of_the_tests_reads_the_clock_when_it_is_loaded() -> None:
    sources = {
        ".".join(path.relative_to(TESTS.parent).with_suffix("").parts): path.read_text("utf-8")
        for path in TESTS.rglob("*.py")
    }
    assert read_at_load(sources) == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("START = datetime.now(UTC)", [1]),
        ("def body():\n    return time.time()\nBAD = {'a': body()}", [3]),
        ("def now():\n    return clock()\n@mark(now())\ndef test(): ...", [3]),
        ("class A:\n    made = monotonic()", [2]),
        ("def f(at=time()): ...", [1]),
        ("def body():\n    return time.time()\nBAD = {'a': lambda: body(), 'b': body}", []),
        ("START = datetime(2026, 1, 1)", []),
    ],
)
def test_readings_are_found(source: str, lines: list[int]) -> None:
    assert read_at_load({"m": source}) == [f"m:{line}" for line in lines]


def test_a_reading_is_found_behind_an_import() -> None:
    sources = {
        "tests.bodies": "def body():\n    return time.time()",
        "tests.use": "from tests.bodies import body as made\nSLOW = made()",
        "tests.other": "def body(): ...\nSLOW = body()",
    }
    assert read_at_load(sources) == ["tests.use:2"]
