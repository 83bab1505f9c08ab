"""Events read back from their history, as far as it keeps them."""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any, get_type_hints

import asyncpg
import msgspec
from msgspec import Raw

from penstock.schemas.event import Event
from penstock.schemas.event_type import EventType
from penstock.schemas.fields import field_types, is_json, value_kind
from penstock.schemas.mapping import Attribute
from penstock.schemas.recall import recall
from penstock.schemas.wire import wire_struct
from penstock.worker.postgres.statements import quoted

_NOTHING = Raw(b"null")
_KEYS = (Attribute.KEY_TEXT, Attribute.ENTITY)


class Past:
    """The events of one type that has a history, with no more than the fields ``wanted``, each of
    which the history must keep; of those that happened since ``since``, if given.
    """

    def __init__(
        self, kind: EventType, wanted: Collection[str], since: datetime | None = None
    ) -> None:
        found = recall(kind.spec)
        assert found is not None  # noqa: S101  (the caller knows that it has a history)
        self._kind = kind
        self._recall = found
        self._since = since
        self._wanted = sorted(set(wanted) - {kind.spec.key})
        self._read = self._whole() if found.whole else self._columns()

    async def chunks(self, connection: Any, size: int) -> AsyncIterator[Sequence[Event]]:
        """All events, up to ``size`` at a time, in no order, within a transaction of the caller's.
        Raises the driver's errors.
        """
        given = (self._since, *map(_text, self._recall.marks.values()))
        cursor = await connection.cursor(self._statement(), *given)
        while rows := await cursor.fetch(size):
            yield list(self._events(rows))

    def _events(self, rows: Sequence[asyncpg.Record]) -> Iterable[Event]:
        return map(self._event, rows)

    def _statement(self) -> str:
        recall = self._recall
        attributes = [f"{quoted(recall.attributes[one])}" for one in self._attributes]
        key = f"{quoted(recall.key)}::text" if recall.key else "''"
        fields = ["data"] if recall.whole else [self._field(name) for name in self._wanted]
        marks = [f"{quoted(name)}::text = ${n}" for n, name in enumerate(recall.marks, start=2)]
        since = "($1::timestamptz IS NULL OR occurred_at >= $1)"
        return (
            f"SELECT {', '.join([key, *attributes, *fields])} FROM {quoted(recall.table)} "
            f"WHERE {' AND '.join([since, *marks])}"
        )

    @property
    def _attributes(self) -> Sequence[Attribute]:
        return [one for one in self._recall.attributes if one not in _KEYS]

    def _field(self, name: str) -> str:
        column = quoted(self._recall.fields[name])
        kind = value_kind(field_types(self._kind.spec.struct)[name])
        return f"{column}::text" if kind in ("id", "text") else column

    def _event(self, row: asyncpg.Record) -> Event:
        key, cells = row[0], row[1:]
        held = dict(zip(self._attributes, cells, strict=False))
        moment: datetime = held[Attribute.OCCURRED_AT]
        return Event(
            self._kind,
            str(held[Attribute.EVENT_ID]),
            moment,
            key,
            held.get(Attribute.VERSION) or 0,
            held.get(Attribute.SOURCE) or "",
            held.get(Attribute.ACTOR),
            held.get(Attribute.PROJECT) and str(held[Attribute.PROJECT]),
            held.get(Attribute.CORR),
            held.get(Attribute.CAUSE),
            self._read(cells[len(held) :]),
            _NOTHING,
        )

    def _whole(self) -> Callable[[Sequence[Any]], Any]:
        """Of the data as it was sent only the fields that are wanted: others may have changed."""
        struct = wire_struct(self._kind.spec.struct, self._kind.spec.key, self._wanted)
        decode = msgspec.json.Decoder(struct).decode
        return lambda cells: decode(cells[0])

    def _columns(self) -> Callable[[Sequence[Any]], Any]:
        """Of columns: documents undecoded, lists with their elements, as the decoder gives them."""
        struct = self._kind.spec.struct
        kinds, hints = field_types(struct), get_type_hints(struct, include_extras=True)
        readers = [
            Raw
            if is_json(kinds[name])
            else msgspec.json.Decoder(hints[name]).decode
            if value_kind(kinds[name]) == "json"
            else _as_it_is
            for name in self._wanted
        ]

        def read(cells: Sequence[Any]) -> Any:
            found = zip(self._wanted, readers, cells, strict=True)
            return SimpleNamespace(
                **{name: None if cell is None else made(cell) for name, made, cell in found}
            )

        return read


def _as_it_is(cell: Any) -> Any:
    return cell


def _text(mark: Any) -> str:
    """A constant of the mapping as PostgreSQL writes it."""
    return str(mark).lower() if isinstance(mark, bool) else str(mark)
