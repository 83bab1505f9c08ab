"""The fields of an event as a reader wants them, from its JSON Schema."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec

_SIMPLE = {"boolean": "true or false", "object": "JSON object"}


class FieldText(msgspec.Struct, frozen=True):
    """One row of an event's table; ``default`` says that a field is required."""

    name: str
    value: str
    default: str


def fields(schema: dict[str, Any]) -> Iterator[FieldText]:
    """The fields of the data of an event's schema, in their order."""
    data = schema["properties"]["data"]
    for name, field in data["properties"].items():
        if name in data["required"]:
            default = "required"
        else:
            default = f"`{json.dumps(field['default'])}`" if "default" in field else ""
        yield FieldText(f"`{name}`", value_of(field), default)


def value_of(schema: dict[str, Any]) -> str:
    """What a value may be, in words."""
    if "anyOf" in schema:
        return "; or ".join(value_of(part) for part in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind: str = schema.get("type", "any JSON value")
    if kind == "string":
        return _text(schema)
    if kind in ("integer", "number"):
        return kind + _range(schema)
    if kind == "array":
        return f"list of: {value_of(schema.get('items', {}))}"
    return _SIMPLE.get(kind, kind)


def _text(schema: dict[str, Any]) -> str:
    if schema.get("format") == "date-time":
        return "time (RFC 3339, with an offset)"
    longest = schema.get("maxLength")
    return f"text, at most {longest:,} characters" if longest else "text"


def _range(schema: dict[str, Any]) -> str:
    least, greatest = schema.get("minimum"), schema.get("maximum")
    if least is None:
        return "" if greatest is None else f", at most {greatest}"
    return f", at least {least}" if greatest is None else f", {least} to {greatest}"
