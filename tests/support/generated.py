"""Valid events of every type in the catalogue, made from the types of their fields.

Every declared type is covered, including a user's own. All choices come from one ``Random``, which
Hypothesis may control.
"""

import contextlib
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import inspect

from penstock.schemas.event_type import EventType
from penstock.schemas.fields import field_types, is_json
from penstock.schemas.identity import escape
from penstock.worker.pipeline.ports import Message
from tests.support.patterns import matching

WORDS = ("alpha", "beta", "a b", "gämma", "=2E", "x.y", "*", ">", "..")
DOCUMENTS: tuple[Any, ...] = (None, 1, "text", [1, 2], {"a": {"b": [True, None]}}, {"ü": 1.5})

ADDRESSES = ("192.0.2.7", "::1", "2001:db8::a", "::ffff:192.0.2.7")
_WITH_PROJECT = 0.3
_TRIES = 200


class EventMaker:
    """Makes events about ``entities``, in a span of ``seconds`` that begins an hour ago.

    That is recent enough for every table's window.
    """

    def __init__(self, rng: random.Random, entities: Sequence[str], seconds: int) -> None:
        self._rng = rng
        self._start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
        self._entities = entities
        self._seconds = seconds

    def message(self, kind: EventType, number: int) -> Message:
        """A message with a valid event of type ``kind``; ``number`` makes its id unique."""
        entity = self._entity(kind)
        body = {
            "specversion": "1.0",
            "id": str(UUID(int=(self._rng.randrange(8) << 64) + number)),
            "source": "/agents/a-1",
            "type": kind.name,
            "subject": entity,
            "time": self._moment(),
            "sequence": self._rng.randint(1, 4),
            "data": self._data(kind),
        }
        if self._rng.random() < _WITH_PROJECT:
            body["project"] = self._rng.choice(self._entities)
        subject = f"{kind.prefix}{escape(entity)}{kind.suffix}"
        return Message(subject=subject, body=msgspec.json.encode(body))

    def _entity(self, kind: EventType) -> str:
        """One of the entities, or where keys have a shape, a text of it that stands for one."""
        entity = self._rng.choice(self._entities)
        key = field_types(kind.spec.struct)[kind.spec.key]
        if isinstance(key, inspect.StrType) and key.pattern:
            return matching(key.pattern, random.Random(entity))
        return entity

    def _data(self, kind: EventType) -> dict[str, Any]:
        """Data that the type takes, its own rules included."""
        types = field_types(kind.spec.struct)
        for _ in range(_TRIES):
            data = {n: self._value(t) for n, t in types.items() if n != kind.spec.key}
            with contextlib.suppress(msgspec.ValidationError):
                kind.decode(msgspec.json.encode(data))
                return data
        raise AssertionError(f"{kind.name}: no data found that its rule takes")

    def _moment(self) -> str:
        return (self._start + timedelta(seconds=self._rng.randrange(self._seconds))).isoformat()

    def _value(self, kind: inspect.Type) -> Any:
        if isinstance(kind, inspect.Metadata):
            extra = kind.extra or {}
            if "json" in extra:
                return self._rng.choice(DOCUMENTS)
            if "id" in extra and not (isinstance(kind.type, inspect.StrType) and kind.type.pattern):
                return self._rng.choice(self._entities)
            if extra.get("sql") == "inet":
                return self._rng.choice(ADDRESSES)
            return self._value(kind.type)
        if isinstance(kind, inspect.UnionType):
            return self._value(self._rng.choice(kind.types))
        return self._plain(kind)

    def _plain(self, kind: inspect.Type) -> Any:  # noqa: C901, PLR0911  (a table of cases)
        match kind:
            case inspect.NoneType():
                return None
            case inspect.BoolType():
                return self._rng.random() < 0.5
            case inspect.EnumType():
                return self._rng.choice([member.value for member in kind.cls])
            case inspect.DateTimeType():
                return self._moment()
            case inspect.IntType():
                low = max(-5, -5 if kind.ge is None else kind.ge)
                return self._rng.randint(low, min(low + 7, low + 7 if kind.le is None else kind.le))
            case inspect.FloatType():
                return self._rng.choice([0.0, 0.25, 1.0])
            case inspect.StrType():
                return self._text(kind)
            case inspect.ListType():
                least = kind.min_length or 0
                return self._list(kind.item_type, self._rng.randint(least, least + 2))
            case inspect.BytesType():
                return self._rng.choice(["", "AA==", "//8="])
            case inspect.StructType():
                return {field.encode_name: self._value(field.type) for field in kind.fields}
            case inspect.DictType():
                return {
                    self._value(kind.key_type): self._value(kind.value_type)
                    for _ in range(self._rng.randrange(3))
                }
        raise AssertionError(f"no value for {kind}")

    def _text(self, kind: inspect.StrType) -> str:
        return matching(kind.pattern, self._rng) if kind.pattern else self._rng.choice(WORDS)

    def _list(self, kind: inspect.Type, length: int) -> list[Any]:
        made = [self._value(kind) for _ in range(length)]
        alike = isinstance(kind, inspect.StructType) or is_json(kind)
        return made if alike else list(dict.fromkeys(made))
