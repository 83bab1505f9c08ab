"""Deliveries of AMQP with any bytes in every field, and frames that are none, cut anywhere.

`compare` reads each stream with our cutter and, frame by frame, with pamqp as aiormq does.
"""

import contextlib
import random
import struct
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import pamqp.frame
from pamqp.commands import Basic
from pamqp.exceptions import PAMQPException
from pamqp.header import ContentHeader

from penstock.worker.rabbitmq.message import RabbitMqMessage, message_of
from penstock.worker.rabbitmq.wire import Deliveries, Delivery
from tests.support.nats_frames import cut_anywhere

MINE, OTHER = 1, 2
_FRAME_MAX = 100
_HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
_OK = pamqp.frame.marshal(Basic.ConsumeOk("me"), MINE)
_KINDS = b"bBtsUuIiflLdTDVSxFA?"


class Sent(NamedTuple):
    """A delivery as frames, with its routing key and body; ``text``: pamqp can read the key."""

    frames: list[bytes]
    key: bytes
    body: bytes
    text: bool


def delivery(rng: random.Random, tag: int, channel: int = MINE, *, odd: bool = True) -> Sent:
    """A legal delivery; with ``odd`` of any bytes, else such that pamqp can read it."""
    key = _short(rng, odd=odd)
    names = [_short(rng, 20, odd=odd), struct.pack(">QB", tag, rng.randrange(2))]
    names.append(_short(rng, 20, odd=odd))
    method = b"\x00\x3c\x00\x3c" + _sized(names[0]) + names[1] + _sized(names[2]) + _sized(key)
    body = rng.randbytes(rng.choice((0, 1, 20, _FRAME_MAX, _FRAME_MAX + 1, 350)))
    header = struct.pack(">HHQ", 60, 0, len(body)) + (_properties(rng) if odd else b"\0\0")
    parts = [body[at : at + _FRAME_MAX] for at in range(0, len(body), _FRAME_MAX)]
    frames = [framed(1, channel, method), framed(2, channel, header)]
    frames += [framed(3, channel, part) for part in parts]
    return Sent(frames, key, body, all(map(_is_text, (key, names[0], names[2]))))


