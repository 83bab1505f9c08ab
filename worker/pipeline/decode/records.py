"""From a body to an event in one pass of msgspec: a struct that is the event and its envelope.

An event type gets a subclass of `Event` whose fields carry the names and the bounds of `Envelope`,
with the typed data inside. Where the history keeps the data as sent, it is decoded in a second
pass. Whatever does not fit raises one of msgspec's errors; what fits is not yet an event that may
be stored: `decode.decoder` checks the rest, for many at once.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import NODEFAULT, Meta, Raw

from penstock.schemas.event import Envelope, Event
from penstock.schemas.event_type import EventType
from penstock.schemas.wire import strict, wire_struct
from penstock.worker.pipeline.decode.reading import UNKEPT

Read = Callable[[bytes], Event]
"""Reads a body. Raises ValueError or RecursionError."""

_SENT_AS = {
    "entity": "subject",
    "version": "sequence",
    "corr": "correlationid",
    "cause": "causationid",
}
"""The attributes that an event has under another name."""

_NEVER_SENT = Annotated[int, Meta(ge=1, le=0)]
"""No JSON fits: such a field has its default, or the body is left to the careful way."""

_ENVELOPE = {
    field.name: (get_type_hints(Envelope, include_extras=True)[field.name], field.default)
    for field in msgspec.structs.fields(Envelope)
}
_set = msgspec.structs.force_setattr


def restate(event: Event, **attributes: Any) -> None:
    """Write attributes of an event that nobody else has seen yet."""
    for name, value in attributes.items():
        _set(event, name, value)


def reader(kind: EventType, *, lenient: bool) -> Read:
    """What reads events of this type. ``lenient`` says that it ignores fields of the data that the
    type does not have; else they are an error.
    """
    if not kind.keeps_raw:
        data = wire_struct(kind.spec.struct, kind.spec.key)
        record = _record(kind, data=(data if lenient else strict(data), NODEFAULT))
        return msgspec.json.Decoder(record).decode
    envelope = msgspec.json.Decoder(_record(kind, raw=(Raw, NODEFAULT, "data"))).decode
    decode = kind.decode if lenient else kind.decode_known

    def read(body: bytes) -> Event:
        event = envelope(body)
        _set(event, "data", decode(event.raw))
        return event

    return read


def _record(kind: EventType, **given: tuple[Any, ...]) -> type[Event]:
    """The struct: fields of `Event` first, then what else an envelope may say. ``given`` has the
    type, the default and the name as sent of a field that is no attribute.
    """
    own = {
        "kind": (_NEVER_SENT, kind, " kind"),
        "data": (_NEVER_SENT, None, " data"),
        "raw": (_NEVER_SENT, UNKEPT, " raw"),
        "type": (Literal[kind.name], NODEFAULT),
        **given,
    }
    attributes = [name for name in _ENVELOPE if name not in {*_SENT_AS.values(), "data"}]
    fields = []
    for name in dict.fromkeys((*Event.__struct_fields__, *attributes)):
        annotation, default, *sent_as = own.get(name) or _ENVELOPE[_SENT_AS.get(name, name)]
        sent = sent_as[0] if sent_as else _SENT_AS.get(name)
        fields.append((name, annotation, msgspec.field(default=default, name=sent)))
    name = f"{kind.spec.struct.__name__}Record"
    made: Any = msgspec.defstruct(name, fields, bases=(Event,), frozen=True, kw_only=True, gc=False)
    found: type[Event] = made
    return found
