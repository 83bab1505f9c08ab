"""Messages that aiormq reads for us, with nothing in them that it could fail on.

pamqp raises on a timestamp in microseconds, on a name that is not UTF-8, and so on; aiormq then
ends the connection, and the same message comes again. So before it sees them, the properties of
each delivery are put into the value of one header, where pamqp leaves them alone. A message of our
own that comes back as undeliverable keeps its own.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final

from pamqp.commands import Basic

from penstock.worker.rabbitmq.properties import FLAGS_AT

_SENT: Final = "properties"
_head = struct.Struct(">BHI")
_METHOD, _HEADER, _LAST_KIND = 1, 2, 8
_DELIVER = b"\x00\x3c\x00\x3c"
_LARGEST_FRAME = 1 << 24
_ASCII = 0x80


class Shelter:
    """The frames of one connection on their way to aiormq."""

    def __init__(self) -> None:
        self._rest = b""
        self._delivering: set[int] = set()

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes, cut anywhere; returns the frames that aiormq may see."""
        return b"".join(self._frames(self._rest + data))

    def _frames(self, data: bytes) -> Iterator[bytes]:
        at = 0
        while len(data) - at >= _head.size:
            kind, channel, size = _head.unpack_from(data, at)
            if kind > _LAST_KIND or size > _LARGEST_FRAME:  # no AMQP: that is for aiormq to say
                yield data[at:]
                at = len(data)
                break
            stop = at + _head.size + size + 1
            if stop > len(data):
                break
            payload = self._sheltered(kind, channel, data[at + _head.size : stop - 1])
            yield _head.pack(kind, channel, len(payload)) + payload + data[stop - 1 : stop]
            at = stop
        self._rest = data[at:]

    def _sheltered(self, kind: int, channel: int, payload: bytes) -> bytes:
        if kind == _HEADER and channel in self._delivering:
            sent = Basic.Properties(headers={_SENT: bytearray(payload[FLAGS_AT:])})
            return payload[:FLAGS_AT] + sent.marshal()
        if kind == _METHOD:
            self._delivering.discard(channel)
            if payload.startswith(_DELIVER):
                self._delivering.add(channel)
                return _DELIVER + _readable(payload[len(_DELIVER) :])
        return payload


def _readable(arguments: bytes) -> bytes:
    """The arguments of a delivery whose routing key may be no UTF-8."""
    exchange = 1 + arguments[0] + 9
    key = exchange + 1 + arguments[exchange] + 1
    try:
        arguments[key:].decode()
    except UnicodeDecodeError:
        return arguments[:key] + bytes(b if b < _ASCII else ord("?") for b in arguments[key:])
    return arguments


def unsheltered(properties: Basic.Properties, body_size: int) -> bytes:
    """The content header as the server sent it."""
    sent: Any = (properties.headers or {}).get(_SENT, b"\0\0")
    return struct.pack(">HHQ", Basic.frame_id, 0, body_size) + bytes(sent)
