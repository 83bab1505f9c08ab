"""An example of each event type, made from its schema: it has what must be there."""

from typing import Any

from penstock.schemas.event_type import EventType
from penstock.schemas.identity import escape
from penstock.worker.commands.event_schemas import Schema, event_schema

_TIME = "2026-03-01T12:00:00Z"
_WORD = "worker"
"""Fits the shape that open vocabularies have."""


def example_of(kind: EventType) -> dict[str, Any]:
    """The event in structured mode."""
    data = event_schema(kind)["properties"]["data"]
    return {
        "specversion": "1.0",
        "id": f"{kind.name}-1",
        "source": "/examples",
        "type": kind.name,
        "subject": _named(kind.spec.key),
        "time": _TIME,
        "sequence": 1,
        "data": {name: _value(name, data["properties"][name]) for name in data["required"]},
    }


def bus_subject(kind: EventType, event: dict[str, Any]) -> str:
    """Where the event is sent."""
    return f"{kind.prefix}{escape(event['subject'])}{kind.suffix}"


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
    if schema["pattern"].startswith("^[a-z"):
        return _WORD
    return _named(name) if name.endswith("_id") else name.replace("_", "-")
