"""From a declaration and an event to the tuples of its rows."""

# Also shows that annotations may be text: a package of the user's own may be written like this.
from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from penstock.schemas.event import Event, EventData, Json, Moment, Text
from penstock.schemas.event_type import EventType, compile_type
from penstock.schemas.identity import AgentId, TaskId, entity_uuid
from penstock.schemas.mapping import (
    ACTOR,
    EVENT_ID,
    ITEM,
    KEY_TEXT,
    OCCURRED_AT,
    Field,
    History,
    Log,
    Ref,
    Upsert,
    event,
)
from penstock.schemas.rows import MappingError

MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = "0190a6a0-0000-7000-8000-000000000001"


class Named(EventData, frozen=True, kw_only=True):
    """Fields that several events share."""

    task_id: TaskId
    title: Text
    seen: Moment | None = None


@event("tasks.tried", key="task_id", history=History("tasks.tried", ("title", "colour", "agent")))
class Tried(Named, frozen=True, kw_only=True):
    """An event that inherits most of its fields."""

    colour: Text = "red"
    agent: AgentId | None = None
    document: Json = None
    tags: list[Text] | None = None


def made(kind: EventType, entity: str = "t-1", **data: Any) -> Event:
    """The event as the decoder would make it of this data."""
    raw = Raw(json.dumps(data).encode())
    return Event(
        kind, ID, MOMENT, entity, 3, "/agents/a-1", "ann", None, None, None, kind.decode(raw), raw
    )


def history_row(columns: tuple[str, ...], entity: str = "t-1", **given: Any) -> tuple[Any, ...]:
    """What ``columns`` hold of an event; ``values`` says where they come from."""
    values = given.pop("values", {})
    history = History("tasks.tried", columns, values)
    kind = compile_type(msgspec.structs.replace(Tried.spec, history=history))
    assert kind.history is not None
    assert kind.history.columns == ("event_id", "occurred_at", *columns)
    row = kind.history.row(made(kind, entity, **{"title": "try", **given}), None)
    assert row[:2] == (ID, MOMENT)
    return row[2:]


def test_a_column_is_the_field_of_its_name_inherited_or_not() -> None:
    assert history_row(("title", "colour"), title="first", colour="blue") == ("first", "blue")
    assert history_row(("title", "colour", "seen")) == ("try", "red", None)


@pytest.mark.parametrize(
    ("source", "cell"),
    [
        (Field("title"), "try"),
        (OCCURRED_AT, MOMENT),
        (EVENT_ID, ID),
        (ACTOR, "ann"),
        (KEY_TEXT, "t-1"),
        ("constant", "constant"),
        (None, None),
    ],
)
def test_values_say_where_a_column_comes_from_otherwise(source: Any, cell: Any) -> None:
    assert history_row(("other",), values={"other": source}) == (cell,)


def test_ids_become_keys_and_the_text_of_a_uuid_is_not_kept() -> None:
    assert history_row(("agent",), agent="a-1") == (entity_uuid("agent", "a-1"),)
    assert history_row(("agent",)) == (None,)
    assert history_row(("task_id",)) == (entity_uuid("task", "t-1"),)
    assert history_row(("text",), entity=ID.upper(), values={"text": KEY_TEXT}) == (None,)


@pytest.mark.parametrize(
    ("document", "cell"),
    [({"b": 1, "a": [None]}, b'{"b": 1, "a": [null]}'), (0, b"0"), (None, None)],
)
def test_a_document_is_stored_as_sent_and_null_as_null(document: Any, cell: Any) -> None:
    assert history_row(("document",), document=document) == (cell,)


def test_a_list_is_stored_as_json() -> None:
    assert history_row(("tags",), tags=["a", "ü"]) == ('["a","ü"]'.encode(),)
    assert history_row(("tags",)) == (None,)


def test_a_column_without_a_source_is_an_error_that_lists_the_fields() -> None:
    with pytest.raises(MappingError, match=r"tasks\.tried: column 'mood'.*title.*colour"):
        history_row(("mood",))


def test_the_key_travels_as_the_subject_and_not_in_the_data() -> None:
    kind = compile_type(Tried.spec)
    assert not hasattr(kind.decode(Raw(b'{"title": "x", "task_id": "t-2"}')), "task_id")


def state_rows(upsert: Upsert, **data: Any) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Key and cells of each row that ``upsert`` changes."""
    kind = compile_type(msgspec.structs.replace(Tried.spec, states=(upsert,)))
    (state,) = kind.states
    e = made(kind, **{"title": "try", **data})
    found = []
    for item in [None] if state.items is None else state.items(e):
        cells: dict[str, Any] = {}
        for group, row in state.groups:
            cells |= zip(group.columns, row(e, item), strict=True)
        found.append((state.key(e, item), cells))
    return found


def test_a_group_states_what_the_struct_does_not_have_as_null() -> None:
    upsert = Upsert("tasks.task", key=("task_id",), last=("title", "result"), max=("seen",))
    key = (entity_uuid("task", "t-1"),)
    assert state_rows(upsert) == [(key, {"title": "try", "result": None, "seen": None})]


def test_one_row_for_each_element_of_a_list() -> None:
    upsert = Upsert(
        "tasks.tag", key=("task_id", "tag"), each="tags", last=("title",), values={"tag": ITEM}
    )
    keys = [key for key, _ in state_rows(upsert, tags=["a", "b"])]
    assert keys == [(entity_uuid("task", "t-1"), "a"), (entity_uuid("task", "t-1"), "b")]
    assert state_rows(upsert) == []


def test_the_log_keeps_of_large_data_what_it_is_told_to() -> None:
    log = Log("tasks", data_limit=100, keep=("title",))
    kind = compile_type(msgspec.structs.replace(Tried.spec, history=log))
    assert kind.history is not None
    small, large = made(kind, title="x"), made(kind, title="x", document="y" * 100)
    assert kind.history.row(small, None)[-1] is small.raw
    kept = json.loads(kind.history.row(large, None)[-1])
    assert kept["title"] == "x"
    assert kept["omitted"]["bytes"] == len(large.raw)
    assert "document" not in kept


def test_a_reference_is_key_and_text_of_the_parent() -> None:
    kind = compile_type(msgspec.structs.replace(Tried.spec, refs=(Ref("agent", "agents.agent"),)))
    ((table, pair),) = kind.references
    assert table == "agents.agent"
    assert pair(made(kind, title="x", agent="a-1")) == (entity_uuid("agent", "a-1"), "a-1")
    assert pair(made(kind, title="x")) is None
    for wrong in ("nobody", "title"):
        with pytest.raises(MappingError, match=wrong):
            compile_type(msgspec.structs.replace(Tried.spec, refs=(Ref(wrong, "agents.agent"),)))
