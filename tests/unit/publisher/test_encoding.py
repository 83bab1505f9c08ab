"""Typed events to bytes: what travels, and what is refused before it does."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from msgspec import Raw

from penstock.schemas.agents import AgentStateSet
from penstock.schemas.event import EventData
from penstock.schemas.messages import MessageSent
from penstock.schemas.tasks import TaskDeleted, TaskUpdated
from penstock.schemas.vocabulary import MessageKind, RecipientKind, TaskStatus
from penstock.worker.publisher.encoding import EventInvalid, encode, subject_of, uuid7

TIME = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUNNING = TaskUpdated(task_id="t-1", status=TaskStatus.RUNNING)


def encoded(event: EventData, **attributes: Any) -> dict[str, Any]:
    given = {"id": "e-1", "source": "/agents/a-1", "time": TIME, **attributes}
    found: dict[str, Any] = json.loads(encode(event, **given))
    return found


def test_an_event_is_a_cloudevent_with_its_key_as_the_subject() -> None:
    assert encoded(RUNNING, sequence=7, actor="ann", project=None) == {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/agents/a-1",
        "type": "tasks.updated",
        "subject": "t-1",
        "time": "2026-03-01T12:00:00Z",
        "datacontenttype": "application/json",
        "sequence": 7,
        "actor": "ann",
        "data": {"status": "running", "priority": 4, "retry_count": 0},
    }


def test_what_is_none_by_default_does_not_travel_but_a_required_null_does() -> None:
    message = MessageSent(
        to="a-2", message_id="m", to_kind=RecipientKind.AGENT, kind=MessageKind.EVENT, payload=None
    )
    data = encoded(message)["data"]
    assert data["payload"] is None
    assert "channel_id" not in data


def test_a_document_that_is_json_already_goes_out_digit_by_digit() -> None:
    given = b'[null, 1.000000000000000000000000001, "\\\\u0000"]'
    event = TaskUpdated(task_id="t", status=TaskStatus.RUNNING, result=Raw(given))
    sent = encode(event, id="1", time=TIME, source="/s")
    assert given in sent


@pytest.mark.parametrize(
    ("key", "subject"),
    [
        ("t-1", "tasks.t-1.deleted"),
        ("t 1", "tasks.t=201.deleted"),
        ("a.b", "tasks.a=2Eb.deleted"),
        ("*", "tasks.=2A.deleted"),
    ],
)
def test_the_subject_on_the_bus_names_the_entity(key: str, subject: str) -> None:
    assert subject_of(TaskDeleted(task_id=key)) == subject


@pytest.mark.parametrize(
    ("event", "attributes", "said"),
    [
        (TaskUpdated(task_id="t", status="asleep"), {}, "asleep"),  # type: ignore[arg-type]
        (TaskUpdated(task_id="", status=TaskStatus.RUNNING), {}, "length"),
        (TaskUpdated(task_id="t", status=TaskStatus.RUNNING, retry_count=-1), {}, "retry_count"),
        (TaskUpdated(task_id="t", status=TaskStatus.RUNNING, error="a\0b"), {}, "NUL"),
        (TaskUpdated(task_id="t", status=TaskStatus.RUNNING, result=float("nan")), {}, "nan"),
        (TaskUpdated(task_id="t", status=TaskStatus.RUNNING, result=Raw(b'"\\u0000"')), {}, "NUL"),
        (TaskUpdated(task_id="t", status=TaskStatus.RUNNING, result=object()), {}, "object"),
        (RUNNING, {"time": datetime(2026, 3, 1)}, "offset"),  # noqa: DTZ001  (the point)
        (RUNNING, {"id": ""}, "id must be a text of 1 to 255"),
        (RUNNING, {"source": "x" * 2000}, "source must be a text of 1 to 1024"),
        (RUNNING, {"actor": "x" * 256}, "actor"),
        (RUNNING, {"sequence": -1}, "sequence must be in 0"),
        (RUNNING, {"sequence": 2**63}, "sequence must be in 0"),
        (AgentStateSet(agent_id="a", state_key="k", value=1), {}, "sequence must be 1 or more"),
    ],
)
def test_what_would_become_a_dead_letter_is_refused(
    event: EventData, attributes: dict[str, Any], said: str
) -> None:
    with pytest.raises(EventInvalid, match=said) as refused:
        encoded(event, **attributes)
    assert str(refused.value).startswith(f"{type(event).spec.name}: ")


def test_a_struct_without_a_declaration_is_no_event() -> None:
    class Plain(EventData, frozen=True, kw_only=True):
        """Nobody decorated it."""

    with pytest.raises(EventInvalid, match="Plain is not an event: decorate it"):
        encoded(Plain())


def test_ids_sort_by_time() -> None:
    made = [uuid7() for _ in range(200)]
    assert len(set(made)) == 200
    assert [text[:13] for text in made] == sorted(text[:13] for text in made)
    seconds = (UUID(made[0]).int >> 80) / 1000
    assert abs(seconds - datetime.now(UTC).timestamp()) < 60
    assert {UUID(text).version for text in made} == {7}
    assert {UUID(text).variant for text in made} == {"specified in RFC 4122"}
