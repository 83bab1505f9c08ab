"""Typed events to bytes: CloudEvents 1.0, structured mode, JSON.

msgspec does not check types when a struct is created, so everything is checked before it is sent.
"""

import os
import time as clock
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from math import isfinite
from typing import Any, TypedDict, Unpack
from uuid import UUID

import msgspec
from msgspec import Raw

from penstock.schemas.event import EventData
from penstock.schemas.identity import escape
from penstock.schemas.mapping import EventSpec
from penstock.worker.errors import PenstockError

_BIGGEST = 2**63 - 1
_TEXT_LIMIT = 255


class EventInvalid(PenstockError):
    """The event would become a dead letter. The text names the type, the field and the value."""


class Attributes(TypedDict, total=False):
    """CloudEvents attributes. Defaults: ``id`` is a new UUIDv7, ``time`` is now.

    ``sequence`` counts the changes of the entity, from 1; 0 if the producer does not count.
    """

    id: str
    time: datetime
    source: str
    sequence: int
    actor: str | None
    project: str | None
    correlationid: str | None
    causationid: str | None
    traceparent: str | None


def encode(event: EventData, **attributes: Unpack[Attributes]) -> bytes:
    """The event as JSON. ``id``, ``time`` and ``source`` are required. Raises EventInvalid."""
    spec = _spec(event)
    try:
        data = msgspec.json.encode(event)
        msgspec.json.decode(data, type=type(event))
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as exc:
        raise EventInvalid(f"{spec.name}: {exc}") from exc
    envelope: dict[str, Any] = {
        "specversion": "1.0",
        "type": spec.name,
        "subject": getattr(event, spec.key),
        "datacontenttype": "application/json",
        **{name: value for name, value in attributes.items() if value is not None},
        "data": _data(event, spec),
    }
    _check_attributes(spec, envelope)
    try:
        body = msgspec.json.encode(envelope)
    except (ValueError, OverflowError) as exc:
        raise EventInvalid(f"{spec.name}: {exc}") from exc
    if b"\\u0000" in body or b"null" in body:
        _check_leaves(spec.name, envelope)
    return body


def subject_of(event: EventData) -> str:
    """The bus subject: ``domain.key.verb``. Raises EventInvalid."""
    spec = _spec(event)
    key = getattr(event, spec.key)
    if not isinstance(key, str):
        raise EventInvalid(f"{spec.name}: {spec.key} must be text, got {key!r}")
    return f"{spec.domain}.{escape(key)}.{spec.verb}"


def uuid7() -> str:
    """A UUID that sorts by time: RFC 9562, section 5.7, with method 3 of section 6.2.

    48 bits of Unix milliseconds, 12 bits of their fraction, 62 random bits.
    """
    milliseconds, rest = divmod(clock.time_ns(), 1_000_000)
    fraction = (rest << 12) // 1_000_000
    random = int.from_bytes(os.urandom(8)) >> 2
    return str(UUID(int=milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | random))


def now() -> datetime:
    """The current time, in UTC."""
    return datetime.now(UTC)


def _data(event: EventData, spec: EventSpec) -> dict[str, Any]:
    """The fields that go into ``data``: without the key, and without fields that are None by
    default and have that value.
    """
    values = ((name, getattr(event, name)) for name in event.__struct_fields__)
    optional = _optional(type(event))
    return {
        name: value
        for name, value in values
        if name != spec.key and (value is not None or name not in optional)
    }


@cache
def _optional(struct: type[EventData]) -> frozenset[str]:
    return frozenset(f.name for f in msgspec.structs.fields(struct) if f.default is None)


def _spec(event: EventData) -> EventSpec:
    found = getattr(event, "spec", None)
    if not isinstance(found, EventSpec):
        raise EventInvalid(f"{type(event).__name__} is not an event: decorate it with @event")
    return found


def _check_attributes(spec: EventSpec, envelope: dict[str, Any]) -> None:
    time, sequence = envelope["time"], envelope.get("sequence", 0)
    if not isinstance(time, datetime) or time.tzinfo is None:
        raise EventInvalid(f"{spec.name}: time must have a UTC offset, got {time!r}")
    if not isinstance(sequence, int) or not 0 <= sequence <= _BIGGEST:
        raise EventInvalid(f"{spec.name}: sequence must be in 0..{_BIGGEST}, got {sequence!r}")
    if not sequence and getattr(spec.struct, "requires_sequence", False):
        raise EventInvalid(f"{spec.name}: sequence must be 1 or more; it orders the changes")
    for name, limit in (("id", _TEXT_LIMIT), ("source", 4 * 256)):
        if not isinstance(envelope[name], str) or not 1 <= len(envelope[name]) <= limit:
            raise EventInvalid(f"{spec.name}: {name} must be a text of 1 to {limit} characters")
    for name in ("actor", "project", "correlationid", "causationid", "traceparent"):
        text = envelope.get(name, "")
        if not isinstance(text, str) or len(text) > _TEXT_LIMIT:
            raise EventInvalid(f"{spec.name}: {name} must be a text of {_TEXT_LIMIT} characters")


def _check_leaves(name: str, envelope: dict[str, Any]) -> None:
    """Refuse NUL, which PostgreSQL cannot store, and NaN, which msgspec writes as null."""
    for path, found in _leaves(msgspec.to_builtins(envelope, enc_hook=_document)):
        if isinstance(found, str) and "\0" in found:
            raise EventInvalid(f"{name}: {path} contains the character NUL")
        if isinstance(found, float) and not isfinite(found):
            raise EventInvalid(f"{name}: {path} is {found}, which JSON cannot represent")


def _document(raw: Raw) -> Any:
    """JSON that goes out as it is; it has no NaN, and is decoded only where it may have a NUL."""
    return msgspec.json.decode(raw) if b"\\u0000" in bytes(raw) else None


def _leaves(document: Any) -> Iterator[tuple[str, Any]]:
    """Every key and scalar with its path, without recursion."""
    waiting = [("$", document)]
    while waiting:
        path, found = waiting.pop()
        if isinstance(found, dict):
            waiting.extend((f"{path}.{key}", value) for key, value in found.items())
            yield from ((path, key) for key in found)
        elif isinstance(found, list):
            waiting.extend((f"{path}[{index}]", value) for index, value in enumerate(found))
        else:
            yield path, found
