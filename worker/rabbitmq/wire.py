"""The fast way through an AMQP connection: whole deliveries, many at a time.

aiormq spends more than 100 µs on each message. `Deliveries` cuts those of one channel out of each
chunk that the socket gave, and leaves every other frame to aiormq. The protocol: AMQP 0-9-1,
https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, sections 2.3 and 4.2.
"""

import struct
from collections.abc import Callable, Iterable
from typing import Final

Delivery = tuple[bytes, bytes, bytes]
"""Method ``basic.deliver``, content header and body, each without the frame around it."""

_head = struct.Struct(">BHI").unpack_from
_body_size = struct.Struct(">Q").unpack_from
_FRAME: Final = 8
_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_END: Final = 0xCE
_DELIVER = b"\x00\x3c\x00\x3c"
_SHORTEST_HEADER = 14
_LARGEST_FRAME = 1 << 24
"""Above all that servers negotiate: more is not AMQP."""

_LARGEST_BODY = 1 << 31
"""Above all that RabbitMQ lets through."""

_settling = struct.Struct(">BHIHHQBB").pack
_opening = struct.Struct(">BHI").pack
_content = struct.Struct(">HHQ").pack
_ACK, _NACK = 80, 120
_MULTIPLE, _REQUEUE = 1, 2


class Deliveries:
    """Takes the deliveries of one channel, from `watch` on."""

    def __init__(self) -> None:
        self._channel = -1
        self._receive: Callable[[list[Delivery]], None] = _ignore
        self._rest = b""
        self._method = self._header = b""
        self._parts: list[bytes] = []
        self._missing = 0
        self._broken = False

    def watch(self, channel: int, receive: Callable[[list[Delivery]], None]) -> None:
        """Hand the deliveries of ``channel`` to ``receive``, once per chunk read."""
        self._channel, self._receive = channel, receive

    @property
    def broken(self) -> bool:
        """True once something came that is not AMQP."""
        return self._broken

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes, cut anywhere; returns the frames that are not deliveries.

        What is not AMQP is returned as it is, from there on, for the stock reader to refuse.
        """
        if self._broken:
            return data
        if self._rest:
            data = self._rest + data
        taken: list[Delivery] = []
        foreign: list[bytes] = []
        end = self._cut(data, taken, foreign)
        if self.broken:
            foreign.append(data[end:])
            end = len(data)
        self._rest = data[end:]
        if taken:
            self._receive(taken)
        return b"".join(foreign)

    def _cut(  # noqa: C901  (hot)
        self, data: bytes, taken: list[Delivery], foreign: list[bytes]
    ) -> int:
        """Sort the complete frames of ``data``; returns where the incomplete one begins."""
        at, end, mine = 0, len(data), self._channel
        while end - at >= _FRAME:
            kind, channel, size = _head(data, at)
            stop = at + size + _FRAME
            if kind > _HEARTBEAT or size > _LARGEST_FRAME:
                self._broken = True
                break
            if stop > end:
                break
            if data[stop - 1] != _END:
                self._broken = True
                break
            if channel != mine:
                foreign.append(data[at:stop])
            elif kind == _BODY and self._missing:
                self._take_body(data[at + 7 : stop - 1], taken)
            elif kind == _HEADER and self._method and size >= _SHORTEST_HEADER:
                self._take_header(data[at + 7 : stop - 1], taken)
            elif self._method:
                self._broken = True  # nothing comes between a delivery and the end of its body
            elif kind == _METHOD and data.startswith(_DELIVER, at + 7):
                self._method = data[at + 7 : stop - 1]
            else:
                foreign.append(data[at:stop])
            if self._broken:
                break
            at = stop
        return at

    def _take_header(self, header: bytes, taken: list[Delivery]) -> None:
        if self._missing:
            self._broken = True
            return
        (self._missing,) = _body_size(header, 4)
        if self._missing > _LARGEST_BODY:
            self._broken = True
        elif self._missing:
            self._header = header
        else:
            taken.append((self._method, header, b""))
            self._method = b""

    def _take_body(self, part: bytes, taken: list[Delivery]) -> None:
        self._missing -= len(part)
        if self._missing < 0:
            self._broken = True
            return
        if self._missing:
            self._parts.append(part)
            return
        if self._parts:
            self._parts.append(part)
            part = b"".join(self._parts)
            self._parts = []
        taken.append((self._method, self._header, part))
        self._method, self._missing = b"", 0


def _ignore(_: list[Delivery]) -> None:
    """Before `watch`, no channel is ours."""


def acks(channel: int, through: int | None, tags: Iterable[int]) -> bytes:
    """The frames that acknowledge all tags up to ``through``, and ``tags`` by themselves."""
    frames = [_settling(_METHOD, channel, 13, 60, _ACK, tag, 0, _END) for tag in tags]
    if through is not None:
        frames.append(_settling(_METHOD, channel, 13, 60, _ACK, through, _MULTIPLE, _END))
    return b"".join(frames)


def publishing(channel: int, key: bytes, properties: bytes, body: bytes, largest: int) -> bytes:
    """The frames, none above ``largest`` bytes, that publish to the default exchange: ``key`` is
    the name of a queue, ``properties`` as `properties.joined` gives them.
    """
    method = b"\x00\x3c\x00\x28\x00\x00\x00" + len(key).to_bytes(1) + key + b"\x00"
    header = _content(60, 0, len(body)) + properties
    room = largest - _FRAME
    parts = [body[at : at + room] for at in range(0, len(body), room)]
    kinds = ((_METHOD, method), (_HEADER, header), *((_BODY, part) for part in parts))
    return b"".join(
        _opening(kind, channel, len(part)) + part + _END.to_bytes(1) for kind, part in kinds
    )


def requeues(channel: int, tags: Iterable[int]) -> bytes:
    """The frames that give ``tags`` back to the queue."""
    return b"".join(_settling(_METHOD, channel, 13, 60, _NACK, tag, _REQUEUE, _END) for tag in tags)
