"""A message as RabbitMQ delivers it, read no further than somebody asks."""

import re
import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import pamqp.decode
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from penstock.worker.pipeline.ports import NO_HEADERS, Message
from penstock.worker.rabbitmq.wire import Delivery

DELIVERIES_HEADER = "x-penstock-deliveries"
"""How often the message had been delivered when it was put into a retry queue."""

SUBJECT_HEADER = "x-penstock-subject"
"""Its routing key before that. Only believed of what the default exchange delivers, as a retry
queue does: nobody may publish there without the right to write to any queue."""

_ADDED_HEADERS = frozenset(
    (DELIVERIES_HEADER, SUBJECT_HEADER, "x-delivery-count", "x-stream-offset")
)
_deliver = struct.Struct(">QBB").unpack_from
_changes_reading = re.compile(rb"cloudevents[:_]", re.IGNORECASE).search
_ATTRIBUTES = ("cloudevents:", "cloudevents_")
_PREFIX_LENGTH = 12
_STRUCTURED = frozenset((b"application/cloudevents+json", b"application/json"))
_CONTENT_TYPE, _ENCODING, _HEADERS = 0x80, 0x40, 0x20
_TIMESTAMP = 0x40
_PROPERTIES: Final = 14
"""Where the properties begin in a content header, after class, weight, body size and flags."""

_SIZES = dict.fromkeys(b"bBt", 1) | dict.fromkeys(b"sUu", 2) | dict.fromkeys(b"Iif", 4)
_SIZES |= dict.fromkeys(b"lLdT", 8) | {ord("D"): 5, ord("V"): 0}
_LONG = frozenset(b"SxFA")
_TEXTS, _VOID = frozenset(b"Sx"), ord("V")
_NUMBERS = {ord("b"): ">b", ord("B"): ">B", ord("s"): ">h", ord("U"): ">h", ord("u"): ">H"}
_NUMBERS |= {ord("I"): ">i", ord("i"): ">I", ord("l"): ">q", ord("L"): ">q"}
_NUMBERS |= {ord("f"): ">f", ord("d"): ">d"}


class RabbitMqMessage(Message, kw_only=True, gc=False):
    """``tag`` settles it on the channel of ``generation``; ``header`` is its content header."""

    tag: int
    generation: int
    redelivered: bool
    header: bytes
    returned: int = 0
    """How often it was given back without leaving this process."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Application properties as sent, as text, and the content type as ``content-type``."""
        found = {
            name: text_of(kind, value)
            for name, kind, value in fields(self.header)
            if name not in _ADDED_HEADERS
        }
        if (content_type := self.content_type) is not None:
            found["content-type"] = content_type
        return found or NO_HEADERS

    @property
    def attributes(self) -> Mapping[str, str]:
        """With either separator, and of any type; void says nothing. Nothing is percent-encoded.

        https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/amqp-protocol-binding.md
        """
        found: dict[str, str] = {}
        for name, kind, value in fields(self.header):
            lowered = name.lower()
            if lowered.startswith(_ATTRIBUTES) and kind != _VOID:
                text = value.decode() if kind in _TEXTS else text_of(kind, value)
                found.setdefault(lowered[_PREFIX_LENGTH:], text)
        return found

    @property
    def content_type(self) -> str | None:
        if not self.header[12] & _CONTENT_TYPE:
            return None
        return _content_type(self.header).decode("utf-8", "replace")

    @property
    def deliveries(self) -> int:
        """Quorum queues count; others only tell the first delivery from a later one."""
        if not self.redelivered and not self.returned and not self.header[12] & _HEADERS:
            return 1
        counted = _number(self.header, "x-delivery-count")
        before = max(0, _number(self.header, DELIVERIES_HEADER) or 0)
        again = int(self.redelivered) if counted is None else counted
        return before + again + self.returned + 1

    @property
    def stored_at(self) -> float | None:
        """The property timestamp, which the publisher sets, in whole seconds."""
        if not self.header[13] & _TIMESTAMP:
            return None
        moment = self.properties.timestamp
        return moment.timestamp() if isinstance(moment, datetime) else None

    @property
    def properties(self) -> Basic.Properties:
        """All properties, as pamqp reads them; none if it cannot."""
        header = ContentHeader()
        try:
            header.unmarshal(self.header)
        except (ValueError, struct.error, OverflowError, LookupError):
            return Basic.Properties()
        return header.properties

    @property
    def size(self) -> int:
        """Bytes of body and header."""
        return len(self.body) + len(self.header)


