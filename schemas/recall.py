"""What a history keeps of its events: which column holds which part of them.

A generic history has the data as it was sent; a table of its own only what its columns say.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from penstock.schemas.event_type import EventType
from penstock.schemas.fields import field_types, struct_fields
from penstock.schemas.mapping import (
    Attribute,
    AuditLog,
    Computed,
    EventSpec,
    Field,
    History,
    Log,
    Upsert,
)
from penstock.schemas.rows import MappingError

_HEADER: Mapping[Attribute, str] = {
    Attribute.EVENT_ID: "event_id",
    Attribute.OCCURRED_AT: "occurred_at",
    Attribute.VERSION: "version",
    Attribute.ACTOR: "actor",
    Attribute.SOURCE: "source",
    Attribute.CORR: "corr",
    Attribute.CAUSE: "cause",
    Attribute.KEY_TEXT: "entity_id",
    Attribute.ENTITY: "entity_id",
    Attribute.PROJECT: "project_id",
}
_ALWAYS = (Attribute.ITEM, Attribute.INDEX, Attribute.OCCURRED_DAY)
"""Told by what is kept anyway: the list of the elements, and the time."""


class Recall(msgspec.Struct, frozen=True):
    """Where the history of one event type keeps the parts of an event.

    ``marks`` are the values of columns by which rows of this type are told from others of the
    table. ``attributes`` and ``fields`` name the column of each part that has one; where the data
    is ``whole``, every field is in the column ``data``, unless it is above ``limit`` bytes. ``key``
    is the column of the key field, None if there is none. ``complete`` is True if every row keeps
    every field.
    """

    table: str
    marks: Mapping[str, Any]
    attributes: Mapping[Attribute, str]
    fields: Mapping[str, str]
    key: str | None
    whole: bool
    complete: bool
    limit: int | None = None

    def keeps(self, source: Any, key: str) -> bool:
        """Whether what ``source`` says (see `Upsert.source`) can be read from every row; ``key`` is
        the type's key field.
        """
        if isinstance(source, Field):
            if source.name == key:
                return self.key is not None
            return (self.whole and self.limit is None) or source.name in self.fields
        if isinstance(source, Attribute) and source not in _ALWAYS:
            return source in self.attributes
        if isinstance(source, Computed):
            return self.complete
        return True

    def mistaken_for(self, other: "Recall") -> bool:
        """True if a row of the table might be of either type."""
        both = self.marks.keys() & other.marks.keys()
        return self.table == other.table and all(self.marks[n] == other.marks[n] for n in both)


def recall(spec: EventSpec) -> Recall | None:
    """Where its history keeps an event of the type; None without a history."""
    history = spec.history
    if history is None:
        return None
    if isinstance(history, History):
        return _of_columns(spec, history)
    own = {"domain": history.domain} if isinstance(history, Log) else {}
    limit = None if isinstance(history, AuditLog) else history.data_limit
    return Recall(
        table=history.table,
        marks={**own, "event_type": spec.name},
        attributes=_HEADER,
        fields={},
        key="entity_id",
        whole=True,
        complete=limit is None,
        limit=limit,
    )


def _of_columns(spec: EventSpec, history: History) -> Recall:
    attributes = {one: _HEADER[one] for one in (Attribute.EVENT_ID, Attribute.OCCURRED_AT)}
    fields: dict[str, str] = {}
    marks: dict[str, Any] = {}
    for column in history.columns:
        source = history.values.get(column, Field(column))
        if isinstance(source, Field):
            fields[source.name] = column
        elif isinstance(source, Attribute):
            attributes[source] = column
        elif source is not None and not isinstance(source, Computed):
            marks[column] = source
    complete = set(field_types(spec.struct)) <= set(fields)
    key = fields.pop(spec.key, None)
    return Recall(history.table, marks, attributes, fields, key, whole=False, complete=complete)


def check_sums(types: Collection[EventType]) -> None:
    """Raise MappingError if a sum could not be computed again from the history."""
    kept = {kind.name: found for kind in types if (found := recall(kind.spec)) is not None}
    for kind in types:
        for upsert in kind.spec.states:
            if upsert.add:
                _check_sum(kind.spec, upsert, kept)


def _check_sum(spec: EventSpec, upsert: Upsert, kept: Mapping[str, Recall]) -> None:
    own = kept[spec.name]
    for column, source in _needed(upsert):
        if not own.keeps(source, spec.key):
            clipped = own.whole and own.limit is not None
            remedy = "drop its data_limit" if clipped else _remedy(source)
            raise MappingError(
                f"{spec.name}: add needs {column!r} in the history {own.table}, to compute the sum "
                f"again if it is ever lost; {remedy}"
            )
    for name, other in kept.items():
        if name != spec.name and own.mistaken_for(other):
            raise MappingError(
                f"{spec.name}: add needs rows of the history {own.table} that are told from those "
                f"of {name}; give both a column with a value of their own, as values={{'what': "
                "...}} does"
            )


def _remedy(source: Any) -> str:
    every = isinstance(source, Computed)
    return "give it columns for all fields, or use Log" if every else "give it a column for that"


def _needed(upsert: Upsert) -> Iterator[tuple[str, Any]]:
    for column in (*upsert.key, *upsert.add):
        yield column, upsert.source(column)
    if upsert.each is not None:
        yield upsert.each, Field(upsert.each)


def fields_of(spec: EventSpec, upsert: Upsert, columns: Collection[str]) -> set[str]:
    """The fields that these columns are made of."""
    known = set(field_types(spec.struct))
    sources = [upsert.source(column) for column in columns]
    if any(isinstance(source, Computed) for source in sources):
        return known
    names = {source.name for source in sources if isinstance(source, Field)} & known
    return names if upsert.each is None else {*names, upsert.each}


class Loss(msgspec.Struct, frozen=True):
    """What rows of events of ``type`` need and the history does not keep. ``whole`` is True if no
    event of the type can be read back at all, ``some`` if most can, and others not at all.
    """

    type: str
    what: str
    whole: bool = False
    some: bool = False


def losses(spec: EventSpec) -> Iterator[Loss]:
    """What the history of the type cannot give back, as far as rows are made of it."""
    kept = recall(spec)
    if kept is None:
        yield Loss(spec.name, "it has no history", whole=True)
        return
    if kept.limit is not None:
        what = f"data above {kept.limit} bytes, unless it is what the state says"
        yield Loss(spec.name, what, some=True)
    fields = field_types(spec.struct)
    gone = [name for name in fields if not kept.keeps(Field(name), spec.key)]
    if kept.limit is None and (needed := [name for name in gone if _required(spec, name)]):
        yield Loss(spec.name, f"{', '.join(needed)}, without which it is no event", whole=True)
        return
    used = dict.fromkeys(source for upsert in spec.states for source in _stated(upsert))
    for source in used:
        if isinstance(source, Attribute) and not kept.keeps(source, spec.key):
            yield Loss(spec.name, _WHAT.get(source, source.name.lower()))
        elif isinstance(source, Field) and source.name in gone and kept.limit is None:
            yield Loss(spec.name, source.name)
        elif isinstance(source, Computed) and gone and kept.limit is None:
            what = f"what {source.make.__name__} makes of {', '.join(gone)}"
            yield Loss(spec.name, what)


_WHAT: Mapping[Attribute, str] = {
    Attribute.KEY_TEXT: "the text that its key was made from, unless the state says it",
    Attribute.VERSION: "the sequence, which decides what is newer",
    Attribute.PROJECT: "the project",
}


def _stated(upsert: Upsert) -> Iterator[Any]:
    for _, column in upsert.placed:
        yield upsert.source(column)
    if upsert.each is not None:
        yield Field(upsert.each)
    if upsert.last:
        yield Attribute.VERSION


def _required(spec: EventSpec, name: str) -> bool:
    return next(f for f in struct_fields(spec.struct) if f.name == name).required
