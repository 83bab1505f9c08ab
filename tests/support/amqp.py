"""Properties of AMQP messages as anybody could write them, byte by byte."""

import random
import struct
from collections.abc import Iterator, Sequence

from pamqp.commands import Basic

FLAGS = {
    "content_type": 0x8000,
    "headers": 0x2000,
    "delivery_mode": 0x1000,
    "message_id": 0x0080,
    "timestamp": 0x0040,
    "user_id": 0x0010,
}
"""In the order in which they stand on the wire."""


class RawProperties(Basic.Properties):
    """Properties that are sent as they are: ``raw`` begins with the flags."""

    def __init__(self, raw: bytes) -> None:
        super().__init__()
        self._raw = raw

    def marshal(self) -> bytes:
        return self._raw


def properties(**given: bytes) -> bytes:
    """Flags and properties; each value as it stands on the wire."""
    flags = sum(FLAGS[name] for name in given)
    return struct.pack(">H", flags) + b"".join(given[name] for name in FLAGS if name in given)


def short(text: bytes) -> bytes:
    """Text of at most 255 bytes."""
    return bytes([len(text)]) + text


def table(*fields: bytes) -> bytes:
    """Fields with the length before them."""
    return sized(b"".join(fields))


def field(name: bytes, kind: bytes, value: bytes) -> bytes:
    """A field of a table; the value of a long one with its length."""
    return short(name) + kind + value


def sized(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def nested(depth: int) -> bytes:
    """The value of an array in an array, and so on."""
    value = sized(b"")
    for _ in range(depth):
        value = sized(b"A" + value)
    return value


def hostile() -> Iterator[bytes]:
    """Properties that the server takes and that somebody might fail on, one kind of each."""
    for kind, value in EACH_TYPE:
        for name in (b"x", *OURS):
            yield properties(headers=table(field(name, kind, value)))
    yield properties(headers=table(field(b"deep", b"A", nested(100))))
    yield properties(headers=table(field(b"deep", b"A", nested(5_000))))
    yield properties(headers=table(field(b"a\0b\xff\xfe", b"S", sized(b"\0\xc3\x28"))))
    yield properties(headers=table(field(b"", b"S", sized(b""))))
    yield properties(headers=table(field(b"twice", b"I", bytes(4)), field(b"twice", b"V", b"")))
    yield properties(headers=table(field(b"z", b"t", b"\1"), field(b"a", b"t", b"\0")))
    yield properties(headers=table(*(field(b"n%d" % n, b"l", bytes(8)) for n in range(2_000))))
    yield properties(headers=table())
    for moment in (1_790_000_000_000_000, 1_790_000_000_000_000_000, 2**64 - 1, 0):
        yield properties(timestamp=struct.pack(">Q", moment), message_id=short(b"m-1"))
    for content_type in (b"", b"\xff\0", b"application/json; charset=\xe9", b"x" * 255):
        yield properties(content_type=short(content_type))


OURS = (
    b"x-delivery-count",
    b"x-penstock-deliveries",
    b"x-penstock-subject",
    b"x-penstock-properties",
    b"x-death",
    b"x-stream-offset",
    b"content-type",
    b"CC",
)
EACH_TYPE: Sequence[tuple[bytes, bytes]] = (
    (b"S", sized(b"\xff\0many")),
    (b"x", sized(b"\0\1")),
    (b"t", b"\1"),
    (b"b", b"\x80"),
    (b"B", b"\xff"),
    (b"s", b"\x80\0"),
    (b"u", b"\xff\xff"),
    (b"I", b"\x80\0\0\0"),
    (b"i", b"\xff\xff\xff\xff"),
    (b"l", b"\x7f" + b"\xff" * 7),
    (b"l", b"\x80" + b"\0" * 7),
    (b"f", b"\x3f\x80\0\0"),
    (b"d", struct.pack(">d", 1e300)),
    (b"D", b"\x02\x80\0\0\0"),
    (b"T", b"\xff" * 8),
    (b"V", b""),
    (b"F", table(field(b"in\0\xff", b"T", b"\x7f" + b"\xff" * 7))),
    (b"A", sized(b"S" + sized(b"\xff") + b"T" + b"\xee" * 8)),
)


KINDS = tuple(kind for kind in hostile() if len(kind) < 1_000)


def broken(chosen: random.Random) -> bytes:
    """Properties with a table of anything, cut anywhere."""
    changed = bytearray(chosen.choice(KINDS))
    for _ in range(chosen.randint(0, 4)):
        changed[chosen.randrange(len(changed))] = chosen.randrange(256)
    return bytes(changed[: chosen.randint(2, len(changed))])
