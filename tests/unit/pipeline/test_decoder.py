"""From bytes to an event, or to a dead letter that says why not."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.schemas.identity import event_uuid
from penstock.schemas.vocabulary import TaskStatus
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.ports import NO_HEADERS, DeadLetter, Message

CATALOGUE = Catalogue.load()
DATA = {"status": "running", "retry_count": 2, "result": {"lines": [1, 2]}}
EVENT: Mapping[str, Any] = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/agents/a-1",
    "type": "tasks.updated",
    "subject": "t-1",
    "time": "2026-03-01T12:00:00Z",
    "sequence": 7,
    "data": DATA,
}
ATTRIBUTES = {name: str(value) for name, value in EVENT.items() if name != "data"}


class Delivered(Message, kw_only=True):
    """A message with headers."""

    given: Mapping[str, str] = NO_HEADERS

    @property
    def headers(self) -> Mapping[str, str]:
        return self.given


def message(
    body: bytes, subject: str = "tasks.t-1.updated", headers: Mapping[str, str] = NO_HEADERS
) -> Message:
    return Delivered(subject=subject, body=body, plain=not headers, given=headers)


def changed(**changes: Any) -> bytes:
    """The event with other attributes; ``...`` leaves one out."""
    event = {**EVENT, **changes}
    return json.dumps({name: value for name, value in event.items() if value is not ...}).encode()


def outcome(sent: Message, **window: Any) -> Event | DeadLetter:
    limits = Window(CATALOGUE, {}, **{"past": "unlimited", **window})
    (found,) = Decoder(CATALOGUE, limits, max_bytes=10_000).decode([sent])
    return found


def decoded(sent: Message) -> Event:
    found = outcome(sent)
    assert isinstance(found, Event), found
    return found


def reason(sent: Message, **window: Any) -> str:
    found = outcome(sent, **window)
    assert isinstance(found, DeadLetter), found
    assert found.message is sent
    assert found.error
    return found.reason


def test_an_event_holds_the_attributes_and_the_typed_data() -> None:
    event = decoded(message(changed()))
    assert event.id == event_uuid("/agents/a-1", "e-1")
    assert event.time == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert (event.entity, event.version, event.source) == ("t-1", 7, "/agents/a-1")
    assert (event.data.status, event.data.retry_count) == (TaskStatus.RUNNING, 2)
    assert event.guard == (7, event.time, event.id)


def prefixed(prefix: str, **more: str) -> dict[str, str]:
    return {**{f"{prefix}{name}": value for name, value in ATTRIBUTES.items()}, **more}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (changed(), {"content-type": "application/cloudevents+json"}),
        (json.dumps(EVENT, indent=2).encode(), {}),
        (msgspec.msgpack.encode(EVENT), {"content-type": "application/cloudevents+msgpack"}),
        (json.dumps(DATA).encode(), prefixed("ce-")),
        (json.dumps(DATA).encode(), prefixed("cloudEvents:")),
        (json.dumps(DATA).encode(), prefixed("cloudEvents_")),
        (msgspec.msgpack.encode(DATA), prefixed("ce-", **{"content-type": "application/msgpack"})),
        (changed(data=..., data_base64=base64.b64encode(json.dumps(DATA).encode()).decode()), {}),
    ],
    ids=["structured", "spaced", "packed", "binary", "amqp", "amqp_", "binary packed", "base64"],
)
def test_every_encoding_carries_the_same_event(body: bytes, headers: dict[str, str]) -> None:
    expected, found = decoded(message(changed())), decoded(message(body, headers=headers))
    for name in ("id", "time", "entity", "version", "source"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.data.status == expected.data.status
    assert json.loads(bytes(found.data.result)) == DATA["result"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"hello", "not_json"),
        (b"[]", "not_cloudevent"),
        (changed(specversion="0.3"), "not_cloudevent"),
        (changed(id=""), "bad_id"),
        (changed(time=...), "missing_time"),
        (changed(time="2026-03-01T12:00:00"), "bad_time"),
        (changed(type="tasks.vanished"), "unknown_type"),
        (changed(data={}), "invalid_data"),
        (changed(data={"status": "asleep"}), "invalid_data"),
        (changed(data={"status": "running", "priority": 10}), "out_of_range"),
        (changed(sequence=-1), "out_of_range"),
        (changed(data={"status": "running", "error": "a\0b"}), "nul_character"),
        (changed(data={"status": "running", "error": "\ud800"}), "lone_surrogate"),
        (changed(data={"status": "running", "error": "x" * 10_000}), "too_large"),
        (changed(data="HERE").replace(b'"HERE"', b"[" * 4_000 + b"]" * 4_000), "too_deep"),
        (changed().replace(b"t-1", b"t\xff1"), "bad_utf8"),
    ],
)
def test_what_cannot_be_an_event_is_a_letter_with_its_reason(body: bytes, expected: str) -> None:
    assert reason(message(body)) == expected


def test_a_wrong_message_leaves_its_neighbours_alone() -> None:
    decoder = Decoder(CATALOGUE, Window(CATALOGUE, {}, past="unlimited"), max_bytes=10_000)
    sent = [message(changed(id="1")), message(b"hello"), message(changed(id="2"))]
    kinds = [type(found) for found in decoder.decode(sent)]
    assert kinds == [Event, DeadLetter, Event]


@pytest.mark.parametrize(
    ("entity", "subject"),
    [("t-1", "tasks.t-1.updated"), ("a b", "tasks.a=20b.updated"), ("a.b", "tasks.a=2Eb.updated")],
)
def test_the_subject_on_the_bus_is_that_of_the_entity(entity: str, subject: str) -> None:
    assert decoded(message(changed(subject=entity), subject)).entity == entity
    assert reason(message(changed(subject=entity), "tasks.t-2.updated")) == "subject_mismatch"


@pytest.mark.parametrize(("sent", "version"), [(7, 7), ("7", 7), ("007", 7), (0, 0), (..., 0)])
def test_a_sequence_is_a_number_or_its_digits(sent: Any, version: int) -> None:
    assert decoded(message(changed(sequence=sent))).version == version


def test_some_events_need_a_sequence() -> None:
    state = changed(type="agents.state_set", sequence=..., data={"state_key": "cursor", "value": 1})
    assert reason(message(state, "agents.t-1.state_set")) == "missing_sequence"


def test_the_data_is_kept_as_it_was_sent_with_what_nobody_knows() -> None:
    text = b'{"status":  "running", "mood": 1.50}'
    body = changed(data="HERE").replace(b'"HERE"', text)
    assert bytes(decoded(message(body)).raw) == text


@pytest.mark.parametrize(
    ("minutes", "expected"), [(-61, "out_of_window"), (-59, ""), (4, ""), (6, "future")]
)
def test_the_window_moves_with_the_clock(minutes: float, expected: str) -> None:
    moment = (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()
    window = {"past": 3600.0, "future": 300.0}
    found = outcome(message(changed(time=moment)), **window)
    assert (found.reason if isinstance(found, DeadLetter) else "") == expected
