"""`penstock` and `penstock.schemas`: what is there to import, and what that loads."""

import ast
import importlib
import json
import pickle
import pkgutil
import pydoc
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

import penstock
import penstock.schemas
from penstock import Confirmation, Publisher, PublishRefused, StateValue
from penstock.schemas import TaskStatus, TaskUpdated
from penstock.schemas.catalogue import BUILT_IN, declared_in
from penstock.worker import errors
from tests.docs.sections import ROOT

OPERATORS = {"aiohttp", "asyncpg", "click", "prometheus_client", "psutil", "rich", "tenacity"}
"""What only the worker and its operator need."""

BROKERS = {"aio_pika", "aiormq", "nats"}
CLOSED_PORTS = ("nats://127.0.0.1:1", "amqp://127.0.0.1:1")
SPECIFIC = {"Attribute", "Data", "EventSpec"}
"""What the words of the mapping are made of; nobody writes them down."""

INTERNAL = {
    "AGENT_STATE",
    "DOMAINS",
    "Envelope",
    "STATUS_KEY",
    "all_canonical",
    "canonical",
    "carried",
    "entity_uuids",
    "escape",
    "key_texts",
    "kv_key",
    "kv_token",
}
"""What the worker and the Publisher need of these modules."""


def loaded_by(program: str) -> set[str]:
    """The modules of others that a program loads, and those of the worker."""
    show = "import json, sys; print(json.dumps(list(sys.modules)))"
    said = subprocess.run(
        [sys.executable, "-c", f"{program}\n{show}"], capture_output=True, text=True, check=True
    )
    names = json.loads(said.stdout.splitlines()[-1])
    ours = {name for name in names if name.startswith("penstock.worker.")}
    tops = {name.partition(".")[0] for name in names}
    others = tops - set(sys.stdlib_module_names) - {"sitecustomize", "usercustomize"}
    return ours | {top for top in others if not top.startswith("_")}


@pytest.mark.parametrize(
    "program",
    [
        "import penstock",
        "from penstock.schemas import *",
        "from penstock.schemas.catalogue import Catalogue; Catalogue.load()",
    ],
)
def test_events_need_msgspec_alone(program: str) -> None:
    assert loaded_by(program) <= {"penstock", "msgspec", "typing_extensions"}


def test_the_face_loads_no_room_of_the_worker() -> None:
    loaded = loaded_by("from penstock import *")
    rooms = {module.split(".")[2] for module in loaded if module.startswith("penstock.worker.")}
    assert not rooms & {"app", "cli", "commands", "postgres", "ops", "migrate", "embedded", "demo"}
    assert not loaded & {"asyncpg", "click", "prometheus_client", "psutil", "tenacity"}


def test_a_broker_is_loaded_when_a_publisher_is_opened() -> None:
    loaded = loaded_by("from penstock import *")
    assert not loaded & (OPERATORS | BROKERS)


def test_the_face_is_what_its_types_say() -> None:
    """Checkers read the imports that only they run; `__all__` is what really can be imported."""
    tree = ast.parse((ROOT / "penstock" / "__init__.py").read_text())
    typed = next(node for node in tree.body if isinstance(node, ast.If))
    names = {alias.name for node in typed.body for alias in getattr(node, "names", ())}
    assert names == set(penstock.__all__)
    assert penstock.__all__ == sorted(penstock.__all__, key=lambda n: (n[0].islower(), n))
    assert all(hasattr(penstock, name) for name in penstock.__all__)


def test_the_face_can_be_listed_and_imported_as_a_whole() -> None:
    found: dict[str, object] = {}
    exec("from penstock import *\nfrom penstock.schemas import *", found)  # noqa: S102
    assert {*penstock.__all__, *penstock.schemas.__all__} <= set(found)
    assert set(penstock.__all__) <= set(dir(penstock))
    with pytest.raises(AttributeError, match="module 'penstock' has no attribute 'Publishr'"):
        _ = penstock.Publishr  # type: ignore[attr-defined]