def framed(kind: int, channel: int, payload: bytes) -> bytes:
    """A frame around ``payload``."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def _short(rng: random.Random, longest: int = 255, *, odd: bool = True) -> bytes:
    if not odd or rng.random() < 0.5:
        return bytes(rng.choices(b"abc.-_", k=rng.randrange(longest)))
    return rng.randbytes(rng.randrange(longest))


def _sized(text: bytes) -> bytes:
    return bytes((len(text),)) + text


def _is_text(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _properties(rng: random.Random) -> bytes:
    """Flags and values: a content type, a table of headers, a timestamp; each or none."""
    flags, values = 0, b""
    if rng.random() < 0.3:
        flags, values = flags | 0x8000, values + _sized(rng.choice((b"application/json", b"\xff")))
    if rng.random() < 0.6:
        table = b"".join(_field(rng) for _ in range(rng.randrange(4)))
        flags, values = flags | 0x2000, values + struct.pack(">I", len(table)) + table
    if rng.random() < 0.2:
        flags, values = flags | 0x0040, values + rng.randbytes(8)
    return struct.pack(">H", flags) + values


def _field(rng: random.Random) -> bytes:
    name = rng.choice((b"cloudEvents:id", b"x-delivery-count", b"\xff", _short(rng, 9)))
    kind = rng.choice(_KINDS)
    size = {**dict.fromkeys(b"bBt", 1), **dict.fromkeys(b"sUu", 2), **dict.fromkeys(b"Iif", 4)}
    size |= {**dict.fromkeys(b"lLdT", 8), ord("D"): 5, ord("V"): 0}
    value = rng.randbytes(size.get(kind, rng.randrange(12)))
    if kind in b"SxFA":
        value = struct.pack(">I", len(value)) + value
    return _sized(name) + bytes((kind,)) + value


class Reading(NamedTuple):
    """Tags of the deliveries that were read, and whether the connection would end."""

    tags: list[int]
    ended: bool


def ours(chunks: list[bytes]) -> tuple[list[RabbitMqMessage], bytes, bool]:
    """The messages, what is left to aiormq, and whether our link would be lost."""
    deliveries = Deliveries()
    taken: list[Delivery] = []
    deliveries.watch(MINE, taken.extend)
    rest = b"".join(deliveries.feed(chunk) for chunk in chunks)
    return [message_of(one, 1) for one in taken], rest, deliveries.broken


def stock(data: bytes) -> Reading:
    """What pamqp reads, one frame at a time, as aiormq takes them from the socket."""
    tags: list[int] = []
    pending, missing = 0, -1
    for frame in _whole(data):
        try:
            _, channel, found = pamqp.frame.unmarshal(frame)
        except (PAMQPException, UnicodeDecodeError, OverflowError, OSError):
            return Reading(tags, ended=True)
        if channel != MINE:
            continue
        if isinstance(found, Basic.Deliver):
            pending = found.delivery_tag or 0
        elif isinstance(found, ContentHeader) and pending:
            missing = found.body_size
        elif missing > 0 and hasattr(found, "value"):
            missing -= len(found.value)
        if pending and missing == 0:
            tags.append(pending)
            pending, missing = 0, -1
    return Reading(tags, ended=False)


def _whole(data: bytes) -> Iterator[bytes]:
    at = 0
    while len(data) - at >= 8:
        size = int.from_bytes(data[at + 3 : at + 7])
        if len(data) - at < size + 8:
            return
        yield data[at : at + size + 8]
        at += size + 8


def compare(count: int, seed: int) -> Counter[str]:
    """Read ``count`` frames, eight deliveries a stream, every second one with a spoiled frame."""
    rng = random.Random(seed)
    tally: Counter[str] = Counter()
    while tally["frames"] < count:
        odd = rng.random() < 0.5
        sent = [delivery(rng, tag, odd=odd) for tag in range(1, 9)]
        between = [_between(rng, odd=odd) for _ in sent]
        frames = [
            part for one, more in zip(sent, between, strict=True) for part in (*one.frames, *more)
        ]
        tally["frames"] += len(frames)
        if rng.random() < 0.5:
            _legal(rng, sent, frames, b"".join(part for more in between for part in more), tally)
        else:
            _illegal(rng, frames, tally)
    return tally


def _between(rng: random.Random, *, odd: bool) -> list[bytes]:
    choice = rng.randrange(4)
    if choice == 0:
        return [_HEARTBEAT]
    if choice == 1:
        return [_OK]
    return delivery(rng, 99, OTHER, odd=odd).frames if choice == 2 else []


def _legal(
    rng: random.Random, sent: list[Sent], frames: list[bytes], foreign: bytes, tally: Counter[str]
) -> None:
    data = b"".join(frames)
    messages, rest, broken = ours(cut_anywhere(rng, data))
    assert not broken, data
    assert rest == foreign, data
    seen = [(message.subject, message.body, message.tag) for message in messages]
    expected = [(one.key.decode("utf-8", "backslashreplace"), one.body) for one in sent]
    assert seen == [(*one, tag) for tag, one in enumerate(expected, 1)], data
    for message in messages:
        _read_all(message)
    theirs = stock(data)
    if theirs.ended:
        tally["where pamqp fails"] += len(frames)
    else:
        assert theirs.tags == [message.tag for message in messages], data
        tally["as pamqp"] += len(frames)


def _read_all(message: RabbitMqMessage) -> None:
    """Nothing of a legal message raises, but what is no text where there must be text."""
    assert isinstance(dict(message.headers), dict)
    assert isinstance(message.deliveries, int)
    assert message.content_type is None or message.content_type
    with contextlib.suppress(UnicodeDecodeError):
        assert isinstance(dict(message.attributes), dict)


def _illegal(rng: random.Random, frames: list[bytes], tally: Counter[str]) -> None:
    bad = rng.randrange(len(frames))
    broken_frame = _spoiled(rng, frames[bad])
    data = b"".join((*frames[:bad], broken_frame, *frames[bad + 1 :]))
    try:
        messages, _, ended = ours(cut_anywhere(rng, data))
    except (ValueError, LookupError, struct.error):  # the link is lost then: see FastLink
        tally["refused"] += len(frames)
        return
    tally["refused" if ended else "read or waited for"] += len(frames)
    theirs = stock(data)
    if not ended and not theirs.ended:
        assert [message.tag for message in messages] == theirs.tags, data


def _spoiled(rng: random.Random, frame: bytes) -> bytes:
    place = rng.randrange(len(frame))
    byte = bytes((rng.choice((0, 1, 2, 3, 8, 9, 0x3C, 0xCE, 0xFF)),))
    changed, shorter = frame[:place] + byte + frame[place + 1 :], frame[:place] + frame[place + 1 :]
    return rng.choice((changed, shorter, b"", frame * 2))
