"""The schemas of events say what the worker does, judged by a validator that knows neither."""

import json
import random
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.schemas.identity import escape
from penstock.worker.commands import events
from penstock.worker.commands.event_examples import bus_subject, example_of
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.ports import DeadLetter, Message
from penstock.worker.settings.keys import load
from tests.integration.pipeline.test_malformed import BAD, LEGAL
from tests.support.generated import EventMaker
from tests.support.mutations import mutants

CATALOGUE = Catalogue.load()
DECODER = Decoder(CATALOGUE, Window(CATALOGUE, {}, past="unlimited"), max_bytes=1 << 20)
OFFICIAL = Path(__file__).parents[2] / "support" / "asyncapi" / "3.0.0.json"

BEYOND = ("future", "out_of_window", "lone_surrogate", "subject_mismatch", "too_large", "too_deep")
"""Reasons that no schema can know."""

BEYOND_TEXT = (
    "digits",
    "has an exponent",
    "stands for no time",
    "got `float`",
    "written out",
    "Number out of range",
    "state one of them",
    "grant one",
    "has a value; encrypt it",
    "nobody is paired with itself",
)
"""What an error says that is wrong with a number or a time in a way that no schema can know, or
between two fields, which our schemas leave to the worker.
"""


@cache
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(events.show("json-schema", load({}, {})))
    return found


@cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(
        {"$ref": f"#/$defs/{name}", "$defs": document()["$defs"]}
    )


def accepted(event: Any) -> bool:
    """Whether the schema of its type, or that of no event, accepts it."""
    name = event.get("type") if isinstance(event, dict) else None
    if not isinstance(name, str) or name not in CATALOGUE.types:
        return False
    return bool(validator(name).is_valid(event))


def outcome(subject: str, body: bytes) -> Event | DeadLetter:
    (found,) = DECODER.decode([Message(subject=subject, body=body)])
    return found


def no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def read(body: bytes) -> Any:
    """The document; ... if it is none that a validator could be given."""
    try:
        return json.loads(body.decode(), parse_constant=no_constant)
    except (ValueError, RecursionError):
        return ...


def beyond_a_schema(letter: DeadLetter) -> bool:
    return letter.reason in BEYOND or any(text in letter.error for text in BEYOND_TEXT)


def has_no_subject(event: Mapping[str, Any]) -> bool:
    """The worker takes it from the bus; a schema sees the event alone."""
    return event.get("subject") is None


def misshapen(event: Mapping[str, Any]) -> bool:
    """The shape of a key is left to the table, which refuses the row."""
    return accepted({**event, "subject": "5e" * 32})


@pytest.mark.parametrize("name", CATALOGUE.types)
def test_examples_and_generated_events_are_valid(name: str) -> None:
    kind = CATALOGUE.types[name]
    example = example_of(kind)
    validator(name).validate(example)
    stored = outcome(bus_subject(kind, example), json.dumps(example).encode())
    assert isinstance(stored, Event), stored
    maker = EventMaker(random.Random(name), ("a-1", "a b"), 60)
    for number in range(5):
        validator(name).validate(json.loads(maker.message(kind, number).body))


def test_one_of_all_is_the_schema_of_the_type() -> None:
    jsonschema.Draft202012Validator.check_schema(document())
    whole = jsonschema.Draft202012Validator(document())
    example = example_of(CATALOGUE.types["tasks.updated"])
    assert whole.is_valid(example)
    assert not whole.is_valid({**example, "type": "tasks.vanished"})


def test_a_schema_and_the_worker_agree_on_changed_events() -> None:
    seen: Counter[str] = Counter()
    for one in mutants(CATALOGUE, 2_000, seed=5):
        body = json.dumps(dict(one.attributes)).encode()[:-1] + b',"data":' + one.data + b"}"
        event, found = read(body), outcome(one.subject, body)
        if event is ... or (one.change == "field" and b"[" * 300 in body):
            continue  # deeper than the validator can go
        valid = accepted(event)
        if isinstance(found, Event):
            assert valid or has_no_subject(event) or misshapen(event), body[:500]
            seen["stored"] += 1
        else:
            assert not valid or beyond_a_schema(found), (found.reason, found.error, body[:500])
            seen[f"{found.reason} {valid}"] += 1
    assert seen["stored"] > 500
    for reason in ("bad_time", "bad_id", "missing_time", "invalid_data", "nul_character"):
        assert seen[f"{reason} False"], seen


