"""Which columns each event type writes, and what kinds of value: the database must have them."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from penstock.schemas.event_type import EventType
from penstock.schemas.fields import value_kind
from penstock.schemas.generic import LOG_COLUMNS, audit_sources
from penstock.schemas.mapping import Attribute, AuditLog, EventSpec, Field, History, Log, Upsert
from penstock.schemas.policies import source_type

_ATTRIBUTES: Mapping[Attribute, str] = {
    Attribute.OCCURRED_AT: "moment",
    Attribute.EVENT_ID: "id",
    Attribute.VERSION: "integer",
    Attribute.PROJECT: "id",
    Attribute.OCCURRED_DAY: "day",
    Attribute.INDEX: "integer",
}
_CONSTANTS: Mapping[type, str] = {bool: "boolean", int: "integer", float: "number"}
_GUARD = {"version": "integer", "at": "moment", "event": "id"}
_LOGGED = {
    "event_id": "id",
    "occurred_at": "moment",
    "version": "integer",
    "project_id": "id",
    "data": "json",
}


class Written(msgspec.Struct, frozen=True):
    """A column that events of one type write.

    ``policy`` is one of `penstock.schemas.mapping`, or "history", "key" or "guard"; ``kind`` is
    what values are: text, id, json, integer, number, boolean, moment, day, bytes, or None if that
    cannot be told or all are NULL.
    """

    table: str
    column: str
    policy: str
    kind: str | None


def written(kind: EventType) -> Iterator[Written]:
    """Every column that an event of the type writes."""
    spec = kind.spec
    if kind.history is not None:
        for column in kind.history.columns:
            found = _logged(spec, column)
            yield Written(kind.history.table, column, "history", found)
    for upsert, state in zip(spec.states, kind.states, strict=True):
        for policy, column in upsert.placed:
            found = source_kind(spec, upsert, column, upsert.source(column))
            yield Written(state.table, column, policy, found)
        for group, _ in state.groups:
            for column in group.guard:
                yield Written(state.table, column, "guard", _GUARD[column.rpartition("_")[2]])


def source_kind(spec: EventSpec, upsert: Upsert | None, column: str, source: Any) -> str | None:
    """What kind of value ``source``, which is given as in ``values``, has."""
    kind = source_type(spec, upsert, column, source)
    if kind is not None:
        return value_kind(kind)
    if isinstance(source, Attribute):
        return _ATTRIBUTES.get(source, "text")
    return "text" if isinstance(source, str) else _CONSTANTS.get(type(source))


def _logged(spec: EventSpec, column: str) -> str | None:
    history = spec.history
    if isinstance(history, AuditLog) and column not in LOG_COLUMNS:
        return source_kind(spec, None, column, audit_sources(spec, history)[column])
    if isinstance(history, Log | AuditLog):
        return _LOGGED.get(column, "text")
    assert isinstance(history, History)  # noqa: S101  (for mypy: there are three)
    own = {"event_id": Attribute.EVENT_ID, "occurred_at": Attribute.OCCURRED_AT}
    source = history.values.get(column, own.get(column, Field(column)))
    return source_kind(spec, None, column, source)
