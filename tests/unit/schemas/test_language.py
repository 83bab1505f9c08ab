"""What a mapping says of lists, of computed values and of rules, and how wrong uses are refused."""

import json
from datetime import date, datetime
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta, Raw

from penstock.schemas import (
    EVENT_ID,
    INDEX,
    ITEM,
    OCCURRED_DAY,
    PROJECT,
    AgentId,
    AuditLog,
    Computed,
    Event,
    EventData,
    Field,
    History,
    Item,
    Json,
    Log,
    MappingError,
    Moment,
    Ref,
    TaskId,
    Text,
    Upsert,
    entity_uuid,
    event,
)
from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event_type import compile_type
from penstock.schemas.recall import losses
from penstock.worker.commands.event_schemas import event_schema

ID = "0190a6a0-0000-7000-8000-000000000001"
MOMENT = datetime.fromisoformat("2026-03-01T00:30:00+01:00")
A, B = (entity_uuid("agent", name) for name in ("a", "b"))


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """An element of a list."""

    agent_id: AgentId
    points: Annotated[int, Meta(ge=-9, le=9)] = 0
    share: float = 0.0
    at: Moment | None = None
    seen: Moment = MOMENT
    note: Json = None
    helpers: list[AgentId] | None = None


@event("tasks.shared", key="task_id", history=Log("tasks"))
class Shared(EventData, frozen=True, kw_only=True):
    """All that is tried here."""

    task_id: TaskId
    parts: list[Part] | None = None
    agents: list[AgentId] = msgspec.field(default_factory=list)
    title: Text | None = None
    weight: float = 1.0


def points(e: Event) -> int:
    return sum(part.points for part in e.data.parts or ())


def helpers(e: Event) -> list[AgentId] | None:
    return e.data.agents or None


def words(e: Event) -> list[str]:
    return [e.entity]


def weight(e: Event) -> float:
    return float(e.data.weight)


def perhaps(e: Event) -> AgentId | None:
    found: str | None = e.data.title
    return found


def unknown(e: Event):  # type: ignore[no-untyped-def]  # noqa: ANN201
    return e.entity


def rows(upsert: Upsert, **data: Any) -> list[tuple[Any, ...]]:
    """The rows that an event makes by ``upsert``: key and cells."""
    kind = compile_type(msgspec.structs.replace(Shared.spec, states=(upsert,)))
    raw = Raw(json.dumps(data).encode())
    e = Event(kind, ID, MOMENT, "t-1", 3, "/s", None, "p", None, None, kind.decode(raw), raw)
    (state,) = kind.states
    items = [None] if state.items is None else state.items(e)
    return [
        (*state.key(e, item), *(c for _, cells in state.groups for c in cells(e, item)))
        for item in items
    ]


def upsert(key: tuple[str, ...] = ("task_id",), **declared: Any) -> Upsert:
    return Upsert("tasks.x", key, **declared)


def test_rows_of_a_list_of_structs_have_its_fields_and_the_place() -> None:
    values = {
        "agent_id": Item("agent_id"),
        "n": INDEX,
        "note": Item("note"),
        "helpers": Item("helpers"),
        "whole": ITEM,
        "day": OCCURRED_DAY,
    }
    columns = ("n", "note", "helpers", "day")
    found = rows(
        upsert(("agent_id",), each="parts", first=columns, values=values),
        parts=[{"agent_id": "a", "note": {"x": [1]}, "helpers": ["b"]}, {"agent_id": "b"}],
    )
    day = date(2026, 2, 28)
    listed = json.dumps([B]).encode()
    assert found == [(A, 0, b'{"x":[1]}', listed, day), (B, 1, None, None, day)]
    assert rows(upsert(("agent_id",), each="parts", first=columns, values=values)) == []


def test_ids_of_a_list_are_keys_as_rows_and_within_one_column() -> None:
    declared = upsert(("agent_id",), each="agents", max=("n",), values={"agent_id": ITEM, "n": 1})
    assert rows(declared, agents=["a", "b"]) == [(A, 1), (B, 1)]
    ((_, listed, project),) = rows(
        upsert(first=("agents", "project"), values={"project": PROJECT}), agents=["b", "a"]
    )
    assert json.loads(listed) == [B, A]
    assert project == entity_uuid("project", "p")


