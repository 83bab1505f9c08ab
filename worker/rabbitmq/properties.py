"""The properties of a message as they stand on the wire: cut up, never believed, never changed.

Whoever may publish chooses every byte of them, so nothing here raises. What cannot be cut up any
further is kept as it is. The layout: AMQP 0-9-1, sections 2.3.5.2 and 4.2.6.1, with the types that
RabbitMQ writes: https://www.rabbitmq.com/amqp-0-9-1-errata#section_3.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
import pamqp.decode

DELIVERY_COUNT = "x-delivery-count"
STREAM_OFFSET = "x-stream-offset"
_ADDED = frozenset((DELIVERY_COUNT, STREAM_OFFSET))
"""What the server puts among the headers of a publisher when it delivers."""

CONTENT_TYPE, HEADERS = 0x8000, 0x2000
TIMESTAMP: Final = 0x0040
DELIVERY_MODE, EXPIRATION, MESSAGE_ID, USER_ID = 0x1000, 0x0100, 0x0080, 0x0010
CORRELATION_ID, REPLY_TO = 0x0400, 0x0200
LONGEST_KEY = 255
"""Bytes of a routing key, as of any text that is not a header's."""

_TEXT, _TABLE = -1, -4
_LAYOUT: tuple[tuple[int, int], ...] = (
    (CONTENT_TYPE, _TEXT),
    (0x4000, _TEXT),  # content encoding
    (HEADERS, _TABLE),
    (DELIVERY_MODE, 1),
    (0x0800, 1),  # priority
    (CORRELATION_ID, _TEXT),
    (REPLY_TO, _TEXT),
    (EXPIRATION, _TEXT),
    (MESSAGE_ID, _TEXT),
    (TIMESTAMP, 8),
    (0x0020, _TEXT),  # type
    (USER_ID, _TEXT),
    (0x0008, _TEXT),  # app id
    (0x0004, _TEXT),  # cluster id
)
FLAGS_AT: Final = 12
"""Where the properties begin in a content header: after class, weight and body size."""
_FIRST: Final = FLAGS_AT + 2
"""Where the first of them is, after the flags."""

_SIZES = dict.fromkeys(b"bBt", 1) | dict.fromkeys(b"sUu", 2) | dict.fromkeys(b"Iif", 4)
_SIZES |= dict.fromkeys(b"lLdT", 8) | {ord("D"): 5, ord("V"): 0}
_LONG = frozenset(b"SxFA")
_NUMBERS = {ord("b"): ">b", ord("B"): ">B", ord("s"): ">h", ord("U"): ">h", ord("u"): ">H"}
_NUMBERS |= {ord("I"): ">i", ord("i"): ">I", ord("l"): ">q", ord("L"): ">q"}
_NUMBERS |= {ord("f"): ">f", ord("d"): ">d"}
_MOST_SECONDS = 0xFFFF_FFFF
"""In the year 2106. What is greater was meant in milliseconds, or in nothing that can be told."""


class Field(NamedTuple):
    """A header: its name, its type, its value without what tells the length, and all as it came."""

    name: str
    kind: int
    value: bytes
    raw: bytes


def flags_of(header: bytes) -> int:
    """Which properties a content header has."""
    return int.from_bytes(header[FLAGS_AT : FLAGS_AT + 2])


def cut(header: bytes) -> tuple[dict[int, bytes], bytes]:
    """The properties by their flags, each as it came, and what is left behind the last."""
    flags, at = flags_of(header), _FIRST
    found: dict[int, bytes] = {}
    for flag, size in _LAYOUT:
        if not flags & flag:
            continue
        stop = at + size
        if size < 0:  # so many bytes tell the length
            stop = at - size + int.from_bytes(header[at : at - size])
        if stop > len(header):
            break
        found[flag] = header[at:stop]
        at = stop
    return found, header[at:]


def as_sent(header: bytes) -> bytes:
    """The properties, flags first, without what the server added to the headers.

    Headers are sorted: a quorum queue that delivers again sorts them too. Whatever else it is, it
    is always the same for the same message.
    """
    flags = flags_of(header)
    if not flags & HEADERS:
        return header[FLAGS_AT:]
    properties, rest = cut(header)
    if HEADERS not in properties:
        return header[FLAGS_AT:]
    table = properties[HEADERS]
    kept = sorted(field.raw for field in fields(table) if field.name not in _ADDED)
    unread = table[4 + sum(len(field.raw) for field in fields(table)) :]
    entries = b"".join(kept) + unread
    if entries:
        properties[HEADERS] = len(entries).to_bytes(4) + entries
    else:
        del properties[HEADERS]
        flags &= ~HEADERS
    return flags.to_bytes(2) + b"".join(properties.values()) + rest


