"""TypeScript types of all events, made from their JSON Schemas.

Events are looked up by their type, so no names have to be invented:
``PenstockEvent<"tasks.updated">``. ``PenstockEvent`` is the union of all, told apart by ``type``.
"""

import json
from collections.abc import Iterator

from penstock.schemas.catalogue import Catalogue
from penstock.worker.commands.event_schemas import Schema, event_schema

_HEAD = """\
// The events that Penstock stores. Made by `penstock events --format typescript`.
// A type cannot say all: lengths and ranges are in the JSON Schemas.

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** A time with an offset, as in 2026-03-01T12:00:00Z. */
export type Moment = string;
"""

_TAIL = """\
/** What every event may say beside its type and its data. */
export interface Attributes {
  specversion: "1.0";
  /** With source it names the event: the same id is the same event. */
  id: string;
  source: string;
  /** What it is about. On the bus it is a token of the subject, escaped. */
  subject: string;
  time: Moment;
  actor?: string | null;
  project?: string | null;
  correlationid?: string | null;
  causationid?: string | null;
  traceparent?: string | null;
  datacontenttype?: string | null;
}

export type EventType = keyof EventData;

type Event<T extends EventType> = Attributes & { type: T; data: EventData[T] } & (T extends Counted
    ? { sequence: number | string }
    : { sequence?: number | string | null });

/** One event of a type, or of any: a union that `type` tells apart. */
export type PenstockEvent<T extends EventType = EventType> = { [K in T]: Event<K> }[T];
"""


def typescript(catalogue: Catalogue) -> str:
    """A module of types."""
    lines = [_HEAD, "/** The data of each event type. */", "export interface EventData {"]
    for kind in catalogue.types.values():
        data = event_schema(kind)["properties"]["data"]
        lines += [f"  /** {kind.spec.summary} */", f"  {_quoted(kind.name)}: {{"]
        lines += _fields(data)
        lines.append("  };")
    counted = [kind.name for kind in catalogue.types.values() if kind.requires_sequence]
    lines += ["}", "", "/** The types that need a sequence. */"]
    lines += [f"export type Counted = {' | '.join(map(_quoted, counted)) or 'never'};", ""]
    return "\n".join([*lines, _TAIL])


def _fields(data: Schema) -> Iterator[str]:
    for name, schema in data["properties"].items():
        absent = "" if name in data["required"] else "?"
        yield f"    {_quoted(name)}{absent}: {_type(schema)};"


def _type(schema: Schema) -> str:
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(map(_type, schema["anyOf"])))
    if "enum" in schema:
        return " | ".join(map(_quoted, schema["enum"]))
    match schema.get("type"):
        case "array":
            return f"Array<{_type(schema.get('items', _ANYTHING))}>"
        case "object":
            return _object(schema)
        case kind:
            return _SIMPLE.get(schema.get("format") or kind or "", "Json")


_ANYTHING: Schema = {"$ref": "json"}
_SIMPLE = {
    "date-time": "Moment",
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "null": "null",
}


def _object(schema: Schema) -> str:
    if "properties" in schema:
        data = {"required": [], **schema}
        return f"{{ {' '.join(line.strip() for line in _fields(data))} }}"
    values = schema.get("additionalProperties", _ANYTHING)
    return f"Record<string, {_type(values if isinstance(values, dict) else _ANYTHING)}>"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
