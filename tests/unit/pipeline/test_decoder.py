"""From bytes to an event, or to a dead letter that says why not."""

import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.schemas.identity import escape, event_uuid
from penstock.schemas.vocabulary import TaskStatus
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.plan import make_plan
from penstock.worker.pipeline.ports import DeadLetter, Message
from tests.support.encodings import PACKED, forms, on_nats, on_rabbitmq
from tests.support.generated import EventMaker

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


def message(body: bytes, subject: str = "tasks.t-1.updated") -> Message:
    return Message(subject=subject, body=body)


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


FORMS = dict(forms("tasks.t-1.updated", ATTRIBUTES, json.dumps(DATA).encode()))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_carries_the_same_event(form: str) -> None:
    expected, found = decoded(message(changed())), decoded(FORMS[form])
    for name in ("id", "time", "entity", "version", "source"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.data.status == expected.data.status
    assert json.loads(bytes(found.data.result)) == DATA["result"]


def test_percent_signs_are_decoded_on_nats_and_kept_on_rabbitmq() -> None:
    sent = {**ATTRIBUTES, "id": "50%25 off", "subject": "t-1"}
    subject, body = "tasks.t-1.updated", json.dumps(DATA).encode()
    on_amqp = {f"cloudEvents:{name}": value for name, value in sent.items()}
    over_nats = {f"ce-{name}": value for name, value in sent.items()}
    as_sent, once = event_uuid("/agents/a-1", "50%25 off"), event_uuid("/agents/a-1", "50% off")
    assert decoded(on_rabbitmq(subject, body, on_amqp)).id == as_sent
    assert decoded(on_nats(subject, body, over_nats)).id == once


def test_the_content_type_decides_between_structured_and_binary() -> None:
    headers = {"ce-id": "another", "content-type": "application/cloudevents+json"}
    structured = on_nats("tasks.t-1.updated", changed(), headers)
    assert decoded(structured).id == event_uuid("/agents/a-1", "e-1")
    binary = {f"ce-{name}": value for name, value in ATTRIBUTES.items()}
    packed = {**binary, "ce-datacontenttype": "application/msgpack"}
    sent = on_nats("tasks.t-1.updated", msgspec.msgpack.encode(DATA), packed)
    assert decoded(sent).data.retry_count == 2


def test_the_body_of_binary_mode_is_data_and_cannot_add_attributes() -> None:
    headers = {f"ce-{name}": value for name, value in ATTRIBUTES.items()}
    sent = on_nats("tasks.t-1.updated", b'{"status":"running"},"actor":"x"', headers)
    assert reason(sent) == "not_json"


@pytest.mark.parametrize("name", ["sequence", "actor", "project", "correlationid", "causationid"])
def test_a_null_attribute_is_absent(name: str) -> None:
    absent, null = (
        decoded(message(changed(**{name: ...}))),
        decoded(message(changed(**{name: None}))),
    )
    assert absent.guard == null.guard
    assert (absent.actor, absent.corr) == (null.actor, null.corr)


@pytest.mark.parametrize("name", ["id", "time", "source", "type", "specversion"])
def test_a_null_attribute_that_must_be_there_is_missing(name: str) -> None:
    assert reason(message(changed(**{name: None}))) == reason(message(changed(**{name: ...})))


@pytest.mark.parametrize("entity", ["t-1", "a b", "=2E", "ü.😀", "*", "x" * 255])
def test_a_subject_that_is_absent_is_that_of_the_bus(entity: str) -> None:
    subject, data = f"tasks.{escape(entity)}.updated", json.dumps(DATA).encode()
    texts = {name: value for name, value in ATTRIBUTES.items() if name != "subject"}
    over_nats = {f"ce-{name}": value for name, value in texts.items()}
    over_amqp = {f"ce-{name}": value for name, value in texts.items()}
    packed = {**EVENT, "subject": None, "data": DATA}
    sent = [
        message(changed(subject=...), subject),
        message(changed(subject=None), subject),
        on_nats(subject, data, over_nats),
        on_nats(subject, msgspec.msgpack.encode(packed), {"content-type": PACKED}),
        *([on_rabbitmq(subject, data, over_amqp)] if len(subject) <= 255 else []),
    ]
    expected = decoded(message(changed(subject=entity), subject))
    for found in map(decoded, sent):
        assert (found.entity, found.guard) == (entity, expected.guard)
        assert json.loads(bytes(found.raw)) == DATA


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("tasks.t-1.created", "not_cloudevent"),
        ("tasks..updated", "not_cloudevent"),
        ("tasks.a.b.updated", "not_cloudevent"),
        ("tasks.=2e.updated", "not_cloudevent"),
        ("tasks.=FF.updated", "not_cloudevent"),
        ("tasks.=00.updated", "nul_character"),
        (f"tasks.{'x' * 256}.updated", "not_cloudevent"),
    ],
)
def test_a_bus_subject_that_carries_no_subject_gives_none(subject: str, expected: str) -> None:
    assert reason(message(changed(subject=...), subject)) == expected


