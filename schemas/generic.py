"""Rows of the generic histories: ``events.log`` and ``audit.log``."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Raw

from penstock.schemas.cells import Cell, Cells
from penstock.schemas.event import Event
from penstock.schemas.fields import field_types, is_optional, value_kind
from penstock.schemas.identity import entity_uuid
from penstock.schemas.mapping import Attribute, AuditLog, EventSpec, Field, Log
from penstock.schemas.rows import MappingError, RowCompiler

LOG_COLUMNS = (
    "domain",
    "event_id",
    "occurred_at",
    "event_type",
    "entity_id",
    "version",
    "actor",
    "source",
    "project_id",
    "corr",
    "cause",
    "data",
)
AUDIT_VALUES = (
    "action",
    "resource_id",
    "old_values",
    "new_values",
    "changed",
    "ip",
    "user_agent",
    "session_id",
)
"""What `AuditLog` may be told the source of."""

AUDIT_COLUMNS = (*LOG_COLUMNS[1:], "origin", "resource_type", *AUDIT_VALUES)


def clipped(raw: Raw, limit: int, keep: tuple[str, ...]) -> Raw | bytes:
    """``raw``, or above ``limit`` bytes only its fields ``keep`` with the size and checksum."""
    if len(raw) <= limit:
        return raw
    fields = msgspec.json.decode(raw, type=dict[str, Raw])
    kept: dict[str, Any] = {name: fields[name] for name in keep if name in fields}
    kept["omitted"] = {"bytes": len(raw), "sha256": sha256(raw).hexdigest()}
    return msgspec.json.encode(kept)


def log_row(event_type: str, log: Log) -> Cells:
    """The row function of ``events.log``."""
    domain, limit, keep = log.domain, log.data_limit, log.keep

    def rows(events: Sequence[Event], _items: Iterable[Any]) -> list[Cell]:
        return [
            (
                domain,
                e.id,
                e.time,
                event_type,
                e.entity,
                e.version,
                e.actor,
                e.source,
                None if e.project is None else entity_uuid("project", e.project),
                e.corr,
                e.cause,
                e.raw if limit is None else clipped(e.raw, limit, keep),
            )
            for e in events
        ]

    return Cells(rows)


def audit_row(spec: EventSpec, history: AuditLog, compiler: RowCompiler) -> Cells:
    """The row function of ``audit.log``: all types write all columns. Raises MappingError."""
    header = log_row(spec.name, Log("audit"))
    sources = audit_sources(spec, history)
    rest = compiler.cells(tuple(sources), sources)

    def rows(events: Sequence[Event], items: Iterable[Any]) -> list[Cell]:
        pairs = zip(header.rows(events, items), rest.rows(events, items), strict=True)
        return [(*first[1:], *others) for first, others in pairs]

    return Cells(rows)


def audit_sources(spec: EventSpec, history: AuditLog) -> Mapping[str, Any]:
    """Where the columns beside those of `LOG_COLUMNS` come from. Raises MappingError."""
    if wrong := set(history.values) - set(AUDIT_VALUES):
        raise MappingError(
            f"{spec.name}: AuditLog has no {', '.join(map(repr, sorted(wrong)))}; its values are "
            f"{', '.join(AUDIT_VALUES)}"
        )
    kind = history.resource_type
    if isinstance(kind, Field):
        found = field_types(spec.struct).get(kind.name)
        if found is None or is_optional(found) or value_kind(found) != "text":
            raise MappingError(
                f"{spec.name}: the resource_type of AuditLog is a word, or a field that always "
                f"has one; {kind.name!r} is none"
            )
    own = {"origin": "event", "resource_type": kind, **dict.fromkeys(AUDIT_VALUES)}
    return {**own, "action": spec.verb, "resource_id": Attribute.ENTITY, **history.values}
