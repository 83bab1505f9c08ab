"""JSON Schemas of events as they are sent: what the worker checks, as far as a schema can say it.

They keep to what has been the same since draft 7, so that AsyncAPI documents can hold them.
"""

import json
from collections.abc import Iterator, Mapping
from inspect import getdoc
from typing import Any

import msgspec
from msgspec import inspect

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event_type import EventType
from penstock.schemas.fields import field_types
from penstock.schemas.vocabulary import Vocabulary
from penstock.schemas.wire import rule

Schema = dict[str, Any]

DEFINED = "#/$defs/"
"""Where a document of JSON Schema keeps what it refers to."""

_NO_NUL = "^[^\\u0000]*$"
_TIME = (
    "^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    "[Tt ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]+)?"
    "([Zz]|[+-]([01][0-9]|2[0-3]):?[0-5][0-9])$"
)
_BIGGEST = 2**63 - 1
_SEQUENCE_LENGTH = 20

_ABOUT = (
    "Every event as it is sent in structured mode. What a schema cannot say: the size of an event "
    "(max_event_bytes), the window of its time (window_past, window_future), numbers with more "
    "than 1,000 digits or an exponent above 999, and halves of surrogate pairs are refused too."
)


def json_schema(catalogue: Catalogue) -> str:
    """JSON Schema 2020-12 of every event as it is sent in structured mode, under ``$defs``."""
    definitions = definitions_of(catalogue)
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Penstock events",
        "description": _ABOUT,
        "oneOf": [{"$ref": f"{DEFINED}{name}"} for name in catalogue.types],
        "$defs": definitions,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def definitions_of(catalogue: Catalogue, place: str = DEFINED) -> dict[str, Schema]:
    """The schema of each event by its type, and what they refer to at ``place``."""
    events = {name: event_schema(kind, place) for name, kind in catalogue.types.items()}
    return {**events, "json": _any_json(f"{place}json"), "token": TOKEN}


TOKEN: Schema = {
    "type": "string",
    "pattern": "^([A-Za-z0-9_-]|=[0-9A-F]{2})+$",
    "description": "The subject of an event within its subject on the bus: each byte of its UTF-8 "
    "that is not one of A-Z a-z 0-9 _ - is written as =XX, in capital hexadecimal digits.",
}


def _any_json(reference: str) -> Schema:
    itself = {"$ref": reference}
    return {
        "description": "Any JSON without the character NUL.",
        "pattern": _NO_NUL,
        "items": itself,
        "additionalProperties": itself,
        "propertyNames": {"pattern": _NO_NUL},
    }


def event_schema(kind: EventType, place: str = DEFINED) -> Schema:
    """The schema of one event type: its CloudEvents attributes and its data."""
    data = _data(kind, place)
    subject = data["properties"].pop(kind.spec.key)
    data["required"] = [name for name in data["required"] if name != kind.spec.key]
    if checked := getdoc(rule(kind.spec.struct)):
        data["description"] = f"{data.get('description', '')} {checked}".strip()
    counted = ["sequence"] if kind.requires_sequence else []
    schema: Schema = {
        "type": "object",
        "description": kind.spec.summary,
        "required": ["specversion", "id", "source", "type", "time", "subject", *counted],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": _text(255, least=1),
            "source": _text(1024, least=1),
            "type": {"const": kind.name},
            "time": {"type": "string", "format": "date-time", "pattern": _TIME},
            "subject": {**subject, "description": _about_subject(kind)},
            "sequence": _sequence(required=kind.requires_sequence),
            **{name: _or_null(_text(255)) for name in _OPTIONAL},
            "data": data,
            "data_base64": _or_null({"type": "string", "contentEncoding": "base64"}),
        },
    }
    if data["required"]:
        packed = {"properties": {"data_base64": {"type": "string"}}, "required": ["data_base64"]}
        schema["anyOf"] = [{"required": ["data"]}, packed]
    return schema


_OPTIONAL = (
    "actor",
    "project",
    "correlationid",
    "causationid",
    "traceparent",
    "datacontenttype",
)


def _about_subject(kind: EventType) -> str:
    return (
        f"The {kind.spec.key}. The event is sent to {kind.prefix}<token>{kind.suffix}, where the "
        "token is this text with each byte outside of A-Z a-z 0-9 _ - written as =XX."
    )


def _text(most: int, least: int = 0) -> Schema:
    least_length = {"minLength": least} if least else {}
    return {"type": "string", **least_length, "maxLength": most, "pattern": _NO_NUL}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _sequence(*, required: bool) -> Schema:
    """An integer or its decimal digits; both spellings are one number."""
    least = int(required)
    digits = f"^{'(?!0*$)' if required else ''}0*({_up_to(_BIGGEST)})$"
    spellings: list[Schema] = [
        {"type": "integer", "minimum": least, "maximum": _BIGGEST},
        {"type": "string", "pattern": digits, "maxLength": _SEQUENCE_LENGTH},
    ]
    about = "Counts the changes of one thing, from 1; of two events the greater one wins."
    absent: list[Schema] = [] if required else [{"type": "null"}]
    return {"description": about, "anyOf": [*spellings, *absent]}


def _up_to(number: int) -> str:
    """A regular expression of the decimal digits of all numbers up to this one."""
    digits = str(number)
    less = [
        f"{digits[:at]}[0-{int(digit) - 1}][0-9]{{{len(digits) - at - 1}}}"
        for at, digit in enumerate(digits)
        if digit != "0"
    ]
    return "|".join([f"[0-9]{{0,{len(digits) - 1}}}", *less, digits])


def _data(kind: EventType, place: str) -> Schema:
    struct = kind.spec.struct
    (found,), parts = msgspec.json.schema_components([struct], ref_template="#/$defs/{name}")
    words = {cls.__name__: cls for field in field_types(struct).values() for cls in _words(field)}
    parts = {name: _with_aliases(part, words.get(name)) for name, part in parts.items()}
    data: Schema = _resolved(found, parts)
    anything = {"$ref": f"{place}json"}
    for name, field in data["properties"].items():
        if name in kind.free:
            field.update(anything)
    data.update(additionalProperties=anything, propertyNames={"pattern": _NO_NUL})
    data.setdefault("required", [])
    return data


def _words(kind: inspect.Type) -> Iterator[type[Vocabulary]]:
    if isinstance(kind, inspect.Metadata):
        yield from _words(kind.type)
    elif isinstance(kind, inspect.UnionType):
        for part in kind.types:
            yield from _words(part)
    elif isinstance(kind, inspect.EnumType) and issubclass(kind.cls, Vocabulary):
        yield kind.cls


def _with_aliases(schema: Schema, words: type[Vocabulary] | None) -> Schema:
    """The worker takes other spellings of a word too."""
    aliases: Mapping[str, str] = words.aliases() if words else {}
    return {**schema, "enum": [*schema["enum"], *aliases]} if aliases else schema


def _resolved(schema: Any, parts: Mapping[str, Schema]) -> Any:
    """Without references, and with the checks that msgspec leaves to the worker."""
    if isinstance(schema, list):
        return [_resolved(value, parts) for value in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        rest = {name: value for name, value in schema.items() if name != "$ref"}
        return {**_resolved(parts[schema["$ref"].rpartition("/")[2]], parts), **rest}
    found = {name: _resolved(value, parts) for name, value in schema.items()}
    if found.get("type") == "string" and "enum" not in found:
        found.setdefault("pattern", _TIME if found.get("format") == "date-time" else _NO_NUL)
    return found
