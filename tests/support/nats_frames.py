"""Frames of NATS with any bytes that the protocol allows, and some that it does not, cut anywhere.

`compare` reads each stream with our parser and with nats-py's own.
"""

import random
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

from nats.aio.client import Client
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from penstock.worker.nats.wire import BatchParser, Frame

OWN, OTHER = 7, 71
_BLANKS = frozenset(b" \t\r\n")
_ODD = frozenset(b"\x0b\x0c")
_FREE = bytes(byte for byte in range(256) if byte not in _BLANKS)
_LINES = (b"PING", b"PONG", b"+OK", b'INFO {"server_id":"S"}', b"-ERR 'Permissions Violation'")
_PAYLOADS = (b"", b"\r\n", b"MSG a 7 r 5\r\n", b"PING\r\n", b"\r", b"+OK\r\nHMSG a 7 12 12\r\n")

Seen = tuple[Any, ...]


class Recorder(Client):
    """nats-py's client without a socket: notes what its parser hands it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Seen] = []

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        self.seen.append((sid, bytes(subject), bytes(reply), headers or None, data))

    async def _process_ping(self) -> None:
        self.seen.append(("PING",))

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: FBT001, FBT002  (nats-py's signature)
        self.seen.append(("INFO", str(info), initial_connection))

    async def _process_err(self, err_msg: str) -> None:
        self.seen.append(("ERR", err_msg))


class _RecorderOfPongs(Recorder):
    async def _process_pong(self) -> None:
        self.seen.append(("PONG",))


class Sent(NamedTuple):
    """A frame as bytes, and as it should be seen; ``stock``: nats-py's parser reads it too."""

    data: bytes
    seen: Seen | None
    stock: bool


class Reading(NamedTuple):
    """What a parser made of a stream: ``error`` is the exception that ended it."""

    seen: Counter[Seen]
    error: Exception | None


def frame(rng: random.Random) -> Sent:
    """A legal frame."""
    if rng.random() < 0.15:
        return _line(rng)
    subject = _word(rng)
    reply = _word(rng) if rng.random() < 0.5 else b""
    header = _header(rng) if rng.random() < 0.4 else None
    payload = rng.choice(_PAYLOADS) if rng.random() < 0.3 else rng.randbytes(rng.randrange(60))
    sid = rng.choice((OWN, OTHER))
    words = [b"MSG" if header is None else b"HMSG", subject, b"%d" % sid]
    words += [reply] if reply else []
    words += [] if header is None else [b"%d" % len(header)]
    words.append(b"%d" % len((header or b"") + payload))
    line = words[0] + b"".join(_gap(rng) + word for word in words[1:])
    stock = not _ODD.intersection(subject + reply)
    data = line + b"\r\n" + (header or b"") + payload + b"\r\n"
    return Sent(data, (sid, subject, reply, header, payload), stock)


def _line(rng: random.Random) -> Sent:
    line = rng.choice(_LINES)
    name = line.partition(b" ")[0].decode()
    seen: dict[str, Seen | None] = {
        "+OK": None,
        "INFO": ("INFO", "{'server_id': 'S'}", False),
        "-ERR": ("ERR", "'permissions violation'"),
    }
    return Sent(line + b"\r\n", seen.get(name, (name,)), stock=True)


def _word(rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return bytes(rng.choices(b"abc.-_123$JSACK", k=rng.randrange(1, 30)))
    return bytes(rng.choices(_FREE, k=rng.randrange(1, 30)))


def _gap(rng: random.Random) -> bytes:
    return b" " if rng.random() < 0.95 else bytes(rng.choices(b" \t", k=rng.randrange(1, 4)))


def _header(rng: random.Random) -> bytes:
    odd = rng.randbytes(rng.randrange(20)) if rng.random() < 0.5 else b"Ce-Id: %41"
    return rng.choice((b"NATS/1.0\r\n\r\n", b"NATS/1.0\r\n%b\r\n\r\n" % odd))


def spoiled(rng: random.Random, data: bytes) -> bytes:
    """The bytes with one taken out, put in or changed."""
    place = rng.randrange(len(data))
    byte = bytes((rng.choice(b" \t\r\n\x0b0179-+MSG\x00\xff"),))
    return data[:place] + rng.choice((b"", byte, byte)) + data[place + rng.randrange(2) :]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The bytes in pieces, cut at these places."""
    edges = sorted({0, len(data), *places})
    return [data[a:b] for a, b in pairwise(edges)]


def cut_anywhere(rng: random.Random, data: bytes) -> list[bytes]:
    """The bytes in up to eight pieces."""
    return cut(data, [rng.randrange(len(data) + 1) for _ in range(rng.randrange(8))])


async def ours(chunks: list[bytes]) -> Reading:
    """What our parser sees."""
    client = _RecorderOfPongs()
    own: list[Frame] = []
    parser = BatchParser.of(client)
    parser.register(OWN, own.extend)
    error = await _parse(parser, chunks)
    return Reading(Counter([*client.seen, *((OWN, *frame) for frame in own)]), error)


async def stock(data: bytes) -> Reading:
    """What nats-py's parser sees."""
    client = _RecorderOfPongs()
    error = await _parse(Parser(client), [data])
    return Reading(Counter(client.seen), error)


async def _parse(parser: Any, chunks: list[bytes]) -> Exception | None:
    try:
        for chunk in chunks:
            await parser.parse(chunk)
    except Exception as error:  # noqa: BLE001  (which it was is what the test is about)
        return error
    return None


async def compare(count: int, seed: int) -> Counter[str]:
    """Read ``count`` frames in streams of twenty, every second stream with a spoiled one."""
    rng = random.Random(seed)
    tally: Counter[str] = Counter()
    while tally["frames"] < count:
        sent = [frame(rng) for _ in range(20)]
        tally["frames"] += len(sent)
        if rng.random() < 0.5:
            await _legal(rng, sent, tally)
        else:
            await _illegal(rng, sent, tally)
    return tally


async def _legal(rng: random.Random, sent: list[Sent], tally: Counter[str]) -> None:
    data = b"".join(one.data for one in sent)
    found = await ours(cut_anywhere(rng, data))
    assert found.error is None, data
    assert found.seen == Counter(one.seen for one in sent if one.seen), data
    if all(one.stock for one in sent):
        assert await stock(data) == found, data
        tally["as the stock parser"] += len(sent)
    else:
        tally["where the stock parser fails"] += len(sent)


def _tidy(data: bytes) -> bool:
    """Blanks at the ends of a control line: ours does not mind them, nor does the server."""
    line = data.partition(b"\r\n")[0]
    return line == line.strip()


async def _illegal(rng: random.Random, sent: list[Sent], tally: Counter[str]) -> None:
    bad = rng.randrange(len(sent))
    pieces = [spoiled(rng, one.data) if n == bad else one.data for n, one in enumerate(sent)]
    data = b"".join(pieces)
    found = await ours(cut_anywhere(rng, data))
    assert found.error is None or isinstance(found.error, ProtocolError), (found.error, data)
    before = Counter(one.seen for one in sent[:bad] if one.seen)
    assert found.error or before <= found.seen, data
    tally["refused" if found.error else "read or waited for"] += len(sent)
    if _ODD.isdisjoint(data) and _tidy(pieces[bad]):
        theirs = await stock(data)
        true = Counter(one.seen for one in sent if one.seen)
        assert found.seen <= theirs.seen | true, data  # ours goes first, even past a broken line
        assert found.error or theirs.error or found.seen == theirs.seen, data
