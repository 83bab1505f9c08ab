"""An example of each event type, made from its schema: it has what must be there."""

import re
from itertools import combinations
from typing import Any

import msgspec

from penstock.schemas.event_type import EventType
from penstock.schemas.identity import escape
from penstock.worker.commands.event_schemas import Schema, event_schema

_TIME = "2026-03-01T12:00:00Z"
_WORD = "worker"
"""Fits the shape that open vocabularies have."""

_RIGHT = "tasks:read"
_DIGEST = "5e" * 32
_ADDRESS = "192.0.2.7"
_UUID = "5a4b6c1e-0d2f-5e3a-8b7c-9d0e1f2a3b4c"

_MOST_ASKED = 2
"""Optional fields that a rule may ask for at once."""


def example_of(kind: EventType) -> dict[str, Any]:
    """The event in structured mode."""
    data = event_schema(kind)["properties"]["data"]
    return {
        "specversion": "1.0",
        "id": f"{kind.name}-1",
        "source": "/examples",
        "type": kind.name,
        "subject": _subject(kind),
        "time": _TIME,
        "sequence": 1,
        "data": _data(kind, data),
    }


def bus_subject(kind: EventType, event: dict[str, Any]) -> str:
    """Where the event is sent."""
    return f"{kind.prefix}{escape(event['subject'])}{kind.suffix}"


def _subject(kind: EventType) -> str:
    return _text(kind.spec.key, event_schema(kind)["properties"]["subject"])


def _data(kind: EventType, schema: Schema) -> dict[str, Any]:
    """What must be there, and of what need not be as much as a rule between the fields asks for."""
    stated = {name: _value(name, schema["properties"][name]) for name in schema["required"]}
    optional = [name for name in schema["properties"] if name not in stated]
    for count in range(_MOST_ASKED + 1):
        for names in combinations(optional, count):
            more = {name: _value(name, _stated(schema["properties"][name])) for name in names}
            try:
                kind.decode(msgspec.json.encode(stated | more))
            except ValueError:
                continue
            return stated | more
    return stated


def _stated(schema: Schema) -> Schema:
    """The schema of a value that is not null."""
    return next((one for one in schema.get("anyOf", ()) if one != {"type": "null"}), schema)


def _named(field: str) -> str:
    return f"{field.removesuffix('_id').replace('_', '-')}-7"


def _value(name: str, schema: Schema) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "string":
            return _text(name, schema)
        case "integer" | "number":
            return max(schema.get("minimum", 1), min(1, schema.get("maximum", 1)))
        case "boolean":
            return True
        case "array":
            return [_value(name, schema["items"])]
    parts = {each: _value(each, schema["properties"][each]) for each in schema.get("required", ())}
    return parts or {"line": 42}


def _text(name: str, schema: Schema) -> str:
    if schema.get("format") == "date-time":
        return _TIME
    usual = _named(name) if name.endswith("_id") else name.replace("_", "-")
    shape = re.compile(schema.get("pattern", "")).search
    return next(text for text in (usual, _WORD, _RIGHT, _DIGEST, _ADDRESS, _UUID) if shape(text))
