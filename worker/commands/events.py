"""The catalogue for people and tools: a table, Markdown, or JSON Schema."""

import inspect
import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event_type import EventType
from penstock.schemas.wire import rule
from penstock.worker.commands.columns import columns

_TITLES = ("type", "subject", "stream", "history", "state", "what it says")


def show(form: str, packages: Sequence[str] = ()) -> str:
    """The catalogue as ``table``, ``markdown`` or ``json-schema``."""
    catalogue = Catalogue.load(packages)
    return {"table": table, "markdown": markdown, "json-schema": json_schema}[form](catalogue)


def _rows(catalogue: Catalogue) -> Iterator[tuple[str, ...]]:
    for kind in catalogue.types.values():
        history = kind.history.table if kind.history else "-"
        domain = getattr(kind.spec.history, "domain", None)
        states = dict.fromkeys(state.table for state in kind.states)
        yield (
            kind.name,
            f"{kind.prefix}{{{kind.spec.key}}}{kind.suffix}",
            kind.stream,
            f"{history} ({domain})" if domain else history,
            ", ".join(states) or "-",
            kind.spec.summary,
        )


def table(catalogue: Catalogue) -> str:
    """Aligned columns, for a terminal and for tools that work line by line."""
    return columns(_TITLES, _rows(catalogue))


def markdown(catalogue: Catalogue) -> str:
    """The table of events in the documentation."""
    lines = [f"| {' | '.join(_TITLES)} |", f"|{'---|' * len(_TITLES)}"]
    for name, subject, *rest in _rows(catalogue):
        lines.append(f"| `{name}` | `{subject}` | {' | '.join(rest)} |")
    return "\n".join(lines) + "\n"


def json_schema(catalogue: Catalogue) -> str:
    """JSON Schema 2020-12 of every event as it is sent in structured mode, under ``$defs``."""
    definitions: dict[str, Any] = {}
    for kind in catalogue.types.values():
        definitions[kind.name] = event_schema(kind)
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Penstock events",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in definitions],
        "$defs": definitions,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def event_schema(kind: EventType) -> dict[str, Any]:
    """The schema of one event type: CloudEvents attributes and data, with references resolved."""
    (found,), parts = msgspec.json.schema_components(
        [kind.spec.struct], ref_template="#/$defs/{name}"
    )
    data = _resolved(found, parts)
    subject = data["properties"].pop(kind.spec.key)
    if checked := inspect.getdoc(rule(kind.spec.struct)):
        data["description"] = f"{data.get('description', '')} {checked}".strip()
    data["required"] = [name for name in data.get("required", []) if name != kind.spec.key]
    return {
        "type": "object",
        "description": kind.spec.summary,
        "required": ["specversion", "id", "source", "type", "time", "subject", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "minLength": 1, "maxLength": 255},
            "source": {"type": "string", "minLength": 1, "maxLength": 1024},
            "type": {"const": kind.name},
            "time": {"type": "string", "format": "date-time"},
            "subject": subject,
            "sequence": {"type": "integer", "minimum": 1 if kind.requires_sequence else 0},
            "data": data,
        },
    }


def _resolved(schema: Any, parts: dict[str, Any]) -> Any:
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _resolved(parts[schema["$ref"].rpartition("/")[2]], parts)
        return {name: _resolved(value, parts) for name, value in schema.items()}
    if isinstance(schema, list):
        return [_resolved(value, parts) for value in schema]
    return schema
