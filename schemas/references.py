"""Which rows of other tables an event refers to, by its `Ref`s."""

from collections.abc import Callable, Iterator
from typing import Any

from msgspec import inspect

from penstock.schemas.event import Event
from penstock.schemas.fields import element, extra, field_types, members
from penstock.schemas.identity import entity_uuid
from penstock.schemas.mapping import Attribute, EventSpec, Field, Item, Ref, Upsert
from penstock.schemas.rows import MappingError

Parent = tuple[str, str]
"""The key of a row that is referred to, and the text that it was made from."""

One = Callable[[Event], Parent | None]
Several = Callable[[Event], list[Parent]]


def compile_references(
    spec: EventSpec,
) -> tuple[tuple[tuple[str, One], ...], tuple[tuple[str, Several], ...]]:
    """For each table the function that gives its parent, and for those that a list refers to the
    function that gives several. Raises MappingError.
    """
    fields = field_types(spec.struct)
    ones: list[tuple[str, One]] = []
    several: list[tuple[str, Several]] = []
    for ref in spec.refs:
        name, _, part = ref.field.partition(".")
        if name not in fields:
            raise MappingError(f"{spec.name}: Ref names {ref.field!r}, which is not a field")
        inner = element(fields[name])
        if inner is not None:
            several.append((ref.table, _several(spec, ref, inner)))
        elif part:
            raise MappingError(f"{spec.name}: Ref names {ref.field!r}, but {name!r} is not a list")
        else:
            ones.append((ref.table, _one(spec, ref, fields[name])))
    return tuple(ones), tuple(several)


def _id_kind(spec: EventSpec, ref: Ref, kind: inspect.Type) -> str:
    found = extra(kind, "id")
    if found is None:
        raise MappingError(f"{spec.name}: Ref names {ref.field!r}, whose type is not an id")
    return str(found)


def _one(spec: EventSpec, ref: Ref, kind: inspect.Type) -> One:
    name, id_kind, is_key = ref.field, _id_kind(spec, ref, kind), ref.field == spec.key

    def parent(e: Event) -> Parent | None:
        text = e.entity if is_key else getattr(e.data, name)
        return None if text is None else (entity_uuid(id_kind, text), text)

    return parent


def _several(spec: EventSpec, ref: Ref, inner: inspect.Type) -> Several:
    name, _, part = ref.field.partition(".")
    fields = members(inner)
    if part and part not in fields:
        raise MappingError(
            f"{spec.name}: Ref names {ref.field!r}, but the elements of {name!r} have "
            f"{', '.join(fields) or 'no fields'}"
        )
    id_kind = _id_kind(spec, ref, fields[part] if part else inner)

    def parents(e: Event) -> list[Parent]:
        elements = getattr(e.data, name) or ()
        texts = [getattr(one, part) for one in elements] if part else elements
        return [(entity_uuid(id_kind, text), text) for text in texts if text is not None]

    return parents


def named(upsert: Upsert, source: Any) -> str | None:
    """How a `Ref` names what ``source`` (see `Upsert.source`) gives; None if it cannot."""
    if isinstance(source, Item):
        return f"{upsert.each}.{source.name}"
    if source is Attribute.ITEM:
        return upsert.each
    return source.name if isinstance(source, Field) else None


def parents_of(spec: EventSpec, upsert: Upsert) -> Iterator[str]:
    """The other tables that a row of the upsert refers to, as far as it is declared."""
    stated = {named(upsert, upsert.source(column)) for _, column in upsert.placed}
    for ref in spec.refs:
        if ref.table != upsert.table and ref.field in stated:
            yield ref.table
