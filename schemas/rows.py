"""From a declaration to a function that makes the tuple of a row.

Rows are made once per event, so the functions are generated as source text, as the standard
library's dataclasses are: one expression per column, no dispatch while they run.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, get_type_hints

import msgspec
from msgspec import NODEFAULT, Raw, inspect

from penstock.schemas.cells import Cell, Cells, compile_cells
from penstock.schemas.event import Event, EventData
from penstock.schemas.fields import (
    extra,
    field_types,
    is_container,
    is_json,
    is_moment,
    is_optional,
    struct_fields,
)
from penstock.schemas.identity import canonical, entity_uuid
from penstock.schemas.mapping import Attribute, Field, Log

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
"""The ends of the calendar. Runtimes write them where they mean that there is no time (Go's zero
time, .NET's ``MinValue`` and ``MaxValue``), so an optional time there is stored as NULL; the driver
of PostgreSQL would make infinities of them.
"""

_NULL = b"null"


class MappingError(Exception):
    """A declaration does not fit its struct. The message names the event type and the column."""


def key_text(entity: str) -> str | None:
    """The text a key was made from, or None if the text is the key."""
    return None if canonical(entity.lower()) else entity


def raw_json(value: Raw) -> bytes | None:
    """A JSON document as sent; ``null`` becomes SQL's NULL."""
    text = bytes(value)
    return None if text == _NULL or not text else text


def clipped(raw: Raw, limit: int, keep: tuple[str, ...]) -> Raw | bytes:
    """``raw``, or above ``limit`` bytes only its fields ``keep`` with the size and checksum."""
    if len(raw) <= limit:
        return raw
    fields = msgspec.json.decode(raw, type=dict[str, Raw])
    kept: dict[str, Any] = {name: fields[name] for name in keep if name in fields}
    kept["omitted"] = {"bytes": len(raw), "sha256": sha256(raw).hexdigest()}
    return msgspec.json.encode(kept)


_NAMES: dict[str, Any] = {
    "FIRST": FIRST,
    "LAST": LAST,
    "entity_uuid": entity_uuid,
    "key_text": key_text,
    "raw_json": raw_json,
    "encode": msgspec.json.encode,
}


def wire_struct(
    struct: type[EventData], key: str, only: Collection[str] | None = None
) -> type[msgspec.Struct]:
    """The struct as it travels: without the key field, JSON documents left undecoded; with ``only``
    without the other fields too.
    """
    hints = get_type_hints(struct, include_extras=True)
    fields: list[Any] = []
    for field in struct_fields(struct):
        if field.name == key or (only is not None and field.name not in only):
            continue
        annotation = Raw if is_json(field.type) else hints[field.name]
        if field.default is not NODEFAULT:
            default = Raw(_NULL) if annotation is Raw else field.default
            fields.append((field.name, annotation, default))
        elif field.default_factory is not NODEFAULT:
            fields.append(
                (field.name, annotation, msgspec.field(default_factory=field.default_factory))
            )
        else:
            fields.append((field.name, annotation))
    return msgspec.defstruct(
        f"{struct.__name__}Data", fields, frozen=True, kw_only=True, module=struct.__module__
    )


def strict(wire: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The same, but a field that it does not have is an error."""
    return msgspec.defstruct(
        wire.__name__, [], bases=(wire,), frozen=True, kw_only=True, forbid_unknown_fields=True
    )


def _field_expression(name: str, kind: inspect.Type, *, key: bool) -> str:
    access = "e.entity" if key else f"d.{name}"
    id_kind = extra(kind, "id")
    if is_json(kind):
        return f"raw_json({access})"
    if id_kind is not None:
        made = f"entity_uuid({id_kind!r}, {access})"
    elif is_container(kind):
        made = f"encode({access})"
    elif is_moment(kind) and is_optional(kind):
        return f"(m if (m := {access}) is None or FIRST < m < LAST else None)"
    else:
        return access
    return f"(None if {access} is None else {made})" if is_optional(kind) else made


class RowCompiler:
    """Makes row functions for one event struct."""

    def __init__(self, event_type: str, struct: type[EventData], key: str) -> None:
        self._type = event_type
        self._key = key
        self._fields = field_types(struct)

    def cells(
        self, columns: Sequence[str], values: Mapping[str, Any], *, optional: bool = False
    ) -> Cells:
        """A function of (event, item) that gives the cells of ``columns``.

        With ``optional`` a column without a source is stated as NULL. Raises MappingError.
        """
        names = dict(_NAMES)
        parts = [self._expression(column, values, names, optional=optional) for column in columns]
        return compile_cells(parts, names)

    def key_cells(self, columns: Sequence[str]) -> Cells:
        """A function of (event, item) that gives a key to look rows up by, which has no NULL.

        Raises MappingError.
        """
        for column in columns:
            if column in self._fields and is_optional(self._fields[column]):
                raise MappingError(
                    f"{self._type}: Hydrate names {column!r}, which may be missing; name fields "
                    "that every event of the type has"
                )
        return self.cells(columns, {})

    def _expression(
        self, column: str, values: Mapping[str, Any], names: dict[str, Any], *, optional: bool
    ) -> str:
        value = values.get(column, Field(column))
        if isinstance(value, Attribute):
            return str(value.value)
        if isinstance(value, Field):
            return self._field(column, value.name, optional=optional)
        constant = f"constant_{column}"
        names[constant] = value
        return constant

    def _field(self, column: str, name: str, *, optional: bool) -> str:
        if name in self._fields:
            return _field_expression(name, self._fields[name], key=name == self._key)
        if optional:
            return "None"
        raise MappingError(
            f"{self._type}: column {column!r} has no source; the fields are "
            f"{', '.join(self._fields)}; name one with values={{{column!r}: Field(...)}}"
        )

    def id_and_text(self, name: str) -> Callable[[Event], tuple[str, str] | None]:
        """A function that gives the key and the text of the id field ``name``, None if unset."""
        if name not in self._fields:
            raise MappingError(f"{self._type}: Ref names {name!r}, which is not a field")
        kind = extra(self._fields[name], "id")
        if kind is None:
            raise MappingError(f"{self._type}: Ref names {name!r}, whose type is not an id")

        def pair(e: Event) -> tuple[str, str] | None:
            text = e.entity if name == self._key else getattr(e.data, name)
            return None if text is None else (entity_uuid(kind, text), text)

        return pair


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


def log_row(event_type: str, log: Log) -> Cells:
    """The row function of the generic history."""
    domain, limit, keep = log.domain, log.data_limit, log.keep

    def rows(events: Iterable[Event], _items: Iterable[Any]) -> list[Cell]:
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