def test_help_shows_what_a_publisher_promises() -> None:
    text = pydoc.plain(pydoc.render_doc(Publisher))
    assert "class Publisher" in text
    assert "publish(self, event: " in text
    assert "Raises EventInvalid" in text
    assert "Publisher" in pydoc.plain(pydoc.render_doc(penstock))


@pytest.mark.parametrize(
    "value",
    [
        Confirmation("TASK_EXECUTION", 7),
        StateValue(value={"line": 42}, version=7, updated=datetime(2026, 1, 1, tzinfo=UTC)),
        TaskUpdated(task_id="t-1", status=TaskStatus.RUNNING),
        TaskStatus.RUNNING,
        PublishRefused("no stream takes it"),
        Publisher,
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_of_the_face_can_be_pickled(value: object) -> None:
    """An agent hands them to its other processes."""
    again = pickle.loads(pickle.dumps(value))  # noqa: S301
    assert type(again) is type(value)
    assert again == value or str(again) == str(value)


def raised_in(module: ModuleType) -> set[str]:
    """The errors of Penstock that a module makes, by the names that it uses for them."""
    tree = ast.parse(Path(str(module.__file__)).read_text())
    made = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    return {
        name
        for name in made
        if isinstance(found := getattr(module, name, None), type)
        and issubclass(found, errors.PenstockError)
    }


def test_every_error_that_a_publisher_raises_can_be_imported() -> None:
    """Of all modules that are loaded when it is opened, on either broker."""
    opening = "\n".join(
        f"try: asyncio.run(Publisher({server!r}, source='/a').__aenter__())\n"
        "except SourceUnavailable: pass"
        for server in CLOSED_PORTS
    )
    loaded = loaded_by(f"import asyncio\nfrom penstock import *\n{opening}")
    assert not loaded & {"asyncpg", "click", "rich", "structlog", "tenacity"}
    raised = {
        name
        for module in sorted(loaded)
        if module.startswith("penstock.worker.")
        for name in raised_in(importlib.import_module(module))
    }
    assert {"EventInvalid", "PublishFailed", "SourceUnavailable", "StateMissing"} <= raised
    assert raised <= set(penstock.__all__)


def test_every_event_can_be_imported_from_schemas() -> None:
    modules = [
        importlib.import_module(f"penstock.schemas.{found.name}")
        for found in pkgutil.iter_modules(penstock.schemas.__path__)
    ]
    declaring = {module.__name__ for module in modules if declared_in(module)}
    assert declaring == set(BUILT_IN)
    events = {struct.__name__ for module in modules for struct in declared_in(module)}
    assert len(events) > 35
    assert events <= set(penstock.schemas.__all__)


@pytest.mark.parametrize("module", ["event", "identity", "mapping", "vocabulary"])
def test_every_word_for_events_of_ones_own_can_be_imported_from_schemas(module: str) -> None:
    found = importlib.import_module(f"penstock.schemas.{module}")
    tree = ast.parse(Path(str(found.__file__)).read_text())
    names = {name for node in tree.body for name in defined(node) if not name.startswith("_")}
    missing = names - {*penstock.schemas.__all__, *SPECIFIC, *INTERNAL}
    assert not missing
    for name in names & set(penstock.schemas.__all__):
        assert getattr(penstock.schemas, name) is getattr(found, name)


def defined(node: ast.stmt) -> list[str]:
    """The names that a statement at the top of a module binds; imports do not count."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def test_the_decorator_goes_before_the_module_of_the_same_name() -> None:
    """Whichever was imported first."""
    for first in ("penstock.schemas.event", "penstock.schemas", "penstock.schemas.mapping"):
        program = f"import {first}; from penstock.schemas import event; print(event.__name__)"
        said = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        assert said.stdout == "event\n"
