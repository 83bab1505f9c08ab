"""The catalogue: what it knows, and the contradictions that it refuses."""

from enum import StrEnum
from types import ModuleType
from typing import Any

import pytest

from penstock.schemas.catalogue import Catalogue, declared_in
from penstock.schemas.event import Count, EventData, Json, Text
from penstock.schemas.identity import AgentId, TaskId
from penstock.schemas.mapping import History, Log, Ref, Upsert, event
from penstock.schemas.rows import MappingError
from penstock.schemas.streams import STREAMS

KEY = ("task_id",)


class Level(StrEnum):
    """How far up."""

    LOW = "low"
    HIGH = "high"


def declared(name: str, **declaration: Any) -> type[EventData]:
    """A fresh event type; all have the same fields."""

    @event(name, **{"key": "task_id", **declaration})
    class Made(EventData, frozen=True, kw_only=True):
        """One of several."""

        task_id: TaskId
        agent_id: AgentId | None = None
        title: Text | None = None
        count: Count = 0
        share: float = 0.0
        level: Level = Level.LOW
        anything: Json = None

    return Made


def task(**policies: Any) -> dict[str, Any]:
    return {"states": (Upsert(**{"table": "tasks.task", "key": KEY, **policies}),)}


def agent(**policies: Any) -> dict[str, Any]:
    return {"states": (Upsert(**{"table": "agents.agent", "key": ("agent_id",), **policies}),)}


def ranked(*order: str, **more: Any) -> dict[str, Any]:
    return task(rank={"level": order}, **more)


def referring(field: str, table: str) -> dict[str, Any]:
    return {"refs": (Ref(field, table),)}


def history(*columns: str) -> dict[str, Any]:
    return {"history": History("tasks.own", columns)}


def test_a_type_is_found_by_its_name_and_knows_its_subject_stream_and_tables() -> None:
    kind = Catalogue.load().types["tasks.created"]
    assert (kind.prefix, kind.suffix, kind.stream) == ("tasks.", ".created", "TASK_EXECUTION")
    assert kind.tables == ("events.log", "tasks.task")
    assert not kind.requires_sequence


def test_every_built_in_type_has_a_name_of_its_own_and_a_sentence() -> None:
    types = Catalogue.load().types
    assert len(types) > 30
    assert all(kind.spec.summary for kind in types.values())


def test_an_unknown_domain_travels_on_the_stream_that_it_names() -> None:
    catalogue = Catalogue([declared("orders.placed", stream="SHOP"), declared("tasks.own")])
    assert catalogue.types["orders.placed"].stream == "SHOP"
    assert catalogue.streams["SHOP"] == ("orders.>",)
    assert catalogue.streams.keys() == {*STREAMS, "SHOP"}


def test_a_state_table_has_one_key() -> None:
    catalogue = Catalogue([declared("tasks.a", **task()), declared("tasks.b", **task())])
    assert catalogue.keys == {"tasks.task": KEY}
    assert catalogue.tables == ["tasks.task"]


@pytest.mark.parametrize(
    ("types", "said"),
    [
        ([("tasks.a", {}), ("tasks.a", {})], "declared twice"),
        (
            [("tasks.a", task()), ("tasks.b", task(key=("agent_id",)))],
            r"tasks\.b: tasks\.task has the key",
        ),
        (
            [("tasks.a", history("title")), ("tasks.b", history("title", "count"))],
            r"tasks\.b: writes .* to the history tasks\.own",
        ),
        (
            [("tasks.a", task(last=("title",))), ("tasks.b", task(last=("title", "count")))],
            r"tasks\.b: states .* but the group",
        ),
        ([("tasks.a", {"refs": (Ref("agent_id", "agents.agent"),)})], "no event writes"),
        ([("orders.placed", {})], "needs stream="),
        ([("tasks", {})], r"domain\.verb"),
        ([("tasks.a", {"stream": "SHOP"})], r"tasks\.> belongs to TASK_EXECUTION"),
        (
            [("orders.placed", {"stream": "SHOP"}), ("orders.paid", {"stream": "TILL"})],
            "a subject belongs to one stream",
        ),
        ([("tasks.a", task(add=("count",)))], "add needs a history"),
        (
            [("tasks.a", {**history("task_id"), **task(add=("count",))})],
            r"tasks\.a: add needs 'count' in the history tasks\.own.*; give it a column",
        ),
        (
            [("tasks.a", {**history("count"), **task(add=("count",))})],
            "add needs 'task_id' in the history",
        ),
        (
            [("tasks.a", {"history": Log("tasks", data_limit=99), **task(add=("count",))})],
            r"add needs 'count' in the history events\.log.*; drop its data_limit",
        ),
        (
            [
                ("tasks.a", {**history("task_id", "count"), **task(add=("count",))}),
                ("tasks.b", history("task_id", "count")),
            ],
            r"rows of the history tasks\.own that are told from those of tasks\.b",
        ),
        ([("tasks.a", task(each="things"))], "each='things' is not a field"),
        ([("tasks.a", task(max=("height",)))], "column 'height' has no source"),
        (
            [("tasks.a", task(max=("count",))), ("tasks.b", task(min=("count",)))],
            r"tasks\.task\.count is under min, but also under max \(in tasks\.a\)",
        ),
        (
            [("tasks.a", task(last=("count",))), ("tasks.b", task(last=("count",), guard="own"))],
            "under last by own_version, but also under last by version",
        ),
        ([("tasks.a", task(max=("count",), last=("count",)))], "but also under last by version"),
        ([("tasks.a", task(max=("task_id",)))], "but also under key"),
        ([("tasks.a", task(last=("version",)))], "guard of last by version, but also under"),
        (
            [("tasks.a", ranked("low", "high")), ("tasks.b", ranked("high", "low"))],
            r"under rank \('high', 'low'\), but also under rank \('low', 'high'\)",
        ),
        ([("tasks.a", ranked("low"))], "'level' has no rank for some values.* low, high"),
        ([("tasks.a", task(rank={"title": ("a", "b")}))], "needs a required field of an enumer"),
        ([("tasks.a", ranked("low", values={"level": "mid"}))], "no rank for some .* mid"),
        (
            [("tasks.a", {**history("share"), **task(add=("share",))})],
            "the sum of floats depends on their order",
        ),
        ([("tasks.a", task(max=("anything",)))], "max needs a number, a time or a text"),
        (
            [
                ("tasks.a", {**task(last=("agent_id",)), **referring("agent_id", "agents.agent")}),
                ("tasks.b", {**agent(last=("task_id",)), **referring("task_id", "tasks.task")}),
            ],
            "in a circle: tasks.task -> agents.agent -> tasks.task; drop one of these Refs",
        ),
    ],
)
def test_a_contradiction_is_refused_by_name(
    types: list[tuple[str, dict[str, Any]]], said: str
) -> None:
    with pytest.raises(MappingError, match=said):
        Catalogue([declared(name, **declaration) for name, declaration in types])


def test_a_row_may_refer_to_its_own_table_and_parents_come_before_children() -> None:
    depths = Catalogue.load().depths
    assert depths["agents.agent"] < depths["tasks.task"] < depths["tasks.dependency"]


def test_a_module_declares_its_own_events_only() -> None:
    """Not what it imports, and not a struct that others inherit from."""
    own, imported = declared("tasks.own"), declared("tasks.imported")
    own.__module__ = "own"

    class Shared(EventData, frozen=True, kw_only=True):
        """Without a decorator."""

    Shared.__module__ = "own"
    module = ModuleType("own")
    vars(module).update(own=own, imported=imported, shared=Shared, word="text")
    assert declared_in(module) == [own]