def test_a_computed_value_is_stored_as_a_field_of_its_type_would_be() -> None:
    made = {"a": points, "b": helpers, "c": words, "d": perhaps}
    values = {column: Computed(function) for column, function in made.items()}
    declared = upsert(first=("a", "b", "c", "d"), values=values)
    key = entity_uuid("task", "t-1")
    assert rows(declared, parts=[{"agent_id": "a", "points": -4}]) == [
        (key, -4, None, b'["t-1"]', None)
    ]
    found = rows(declared, agents=["a"], title="b")
    assert found == [(key, 0, json.dumps([A]).encode(), b'["t-1"]', B)]


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (upsert(each="title", last=("n",), values={"n": INDEX}), "each='title' is not a list"),
        (upsert(each="task_id", last=("title",)), "each='task_id' is not a field of the data"),
        (upsert(last=("n",), values={"n": INDEX}), "'n' comes from the elements.*with each="),
        (upsert(last=("n",), values={"n": ITEM}), "'n' comes from the elements of a list"),
        (upsert(last=("n",), values={"n": Item("points")}), "'n' comes from the elements"),
        (
            upsert(each="parts", last=("n",), values={"n": Item("score")}),
            r"'n' is Item\('score'\).*'parts' do not have; they have agent_id, points",
        ),
        (upsert(each="agents", last=("n",), values={"n": Item("x")}), "they have no fields"),
        (
            upsert(("agent_id", "at"), each="parts", values={"at": Item("at")}, max=("title",)),
            "key column 'at' may be missing",
        ),
        (
            upsert(("at",), each="parts", values={"at": Item("seen")}, max=("title",)),
            "key column 'at' is a time that nobody compares",
        ),
        (upsert(each="parts", add=("x",), values={"x": Item("share")}), "sum of floats"),
        (upsert(add=("x",), values={"x": Computed(weight)}), "sum of floats"),
        (upsert(max=("x",), values={"x": Computed(words)}), "max needs a number"),
        (upsert(max=("x",), values={"x": Computed(unknown)}), "does not say what it returns"),
        (upsert(max=("x",), values={"x": Computed(lambda e: e.id)}), "does not say what it retu"),
        (upsert(rank={"x": ("a",)}, values={"x": Computed(points)}), "has no rank for some values"),
    ],
)
def test_a_wrong_source_is_refused_by_type_and_column(declared: Upsert, said: str) -> None:
    with pytest.raises(MappingError, match=rf"tasks\.shared: .*{said}"):
        compile_type(msgspec.structs.replace(Shared.spec, states=(declared,)))


def test_references_lead_into_lists() -> None:
    refs = (Ref("parts.agent_id", "agents.agent"), Ref("agents", "agents.agent"))
    kind = compile_type(msgspec.structs.replace(Shared.spec, refs=refs))
    raw = Raw(b'{"parts": [{"agent_id": "a"}], "agents": ["b", "a"]}')
    e = Event(kind, ID, MOMENT, "t", 0, "/s", None, None, None, None, kind.decode(raw), raw)
    found = [(table, parents(e)) for table, parents in kind.listed_references]
    assert found == [("agents.agent", [(A, "a")]), ("agents.agent", [(B, "b"), (A, "a")])]


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("title.agent_id", "but 'title' is not a list"),
        ("parts.score", "but the elements of 'parts' have agent_id"),
        ("agents.id", "but the elements of 'agents' have no fields"),
        ("parts.points", "whose type is not an id"),
        ("parts", "whose type is not an id"),
        ("nothing.agent_id", "which is not a field"),
    ],
)
def test_a_reference_into_nothing_is_refused(field: str, said: str) -> None:
    spec = msgspec.structs.replace(Shared.spec, refs=(Ref(field, "agents.agent"),))
    with pytest.raises(MappingError, match=rf"tasks\.shared: Ref names '{field}', {said}"):
        compile_type(spec)


