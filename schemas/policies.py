"""Columns, their policies and what they hold: what cannot converge, or fails on some events."""

from collections.abc import Mapping
from typing import Any

from msgspec import inspect

from penstock.schemas.fields import element, field_types, is_optional, labels, members, value_kind
from penstock.schemas.mapping import Attribute, Computed, EventSpec, Field, Item, Upsert
from penstock.schemas.rows import MappingError, returned


def source_type(
    spec: EventSpec, upsert: Upsert | None, column: str, source: Any
) -> inspect.Type | None:
    """The type of what ``source`` gives (see `Upsert.source`); None if it is no field's."""
    fields = field_types(spec.struct)
    if isinstance(source, Field):
        return fields.get(source.name)
    if isinstance(source, Computed):
        return returned(spec.name, column, source)
    listed = None if upsert is None or upsert.each is None else fields.get(upsert.each)
    inner = None if listed is None else element(listed)
    if inner is not None and isinstance(source, Item):
        return members(inner).get(source.name)
    return inner if source is Attribute.ITEM else None


def check_upsert(spec: EventSpec, upsert: Upsert) -> None:
    """Raise MappingError for what cannot converge, or fails on some events."""
    if upsert.add and spec.history is None:
        raise MappingError(f"{spec.name}: add needs a history that tells which events are new")
    for policy, column in upsert.placed:
        source = upsert.source(column)
        kind = source_type(spec, upsert, column, source)
        if policy == "rank":
            _check_rank(spec, upsert, column, kind)
        elif policy == "key" and isinstance(source, Item | Computed | Attribute):
            _check_key(spec, column, kind)
        if kind is not None and (problem := _UNFIT.get((policy, value_kind(kind)))):
            raise MappingError(f"{spec.name}: {column!r}: {problem}")


def _check_rank(spec: EventSpec, upsert: Upsert, column: str, kind: inspect.Type | None) -> None:
    order = upsert.rank[column]
    values = (upsert.source(column),) if kind is None else labels(kind)
    if not set(values) <= set(order):
        raise MappingError(
            f"{spec.name}: {column!r} has no rank for some values; a rank needs a required "
            f"field of an enumeration, and its values are {', '.join(map(str, values))}"
        )


def _check_key(spec: EventSpec, column: str, kind: inspect.Type | None) -> None:
    if kind is None:
        return
    if is_optional(kind):
        raise MappingError(f"{spec.name}: the key column {column!r} may be missing; require it")
    if value_kind(kind) == "moment":
        raise MappingError(
            f"{spec.name}: the key column {column!r} is a time that nobody compares with the "
            "partitions there are; take OCCURRED_AT, or a field of the event"
        )


_UNFIT: Mapping[tuple[str, str | None], str] = {
    ("add", "number"): "the sum of floats depends on their order; send integers, such as cents",
    ("max", "json"): "max needs a number, a time or a text",
    ("min", "json"): "min needs a number, a time or a text",
    ("key", "json"): "a key is an id, a text, a number or a day",
}
"""Policies and kinds of values that do not go together."""