def joined(properties: Mapping[int, bytes], entries: Iterable[bytes]) -> bytes:
    """Flags and properties, of which the headers are these ``entries``: see `as_sent`."""
    found = {flag: value for flag, value in properties.items() if flag != HEADERS}
    if table := b"".join(entries):
        found[HEADERS] = len(table).to_bytes(4) + table
    return sum(found).to_bytes(2) + b"".join(found[flag] for flag in sorted(found, reverse=True))


def short_text(text: str) -> bytes:
    """A property that is a text. Raises OverflowError if it has more than 255 bytes."""
    said = text.encode()
    return len(said).to_bytes(1) + said


def entry(name: str, text: str) -> bytes:
    """A header that is a text. Raises OverflowError if its name has more than 255 bytes."""
    said = text.encode()
    return short_text(name) + b"S" + len(said).to_bytes(4) + said


def headers_of(header: bytes) -> Iterator[Field]:
    """Each header, in the order sent. Ends early where they are broken."""
    if header[FLAGS_AT] & HEADERS >> 8:
        yield from fields(cut(header)[0].get(HEADERS, b""))


def fields(table: bytes) -> Iterator[Field]:
    """Each field of a table, which begins with its length. Ends early where it is broken."""
    at, stop = 4, len(table)
    while at < stop and at + 2 + table[at] <= stop:
        begin, middle = at, at + 1 + table[at]
        name, kind = table[at + 1 : middle], table[middle]
        at = middle + 1
        if kind in _LONG:
            size = int.from_bytes(table[at : at + 4])
            at += 4
        else:
            size = _SIZES.get(kind, stop)
        if at + size > stop:
            return
        value = table[at : at + size]
        at += size
        yield Field(name.decode("utf-8", "replace"), kind, value, table[begin:at])


def content_type_of(header: bytes) -> bytes:
    """The first property, if there is one."""
    return header[_FIRST + 1 : _FIRST + 1 + int.from_bytes(header[_FIRST : _FIRST + 1])]


def timestamp_of(header: bytes) -> float | None:
    """The property timestamp in Unix seconds, if it can be one."""
    sent = cut(header)[0].get(TIMESTAMP)
    if sent is None:
        return None
    return _seconds(int.from_bytes(sent))


def seconds_of(field: Field) -> float | None:
    """Unix seconds, if the field is a timestamp or an integer that can be one."""
    sent = int.from_bytes(field.value) if field.kind == ord("T") else number(field)
    return None if sent is None or sent < 0 else _seconds(sent)


def _seconds(sent: int) -> float | None:
    if sent <= _MOST_SECONDS:
        return float(sent)
    return sent / 1000 if sent / 1000 <= _MOST_SECONDS else None


def moment_text(seconds: float) -> str:
    """Unix seconds as RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def number(field: Field | None) -> int | None:
    """The value of a field that is an integer."""
    if field is None or field.kind not in _NUMBERS or field.kind in b"fd":
        return None
    return int(struct.unpack(_NUMBERS[field.kind], field.value)[0])


def named(header: bytes, name: str) -> Field | None:
    """The header of that name; of several the first."""
    return next((field for field in headers_of(header) if field.name == name), None)


def text_of(kind: int, value: bytes) -> str:
    """A value of a field table as text: times as RFC 3339, nested values as JSON."""
    if kind in b"Sx":
        return value.decode("utf-8", "replace")
    if kind == ord("t"):
        return "true" if value != b"\x00" else "false"
    if kind in _NUMBERS:
        return str(struct.unpack(_NUMBERS[kind], value)[0])
    if kind == ord("T"):
        return _moment(int.from_bytes(value))
    try:
        return _nested(_READERS[kind], value)
    except (ValueError, LookupError, ArithmeticError, OSError, RecursionError, TypeError):
        return value.hex()


def _moment(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return str(seconds)  # whatever its unit was


_READERS: dict[int, Callable[[bytes], tuple[int, Any]]] = {
    ord("F"): pamqp.decode.field_table,
    ord("A"): pamqp.decode.field_array,
}


def _nested(read: Callable[[bytes], tuple[int, Any]], value: bytes) -> str:
    sized = len(value).to_bytes(4) + value
    return msgspec.json.encode(read(sized)[1], enc_hook=str).decode()