class StreamMessage(RabbitMqMessage, kw_only=True, gc=False):
    """A message of a stream queue, which has a place of its own: ``offset``."""

    offset: int

    @property
    def deliveries(self) -> int:
        return self.returned + 1


def message_of(delivery: Delivery, generation: int) -> RabbitMqMessage:
    """The message of a delivery."""
    method, header, body = delivery
    at = method[4] + 5
    tag, redelivered, length = _deliver(method, at)
    at += 11 + length
    subject = method[at:].decode("utf-8", "backslashreplace")
    if not length and header[12] & _HEADERS:
        subject = _text(header, SUBJECT_HEADER) or subject
    return RabbitMqMessage(
        subject=subject,
        body=body,
        plain=is_plain(header),
        tag=tag,
        generation=generation,
        begun_before=bool(redelivered) and _number(header, "x-delivery-count") is None,
        redelivered=bool(redelivered),
        header=header,
    )


def stream_message_of(delivery: Delivery, generation: int) -> StreamMessage:
    """The message of a delivery from a stream queue. Raises ValueError if it has no offset."""
    method, header, body = delivery
    at = method[4] + 5
    tag, _, length = _deliver(method, at)
    offset = _number(header, "x-stream-offset")
    if offset is None:
        raise ValueError("a delivery without x-stream-offset: the queue is no stream")
    return StreamMessage(
        subject=method[at + 11 + length :].decode("utf-8", "backslashreplace"),
        body=body,
        plain=is_plain(header),
        tag=tag,
        generation=generation,
        redelivered=False,
        header=header,
        offset=offset,
    )


def is_plain(header: bytes) -> bool:
    """False if a property or header may change how the body is read."""
    flags = header[12]
    if flags & _HEADERS and _changes_reading(header) is not None:
        return False
    return not flags & _CONTENT_TYPE or _content_type(header) in _STRUCTURED


def _content_type(header: bytes) -> bytes:
    return header[_PROPERTIES + 1 : _PROPERTIES + 1 + header[_PROPERTIES]]


def fields(header: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Name, type and value of each application property. Ends early where they are broken."""
    if not header[12] & _HEADERS:
        return
    at = _PROPERTIES
    for flag in (_CONTENT_TYPE, _ENCODING):  # these two come before the table
        if header[12] & flag:
            at += 1 + header[at]
    stop = min(at + 4 + int.from_bytes(header[at : at + 4]), len(header))
    at += 4
    while at < stop and at + 2 + header[at] <= stop:
        middle = at + 1 + header[at]
        name, kind = header[at + 1 : middle], header[middle]
        at = middle + 1
        if kind in _LONG:
            size = int.from_bytes(header[at : at + 4])
            at += 4
        else:
            size = _SIZES.get(kind, stop)
        if at + size > stop:
            return
        yield name.decode("utf-8", "replace"), kind, header[at : at + size]
        at += size


def text_of(kind: int, value: bytes) -> str:
    """A value of a field table as text: times as RFC 3339, nested values as JSON."""
    if kind in _TEXTS:
        return value.decode("utf-8", "replace")
    if kind == ord("t"):
        return "true" if value != b"\x00" else "false"
    if kind in _NUMBERS:
        return str(struct.unpack(_NUMBERS[kind], value)[0])
    try:
        if kind == ord("T"):
            return datetime.fromtimestamp(int.from_bytes(value), UTC).isoformat()
        if kind in b"FA":
            return _nested(kind, value)
    except (ValueError, OverflowError, OSError, struct.error, RecursionError, TypeError):
        pass
    return value.hex()


def _nested(kind: int, value: bytes) -> str:
    sized = len(value).to_bytes(4) + value
    read: Any = pamqp.decode.field_table if kind == ord("F") else pamqp.decode.field_array
    return msgspec.json.encode(read(sized)[1], enc_hook=str).decode()


def _number(header: bytes, name: str) -> int | None:
    for found, kind, value in fields(header):
        if found == name and kind in _NUMBERS and kind not in b"fd":
            return int(struct.unpack(_NUMBERS[kind], value)[0])
    return None


def _text(header: bytes, name: str) -> str | None:
    for found, kind, value in fields(header):
        if found == name and kind in b"S":
            return value.decode("utf-8", "replace")
    return None