@pytest.mark.parametrize("name", BAD)
def test_the_malformed_are_refused_where_a_schema_can_say_it(name: str) -> None:
    subject, make, reason = BAD[name]
    body = make()
    event, found = read(body), outcome(subject, body)
    if event is ...:
        python_gives_up = b"9" * 5_000 in body
        assert reason in ("not_json", "bad_utf8", "too_deep") or python_gives_up
        return
    assert isinstance(found, DeadLetter) or reason == "out_of_window"
    beyond = isinstance(found, Event) or beyond_a_schema(found)
    assert accepted(event) == beyond


@pytest.mark.parametrize("name", LEGAL)
def test_the_odd_but_legal_are_valid(name: str) -> None:
    assert accepted(read(LEGAL[name]()))


@pytest.mark.parametrize(
    ("sequence", "valid"),
    [
        (1, True),
        (2**63 - 1, True),
        (2**63, False),
        (0, False),
        (-1, False),
        ("7", True),
        ("007", True),
        (str(2**63 - 1), True),
        (str(2**63), False),
        ("0", False),
        ("000", False),
        ("", False),
        ("1.0", False),
        (None, False),
        (..., False),
    ],
)
def test_a_sequence_in_both_spellings_where_it_is_needed(sequence: Any, *, valid: bool) -> None:
    example = example_of(CATALOGUE.types["agents.state_set"])
    event = {n: v for n, v in {**example, "sequence": sequence}.items() if v is not ...}
    found = outcome("agents.agent-7.state_set", json.dumps(event).encode())
    assert (accepted(event), isinstance(found, Event)) == (valid, valid)


def test_the_token_of_a_subject_is_what_escaping_makes() -> None:
    token = validator("token")
    for text in ("a-1", "a b", "ü.😀", "*", "=", "\0", "x" * 255):
        assert token.is_valid(escape(text))
    for wrong in ("", "a.b", "a b", "ü", "=2e", "=2", "*", ">"):
        assert not token.is_valid(wrong), wrong


@cache
def asyncapi() -> dict[str, Any]:
    flags = {"rabbitmq_url": "amqp://me:5ecr3t@bus:5673/a%2Fb", "brokers": "nats,rabbitmq"}
    found: dict[str, Any] = json.loads(events.show("asyncapi", load(flags, {})))
    return found


@cache
def official() -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(json.loads(OFFICIAL.read_text("utf-8")))


def test_the_asyncapi_document_is_valid_by_the_official_schema() -> None:
    found = asyncapi()
    assert [error.message for error in official().iter_errors(found)] == []
    assert set(found["channels"]) == set(found["operations"]) == set(CATALOGUE.types)
    assert found["servers"]["rabbitmq"]["host"] == "bus:5673"
    amqp = found["channels"]["tasks.updated"]["bindings"]["amqp"]
    assert (amqp["exchange"]["name"], amqp["exchange"]["vhost"]) == ("events", "a/b")
    assert "5ecr3t" not in json.dumps(found)


def test_the_official_schema_refuses_a_wrong_binding_and_a_wrong_action() -> None:
    small = {**asyncapi(), "components": {}}
    channel, operation = (small[part]["tasks.updated"] for part in ("channels", "operations"))
    bindings = {"amqp": {**channel["bindings"]["amqp"], "is": "a rooting key"}}
    wrong = {**small, "channels": {"tasks.updated": {**channel, "bindings": bindings}}}
    assert not official().is_valid(wrong)
    wrong = {**small, "operations": {"tasks.updated": {**operation, "action": "post"}}}
    assert not official().is_valid(wrong)


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    found = asyncapi()
    references = [part.partition('"')[0] for part in json.dumps(found).split('"$ref": "#/')[1:]]
    assert len(references) > 100
    for reference in references:
        place: Any = found
        for step in reference.split("/"):
            place = place[step]
