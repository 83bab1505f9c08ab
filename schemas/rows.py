"""From a declaration to a function that makes the tuple of a row.

Rows are made once per event, so the functions are generated as source text, as the standard
library's dataclasses are: one expression per column, no dispatch while they run.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, get_type_hints

import msgspec
from msgspec import Raw, inspect

from penstock.schemas.cells import Cells, Column, compile_cells
from penstock.schemas.event import Event, EventData
from penstock.schemas.fields import (
    element,
    extra,
    field_types,
    is_container,
    is_json,
    is_moment,
    is_optional,
    members,
)
from penstock.schemas.identity import entity_uuid, entity_uuids, key_texts
from penstock.schemas.mapping import Attribute, Computed, Field, Item, Upsert

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
"""The ends of the calendar. Runtimes write them where they mean that there is no time (Go's zero
time, .NET's ``MinValue`` and ``MaxValue``), so an optional time there is stored as NULL; the driver
of PostgreSQL would make infinities of them.
"""

_NULL = b"null"


class MappingError(Exception):
    """A declaration does not fit its struct. The message names the event type and the column."""


def raw_json(value: Raw) -> bytes | None:
    """A JSON document as sent; ``null`` becomes SQL's NULL."""
    text = bytes(value)
    return None if text == _NULL or not text else text


def encoded(value: Any) -> bytes | None:
    """Any JSON that was decoded within a list; ``None`` becomes SQL's NULL."""
    return None if value is None else msgspec.json.encode(value)


def day(moment: datetime) -> date:
    """The day in UTC."""
    return moment.astimezone(UTC).date()


_NAMES: dict[str, Any] = {
    "day": day,
    "encoded": encoded,
    "FIRST": FIRST,
    "LAST": LAST,
    "entity_uuid": entity_uuid,
    "raw_json": raw_json,
    "encode": msgspec.json.encode,
}


class Items(msgspec.Struct, frozen=True):
    """What a fan-out goes over: the elements of the list ``field``, whose type is ``kind``; with
    ``indexed`` each comes as the pair of its place and itself.
    """

    field: str
    kind: inspect.Type
    indexed: bool

    @property
    def access(self) -> str:
        """The element, in the text of a row function."""
        return "item[1]" if self.indexed else "item"

    def of(self, e: Event) -> Sequence[Any]:
        """The elements that an event has; none where the list is not there."""
        found: Sequence[Any] = getattr(e.data, self.field) or ()
        return list(enumerate(found)) if self.indexed else found


def _made(access: str, kind: inspect.Type) -> str:
    """The cell for a value of this type, JSON documents aside."""
    id_kind = extra(kind, "id")
    if id_kind is not None:
        made = f"entity_uuid({id_kind!r}, {access})"
    elif is_container(kind):
        made = _list_of_ids(access, kind) or f"encode({access})"
    elif is_moment(kind) and is_optional(kind):
        return f"(m if (m := {access}) is None or FIRST < m < LAST else None)"
    else:
        return access
    return f"(None if {access} is None else {made})" if is_optional(kind) else made


def _list_of_ids(access: str, kind: inspect.Type) -> str | None:
    """A list of ids as that of their keys."""
    inner = element(kind)
    id_kind = None if inner is None else extra(inner, "id")
    if id_kind is None:
        return None
    keys = f"entity_uuid({id_kind!r}, i)"
    if inner is not None and is_optional(inner):
        keys = f"None if i is None else {keys}"
    return f"encode([{keys} for i in {access}])"


def _within(access: str, kind: inspect.Type) -> str:
    """The cell for a value within a list, or a computed one, where JSON is decoded."""
    return f"encoded({access})" if is_json(kind) else _made(access, kind)


class RowCompiler:
    """Makes row functions for one event struct."""

    def __init__(self, event_type: str, struct: type[EventData], key: str) -> None:
        self._type = event_type
        self._key = key
        self._fields = field_types(struct)

    def cells(
        self,
        columns: Sequence[str],
        values: Mapping[str, Any],
        *,
        items: Items | None = None,
        optional: bool = False,
    ) -> Cells:
        """A function of (event, item) that gives the cells of ``columns``.

        With ``optional`` a column without a source is stated as NULL. Raises MappingError.
        """
        names = dict(_NAMES)
        parts = [
            self._expression(column, values.get(column, Field(column)), names, items)
            or self._without(column, optional=optional)
            for column in columns
        ]
        return compile_cells(parts, names)

    def state_cells(
        self, upsert: Upsert, columns: Sequence[str], *, optional: bool = False
    ) -> Cells:
        """`cells` for columns of a row that the event changes. Raises MappingError."""
        items = self.items(upsert)
        return self.cells(columns, upsert.values, items=items, optional=optional)

    def items(self, upsert: Upsert) -> Items | None:
        """What the upsert fans out over, if it does. Raises MappingError."""
        if upsert.each is None:
            return None
        if upsert.each not in self._fields or upsert.each == self._key:
            raise MappingError(f"{self._type}: each={upsert.each!r} is not a field of the data")
        kind = element(self._fields[upsert.each])
        if kind is None:
            raise MappingError(f"{self._type}: each={upsert.each!r} is not a list")
        return Items(upsert.each, kind, Attribute.INDEX in upsert.values.values())

    def key_cells(self, columns: Sequence[str]) -> Cells:
        """A function of (event, item) that gives a key to look rows up by, which has no NULL.

        Raises MappingError.
        """
        for column in columns:
            if column in self._fields and is_optional(self._fields[column]):
                raise MappingError(
                    f"{self._type}: Hydrate or Derive names {column!r}, which may be missing; name "
                    "fields that every event of the type has"
                )
        return self.cells(columns, {})

    def _expression(
        self, column: str, value: Any, names: dict[str, Any], items: Items | None
    ) -> str | Column | None:
        """The cell of ``column``; None if its field is none of the struct's."""
        if value is Attribute.ITEM or value is Attribute.INDEX or isinstance(value, Item):
            return self._of_item(column, value, items)
        if value is Attribute.KEY_TEXT:
            return Column(key_texts, Attribute.ENTITY.value)
        if isinstance(value, Attribute):
            return str(value.value)
        if isinstance(value, Computed):
            return self._computed(column, value, names)
        if isinstance(value, Field):
            return self._field(value.name)
        constant = f"constant_{column}"
        names[constant] = value
        return constant

    def _of_item(self, column: str, value: Attribute | Item, items: Items | None) -> str:
        if items is None:
            raise MappingError(
                f"{self._type}: column {column!r} comes from the elements of a list; name the list "
                "with each=, in an Upsert"
            )
        if isinstance(value, Item):
            fields = members(items.kind)
            if value.name not in fields:
                raise MappingError(
                    f"{self._type}: column {column!r} is Item({value.name!r}), which the elements "
                    f"of {items.field!r} do not have; they have {', '.join(fields) or 'no fields'}"
                )
            return _within(f"{items.access}.{value.name}", fields[value.name])
        return str(value.value) if value is Attribute.INDEX else _within(items.access, items.kind)

    def _computed(self, column: str, value: Computed, names: dict[str, Any]) -> str:
        kind, made = returned(self._type, column, value), f"computed_{column}"
        names[made] = value.make
        plain = _within("c", kind)
        if plain == "c":
            return f"{made}(e)"
        names[f"cell_{column}"] = eval(f"lambda c: {plain}", names)  # noqa: S307  (as in cells)
        return f"cell_{column}({made}(e))"

    def _field(self, name: str) -> str | Column | None:
        if name not in self._fields:
            return None
        access, kind = "e.entity" if name == self._key else f"d.{name}", self._fields[name]
        if (id_kind := extra(kind, "id")) is not None and not is_optional(kind):
            return Column(partial(entity_uuids, id_kind), access)
        return f"raw_json({access})" if is_json(kind) else _made(access, kind)

    def _without(self, column: str, *, optional: bool) -> str:
        if optional:
            return "None"
        raise MappingError(
            f"{self._type}: column {column!r} has no source; the fields are "
            f"{', '.join(self._fields)}; name one with values={{{column!r}: Field(...)}}"
        )


def returned(event_type: str, column: str, value: Computed) -> inspect.Type:
    """The type that a computed value is annotated with. Raises MappingError."""
    make = value.make
    try:
        found = get_type_hints(make, include_extras=True)["return"]
    except (KeyError, TypeError, NameError) as exc:
        raise MappingError(
            f"{event_type}: column {column!r} is Computed by {make!r}, which does not say what it "
            "returns; annotate it, as a field of the struct would be"
        ) from exc
    return inspect.type_info(found)


def is_given(value: Any) -> bool:
    """Whether a document says anything, as it travels or as a producer states it."""
    return (raw_json(value) if isinstance(value, Raw) else value) is not None