def test_what_else_is_wrong_with_an_event_without_a_subject_is_said() -> None:
    assert reason(message(changed(subject=..., time=...))) == "missing_time"
    assert reason(message(changed(subject=..., data={}))) == "invalid_data"
    assert reason(message(changed(subject=..., type=7))) == "not_cloudevent"
    assert reason(message(changed(subject=..., type="tasks.vanished"))) == "not_cloudevent"
    vanished = message(changed(subject=..., type="tasks.vanished"), "tasks.t-1.vanished")
    assert reason(vanished) == "unknown_type"


SPELLINGS = ("ce-", "CE_", "Ce-", "ce_", "cloudEvents:", "cloudevents_", "CLOUDEVENTS:")


@pytest.mark.parametrize("prefix", SPELLINGS)
def test_every_spelling_of_an_attribute_is_read_on_both_brokers(prefix: str) -> None:
    subject, data = "tasks.t-1.updated", json.dumps(DATA).encode()
    headers = {f"{prefix}{name}": value for name, value in ATTRIBUTES.items()}
    expected = decoded(message(changed()))
    for found in (on_nats(subject, data, headers), on_rabbitmq(subject, data, headers)):
        assert decoded(found).guard == expected.guard


def test_of_two_spellings_one_counts_in_whatever_order_they_come() -> None:
    subject, data = "tasks.t-1.updated", json.dumps(DATA).encode()
    both = {f"cloudEvents:{name}": value for name, value in ATTRIBUTES.items()} | {"ce-id": "other"}
    turned = dict(reversed(both.items()))
    sent = [on(subject, data, h) for on in (on_nats, on_rabbitmq) for h in (both, turned)]
    assert {decoded(one).id for one in sent} == {event_uuid("/agents/a-1", "other")}


def test_a_header_that_only_looks_like_an_attribute_changes_nothing() -> None:
    odd = {"service_name": "x", "trace-ce-id": "ce-id", "ce": "x", "price_": "ce_1", "ce-": "x"}
    for on in (on_nats, on_rabbitmq):
        assert decoded(on("tasks.t-1.updated", changed(), odd)).version == 7
    assert on_rabbitmq("tasks.t-1.updated", changed(), {"service_name": "x"}).plain


SECONDS = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("sent", "microseconds"),
    [
        (datetime(2026, 3, 1, 12, tzinfo=UTC), 0),
        (SECONDS, 0),
        (SECONDS * 1000 + 250, 250_000),
        ("2026-03-01T12:00:00.25Z", 250_000),
    ],
)
def test_a_time_may_be_a_timestamp_of_amqp(sent: Any, microseconds: int) -> None:
    headers: dict[str, Any] = {f"cloudEvents:{name}": text for name, text in ATTRIBUTES.items()}
    found = decoded(
        on_rabbitmq(
            "tasks.t-1.updated",
            json.dumps(DATA).encode(),
            {**headers, "cloudEvents:time": sent},
            "application/json",
        )
    )
    assert found.time == datetime(2026, 3, 1, 12, 0, 0, microseconds, UTC)


def test_the_property_timestamp_is_the_time_of_binary_mode_alone() -> None:
    texts = {f"ce-{name}": text for name, text in ATTRIBUTES.items() if name != "time"}
    subject, data = "tasks.t-1.updated", json.dumps(DATA).encode()
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert decoded(on_rabbitmq(subject, data, texts, timestamp=at)).time == at
    assert reason(on_rabbitmq(subject, data, texts)) == "missing_time"
    assert reason(on_rabbitmq(subject, changed(time=...), timestamp=at)) == "missing_time"


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


def test_what_breaks_a_rule_of_the_struct_is_a_letter_with_the_words_of_the_rule() -> None:
    catalogue = Catalogue.load(("league_events",))
    decoder = Decoder(catalogue, Window(catalogue, {}, past="unlimited"), max_bytes=10_000)
    times = {"started_at": "2026-03-01T12:00:00Z", "finished_at": "2026-03-01T11:00:00Z"}
    data = {"season_id": "s", "ranking": [{"agent_id": "a", "place": 1}], **times}
    body = changed(type="matches.played", subject="m-1", data=data)
    (found,) = decoder.decode([message(body, "matches.m-1.played")])
    assert isinstance(found, DeadLetter)
    assert found.reason == "invalid_data"
    assert found.error.startswith("finished_at 2026-03-01 11:00:00+00:00 is before 2026-03-01 12")


@pytest.mark.parametrize(
    "subject", ["", ".", "tasks", "tasks.updated", "\n", "tasks.t-1.updated\n"]
)
def test_a_batch_may_begin_with_a_subject_of_any_form(subject: str) -> None:
    assert reason(message(changed(), subject)) == "subject_mismatch"


def test_a_wrong_message_leaves_its_neighbours_alone() -> None:
    decoder = Decoder(CATALOGUE, Window(CATALOGUE, {}, past="unlimited"), max_bytes=10_000)
    sent = [message(changed(id="1")), message(b"hello"), message(changed(id="2"))]
    kinds = [isinstance(found, Event) for found in decoder.decode(sent)]
    assert kinds == [True, False, True]