def declared(**changes: Any) -> type[EventData]:
    """A type like `Shared` with another mapping."""

    class Made(Shared, frozen=True, kw_only=True):
        """One of several."""

    Made.spec = msgspec.structs.replace(Shared.spec, struct=Made, **changes)
    return Made


def test_rows_are_made_once_where_one_event_is_in_the_key_and_nothing_else_is_said() -> None:
    keyed: dict[str, Any] = {"values": {"event_id": EVENT_ID}}
    made = Upsert("tasks.made", ("event_id",), once=("title",), **keyed)
    changed = Upsert("tasks.made", ("event_id",), max=("weight",), **keyed)
    named = Upsert("tasks.named", ("task_id",), once=("title",))
    assert Catalogue([declared(states=(made, named))]).made == {"tasks.made"}
    other = declared(states=(changed,), name="tasks.other")
    assert Catalogue([declared(states=(made,)), other]).made == frozenset()


@pytest.mark.parametrize(
    ("history", "said"),
    [
        (AuditLog("x", {"who": Field("title")}), "AuditLog has no 'who'; its values are action"),
        (AuditLog("x", {"ip": Field("address")}), "column 'ip' has no source"),
        (AuditLog(Field("title")), "'title' is none"),
        (AuditLog(Field("nobody")), "'nobody' is none"),
        (AuditLog("x", {"changed": ITEM}), "comes from the elements of a list"),
        (History("tasks.h", ("n",), {"n": INDEX}), "comes from the elements of a list"),
    ],
)
def test_a_wrong_history_is_refused(history: Any, said: str) -> None:
    with pytest.raises(MappingError, match=rf"tasks\.shared: .*{said}"):
        compile_type(msgspec.structs.replace(Shared.spec, history=history))


def test_what_is_computed_comes_back_where_every_field_does() -> None:
    sums = upsert(add=("points",), values={"points": Computed(points)})
    some = History("tasks.h", ("task_id", "parts"))
    every = History("tasks.h", ("task_id", "parts", "agents", "title", "weight"))
    said = r"tasks\.shared: add needs 'points' in .*columns for all fields"
    with pytest.raises(MappingError, match=said):
        Catalogue([declared(history=some, states=(sums,))])
    Catalogue([declared(history=every, states=(sums,))])
    stated = upsert(max=("points",), values={"points": Computed(points)})
    spec = msgspec.structs.replace(Shared.spec, history=some, states=(stated,))
    assert [loss.what for loss in losses(spec)] == ["what points makes of agents, title, weight"]


def ruled(check: Any) -> type[EventData]:
    """A type with the rule ``check``."""

    class Ruled(EventData, frozen=True, kw_only=True):
        """With a rule."""

        task_id: TaskId
        low: int = 0
        high: int = 0

        __post_init__ = check  # type: ignore[misc]

        def span(self) -> int:
            return self.high - self.low

    return event("tasks.ruled", key="task_id")(Ruled)


def in_order(self: Any) -> None:
    """The low end is not above the high one."""
    if self.low > self.high:
        raise ValueError(f"low {self.low} is above high {self.high}")


def test_a_rule_holds_for_what_comes_and_is_told_in_the_schema() -> None:
    kind = compile_type(ruled(in_order).spec)
    assert kind.decode_known(Raw(b'{"low": 1, "high": 2}')).high == 2
    for decode in (kind.decode, kind.decode_known):
        with pytest.raises(msgspec.ValidationError, match="low 3 is above high 2"):
            decode(Raw(b'{"low": 3, "high": 2}'))
    data = event_schema(kind)["properties"]["data"]
    assert data["description"].endswith("The low end is not above the high one.")


def names_the_key(self: Any) -> None:
    assert self.task_id


def calls_a_method(self: Any) -> None:
    assert self.span() >= 0


@pytest.mark.parametrize(
    ("check", "said"), [(names_the_key, "uses 'task_id'"), (calls_a_method, "uses span of")]
)
def test_a_rule_that_no_event_could_pass_is_refused(check: Any, said: str) -> None:
    with pytest.raises(MappingError, match=rf"tasks\.ruled: __post_init__ {said}"):
        compile_type(ruled(check).spec)
