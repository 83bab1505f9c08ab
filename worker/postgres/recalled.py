"""Rows of a history as the messages that they came from."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
from msgspec import Raw

from penstock.schemas.event import Event
from penstock.schemas.event_type import EventType
from penstock.schemas.fields import field_types, is_optional, value_kind
from penstock.schemas.identity import escape
from penstock.schemas.mapping import Attribute, Field, Upsert
from penstock.schemas.recall import Recall, recall
from penstock.worker.pipeline.ports import Message
from penstock.worker.postgres.statements import ColumnTypes, quoted
from penstock.worker.postgres.transaction import Connection
from penstock.worker.replay.standing import Piece, Place

TEXT = '"#"'
"""The column of a page that has the text which a key was made from, if a state says it."""

_HEADER: Mapping[Attribute, str] = {
    Attribute.SOURCE: "source",
    Attribute.VERSION: "sequence",
    Attribute.ACTOR: "actor",
    Attribute.CORR: "correlationid",
    Attribute.CAUSE: "causationid",
    Attribute.PROJECT: "project",
}
_NOWHERE = "/penstock/history"
"""The source of an event whose history does not keep it; no row needs it then."""


class Remembered(Message, kw_only=True):
    """An event of a history. ``stored`` is its data as the history keeps it, if that may not be
    the whole; ``place`` is where it stands there, ``piece`` what it was read with.
    """

    place: Place
    piece: Piece | None = None
    stored: bytes | None = None

    @property
    def mark(self) -> Any:
        return self.place


class Recalled:
    """Events of one type, out of rows of their history."""

    def __init__(self, kind: EventType, kept: Recall) -> None:
        self.kind = kind
        self.kept = kept
        self.whole_of = next(filter(None, map(self._whole_of, kind.spec.states)), None)
        self._types = field_types(kind.spec.struct)
        self._marks = {name: str(value) for name, value in kept.marks.items()}

    @classmethod
    def of(cls, kind: EventType) -> "Recalled | None":
        """None if the type has no history."""
        kept = recall(kind.spec)
        return None if kept is None else cls(kind, kept)

    def is_of(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of the table is of this type."""
        return all(str(row[name]) == value for name, value in self._marks.items())

    @property
    def text(self) -> str | None:
        """An expression for the text that the key ``h.<key>`` was made from, by the state."""
        for upsert in self.kind.spec.states:
            for _, column in upsert.placed:
                if upsert.source(column) is Attribute.KEY_TEXT and self._keyed(upsert):
                    return (
                        f"(SELECT s.{quoted(column)} FROM {quoted(upsert.table)} AS s "
                        f"WHERE s.{quoted(upsert.key[0])} = h.{quoted(self.kept.key or '')})"
                    )
        return None

    def _keyed(self, upsert: Upsert) -> bool:
        fields = [upsert.source(column) for column in upsert.key]
        return not self.kept.whole and fields == [Field(self.kind.spec.key)]

    def message(self, row: Mapping[str, Any], data: bytes, place: Place) -> Remembered:
        """The message that ``row`` came from, with ``data``."""
        kept, kind = self.kept, self.kind
        entity = row.get("#") or row[kept.key or ""]
        attributes = {
            name: row[kept.attributes[one]]
            for one, name in _HEADER.items()
            if one in kept.attributes and row[kept.attributes[one]] is not None
        }
        envelope = {
            "specversion": "1.0",
            "id": row["event_id"],
            "type": kind.name,
            "subject": str(entity),
            "time": row["occurred_at"],
            "source": _NOWHERE,
            **attributes,
            "data": Raw(data),
        }
        return Remembered(
            subject=f"{kind.prefix}{escape(str(entity))}{kind.suffix}",
            body=msgspec.json.encode(envelope),
            place=place,
            stored=None if kept.limit is None else msgspec.json.format(row["data"], indent=-1),
        )

    def data(self, row: Mapping[str, Any]) -> bytes | None:
        """The data as a row keeps it; None if it does not keep the whole."""
        if not self.kept.whole:
            return msgspec.json.encode(self._fields(row), enc_hook=str)  # an address
        text: bytes | None = row["data"]
        if text is None or (self.kept.limit is not None and _clipped(text)):
            return None
        return text

    def _fields(self, row: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, column in self.kept.fields.items():
            value = row[column]
            if value is not None:
                found[name] = Raw(value) if value_kind(self._types[name]) == "json" else value
            elif is_optional(self._types[name]):
                found[name] = None
        return found

    def _whole_of(self, upsert: Upsert) -> "WholeOf | None":
        """What of the data a state keeps that says the event's id."""
        if self.kept.limit is None or not upsert.last:
            return None
        position = self.kind.spec.states.index(upsert)
        fields = {
            source.name: column
            for column in upsert.last
            if isinstance(source := upsert.source(column), Field)
        }
        return WholeOf(self.kind, position, fields)


class WholeOf:
    """Data of events above the limit of their history, as far as the state that they left says it:
    ``fields`` are in the columns of the state that is at ``position`` in the type.
    """

    def __init__(self, kind: EventType, position: int, fields: Mapping[str, str]) -> None:
        self._kind = kind
        self._state = kind.states[position]
        self._fields = {n: c for n, c in fields.items() if n in kind.fields}
        group = next(group for group, _ in self._state.groups if group.kind == "last")
        self._event = group.guard[2]
        self.table = self._state.table

    async def read(
        self, connection: Connection, rows: Sequence[Mapping[str, Any]], types: ColumnTypes
    ) -> dict[str, bytes]:
        """The data by event id, of those that the state says. Raises the driver's errors."""
        kept = {str(row["event_id"]): _kept(row["data"]) for row in rows}
        keys = [self._state.key(_bare(self._kind, row), None) for row in rows]
        columns = self._state.key_columns
        arrays = ", ".join(f"${n}::{types[c]}[]" for n, c in enumerate(columns, start=1))
        names, values = ", ".join(map(quoted, columns)), list(self._fields.values())
        found = await connection.fetch(
            f"SELECT {quoted(self._event)}::text, {', '.join(map(quoted, values))} "
            f"FROM {quoted(self._state.table)} WHERE ({names}) IN (SELECT * FROM unnest({arrays})) "
            f"AND {quoted(self._event)}::text = ANY (${len(columns) + 1}::text[])",
            *zip(*keys, strict=True),
            list(kept),
        )
        return {
            event_id: msgspec.json.encode({**self._stated(cells), **kept[event_id]})
            for event_id, *cells in found
        }

    def _stated(self, cells: Sequence[Any]) -> dict[str, Any]:
        types = field_types(self._kind.spec.struct)
        return {
            name: Raw(cell) if value_kind(types[name]) == "json" and cell is not None else cell
            for name, cell in zip(self._fields, cells, strict=True)
        }


def _clipped(data: bytes) -> bool:
    """Whether `penstock.schemas.rows.clipped` left something out."""
    omitted = msgspec.json.decode(data, type=dict[str, Raw]).get("omitted")
    if omitted is None:
        return False
    found = msgspec.json.decode(omitted)
    return isinstance(found, dict) and found.keys() == {"bytes", "sha256"}


def _kept(data: bytes) -> dict[str, Raw]:
    fields = msgspec.json.decode(data, type=dict[str, Raw])
    return {name: value for name, value in fields.items() if name != "omitted"}


def _bare(kind: EventType, row: Mapping[str, Any]) -> Event:
    """An event with nothing but what its history keeps, to make a key of."""
    data = SimpleNamespace(**{n: msgspec.json.decode(v) for n, v in _kept(row["data"]).items()})
    event_id, entity, source = str(row["event_id"]), row["entity_id"], row["source"]
    return Event(
        kind, event_id, row["occurred_at"], entity, 0, source, None, None, None, None, data, Raw()
    )