@pytest.mark.parametrize(
    ("entity", "subject"),
    [("t-1", "tasks.t-1.updated"), ("a b", "tasks.a=20b.updated"), ("a.b", "tasks.a=2Eb.updated")],
)
def test_the_subject_on_the_bus_is_that_of_the_entity(entity: str, subject: str) -> None:
    assert decoded(message(changed(subject=entity), subject)).entity == entity
    assert reason(message(changed(subject=entity), "tasks.t-2.updated")) == "subject_mismatch"


@pytest.mark.parametrize(
    ("sent", "version"), [(7, 7), ("7", 7), ("007", 7), (0, 0), (None, 0), (..., 0)]
)
def test_a_sequence_is_a_number_or_its_digits(sent: Any, version: int) -> None:
    assert decoded(message(changed(sequence=sent))).version == version


def test_fields_that_a_type_does_not_have_are_told_once_a_second() -> None:
    told: list[tuple[str, list[str]]] = []
    window = Window(CATALOGUE, {}, past="unlimited")
    decoder = Decoder(
        CATALOGUE,
        window,
        max_bytes=10_000,
        on_unknown=lambda kind, names: told.append((kind, [*names])),
    )
    odd = {**DATA, "assignedTo": "a-1", "mood": {}}
    found = decoder.decode([message(changed()), *[message(changed(data=odd))] * 3])
    assert all(isinstance(one, Event) for one in found)
    assert told == [("tasks.updated", ["assignedTo", "mood"])]


def with_value(number: str) -> Message:
    body = changed(type="agents.state_set", data={"state_key": "k", "value": "HERE"})
    return message(body.replace(b'"HERE"', number.encode()), "agents.t-1.state_set")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("1e400", ""),
        ("9" * 1000, ""),
        ("9" * 1001, "out_of_range"),
        ("9" * 5000, "out_of_range"),
        ("0." + "3" * 1001, "out_of_range"),
        ("1e999", ""),
        ("1E-999", ""),
        ("1e0999", ""),
        ("1e1000", "out_of_range"),
        ("1e-1000", "out_of_range"),
        ("[0,1E+131071]", "out_of_range"),
        ("0e99999999999999999999", "out_of_range"),
        ('"1e131071"', ""),
        ('{"1e131071,": ":1e131071,"}', ""),
        ("[" + "1e999," * 100 + "1]", "too_large"),
    ],
)
def test_a_number_may_not_explode(number: str, expected: str) -> None:
    found = outcome(with_value(number))
    assert (found.reason if isinstance(found, DeadLetter) else "") == expected


def test_what_is_stored_as_sent_is_looked_at_wherever_the_number_stands() -> None:
    stored = {**DATA, "mood": "HERE"}
    body = changed(data=stored).replace(b'"HERE"', b"1e131071")
    assert reason(message(body)) == "out_of_range"
    quality = changed(data={**DATA, "quality_score": "HERE"}).replace(b'"HERE"', b"1e-131071")
    assert reason(message(quality)) == "out_of_range"


ENDS = ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59.9999999Z"]


@pytest.mark.parametrize("kind", CATALOGUE.types)
@pytest.mark.parametrize("end", [*ENDS, "9999-12-31T23:59:59.999999Z"])
def test_the_ends_of_the_calendar_are_no_times(kind: str, end: str) -> None:
    """In every field of every type: NULL where a time may be absent, else a letter."""
    declared = CATALOGUE.types[kind]
    maker = EventMaker(random.Random(1), ("t-1",), 60)
    for name in declared.moments:
        sent = maker.message(declared, 1)
        event = json.loads(sent.body)
        event["data"][name] = end
        found = outcome(message(json.dumps(event).encode(), sent.subject))
        if name in declared.required_moments:
            assert isinstance(found, DeadLetter)
            assert found.reason in ("out_of_window", "future", "bad_time")
        else:
            assert isinstance(found, Event), found
            cells = [row for part in make_plan([found]).states for row in part.rows]
            assert not any(
                isinstance(c, datetime) and c.year in (1, 9999) for r in cells for c in r
            )


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2016-12-31T23:59:60Z", "bad_time"),
        ("9999-12-31T23:59:59.9999999Z", "future"),
        ("0001-01-01T00:00:00Z", "out_of_window"),
    ],
)
def test_a_time_that_cannot_be_kept_has_its_true_reason(time: str, expected: str) -> None:
    assert reason(message(changed(time=time))) == expected
    data = {**DATA, "started_at": "2016-12-31T23:59:60Z"}
    assert reason(message(changed(data=data))) == "bad_time"


def test_nanoseconds_are_rounded_to_what_postgresql_keeps() -> None:
    first, second = (
        decoded(message(changed(time=f"2026-03-01T12:00:00.12345{digits}Z")))
        for digits in ("6001", "6499")
    )
    assert first.time == second.time


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
