# ruff: noqa: SLF001  (this is the one place that reaches into nats-py's data path)
"""The fast way through nats-py's connection: frames of chosen subscriptions, many at a time.

nats-py spends 20 to 80 µs on each message. `BatchParser` takes its parser's place: it cuts the
frames of the subscriptions that are registered with it out of each chunk that the socket gave,
hands messages of other subscriptions to the client, and leaves the rest (PING, INFO and the like)
to the stock parser. That one never sees a message: it takes a vertical tab in a subject, which is
legal, for the end of a word, and would refuse the connection again and again. The protocol:
https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import nats.aio.client
from nats.aio.client import Client
from nats.errors import ProtocolError
from nats.protocol.parser import AWAITING_MSG_PAYLOAD, Parser

from penstock.worker.logger import Logger

log = Logger(__name__)

Frame = tuple[bytes, bytes, bytes | None, bytes]
"""Subject, reply (empty if there is none), header block as sent or None, payload."""

_CRLF = b"\r\n"
_READ_BYTES = 1 << 20
"""What one read of the socket takes at most. nats-py's own 32 KB are too few for a drain: what a
read costs beside its bytes is the same for 80 messages as for 2,000.
"""
_LONGEST_LINE = 65_536
"""A control line may be long (INFO names all servers of a cluster), but not endless."""
_LARGEST = 2**31 - 1
"""Bytes of a message: what the server's ``max_payload`` can say at most."""
_STOCK = frozenset((b"PING", b"PONG", b"INFO", b"+OK", b"-ERR"))
_DIGITS = 18
_LF, _VT, _FF = 0x0A, 0x0B, 0x0C
_blanks = re.compile(rb"[ \t\n]+")

Foreign = bytes | tuple[int, bytes, bytes, bytes, bytes | None]
"""A line for the stock parser, or a message as nats-py's client takes it."""


def read_much_at_once() -> None:
    """Make every connection of this process read large pieces. For a process that is our own."""
    nats.aio.client.DEFAULT_BUFFER_SIZE = _READ_BYTES


class BatchParser:
    """Drop-in for ``nc._ps``. Raises only what the read loop turns into a reconnect."""

    def __init__(self, nc: Client) -> None:
        self._nc = nc
        self._stock = Parser(nc)
        self._receivers: dict[bytes, Callable[[list[Frame]], None]] = {}
        self._on_reset: dict[object, Callable[[], None]] = {}
        self._resets = 0
        self._held: list[bytes] = []
        self._held_size = 0
        self._needed = 0

    @classmethod
    def of(cls, nc: Client) -> "BatchParser":
        """The parser of this connection; puts one in place, also in the middle of a frame."""
        present: object = nc._ps
        if isinstance(present, cls):
            return present
        parser = cls(nc)
        begun = _unparsed(nc._ps)
        if begun:
            parser._hold(begun, 0, 0)
        nc._ps = cast("Parser", parser)
        return parser

    @property
    def buf(self) -> bytearray:
        """What the stock parser is at, as it stood on the wire."""
        return self._stock.buf

    def register(self, sid: int, receiver: Callable[[list[Frame]], None]) -> None:
        """Hand the frames of subscription ``sid`` to ``receiver``, once per chunk read."""
        self._receivers[b"%d" % sid] = receiver

    def unregister(self, sid: int) -> None:
        """Leave what still comes for ``sid`` to nats-py. Idempotent."""
        self._receivers.pop(b"%d" % sid, None)

    def on_reset(self, owner: object, callback: Callable[[], None] | None) -> None:
        """Call ``callback`` whenever the connection is lost; None ends it."""
        if callback is None:
            self._on_reset.pop(owner, None)
        else:
            self._on_reset[owner] = callback

    def reset(self) -> None:
        """Forget an incomplete frame: what comes next is another connection."""
        self._resets += 1
        self._held, self._held_size, self._needed = [], 0, 0
        self._stock.reset()
        for callback in list(self._on_reset.values()):
            callback()

    async def parse(self, data: bytes = b"") -> None:
        """Take the next bytes from the socket, cut anywhere.

        Raises ProtocolError or OSError. Any other exception would end nats-py's read loop while
        the connection seems alive, so it becomes a ProtocolError.
        """
        try:
            await self._parse(data)
        except (ProtocolError, OSError):
            raise
        except Exception as exc:
            log.exception("nats_parser_failed")
            raise ProtocolError from exc

    async def _parse(self, data: bytes) -> None:
        if self._held:
            self._held.append(data)
            self._held_size += len(data)
            if self._held_size < self._needed:
                return
            data = b"".join(self._held)
            self._held, self._held_size, self._needed = [], 0, 0
        foreign: list[Foreign] = []
        rest, needed = self._cut(data, foreign)
        if rest < len(data):
            self._hold(data, rest, needed)
        if foreign:
            await self._hand_over(foreign)

    def _hold(self, data: bytes, start: int, needed: int) -> None:
        self._held = [data[start:] if start else data]
        self._held_size = len(data) - start
        self._needed = needed

    def _cut(self, data: bytes, foreign: list[Foreign]) -> tuple[int, int]:
        """Deliver the complete frames of ``data`` and collect those of others in ``foreign``.

        Returns where the incomplete frame begins and how long it will be (0 if not known yet).
        """
        taken: dict[bytes, list[Frame]] = {sid: [] for sid in self._receivers}
        position, end, needed = 0, len(data), 0
        find = data.find
        while position < end:
            line_end = find(b"\r", position)  # one byte is found several times faster than two
            if line_end < 0 or line_end + 1 == end:
                _check_line(end - position)
                break
            if data[line_end + 1] != _LF:
                raise ProtocolError
            line = data[position:line_end]
            words = line.split()
            if _VT in line or _FF in line:  # blanks to Python, but not to the protocol
                words = _blanks.split(line)
            body = stop = line_end + 2
            if words and words[0] in _STOCK:
                foreign.append(data[position:stop])
                position = stop
                continue
            reply, header_size, size = _layout(words)
            stop = body + size + 2
            if stop > end:
                needed = stop - position
                break
            if data[stop - 1] != _LF:
                raise ProtocolError
            middle = body + header_size
            header = data[body:middle] if header_size else None
            frames = taken.get(words[2])
            if frames is None:
                foreign.append(
                    (_number(words[2]), words[1], reply, data[middle : stop - 2], header)
                )
            else:
                frames.append((words[1], reply, header, data[middle : stop - 2]))
            position = stop
        self._deliver(taken)
        return position, needed

    def _deliver(self, taken: dict[bytes, list[Frame]]) -> None:
        stats = self._nc.stats
        for sid, frames in taken.items():
            if frames:
                stats["in_msgs"] += len(frames)
                self._receivers[sid](frames)

    async def _hand_over(self, foreign: Sequence[Foreign]) -> None:
        """Leave these to nats-py, in their order; one may close or lose the connection."""
        resets = self._resets
        for one in foreign:
            if isinstance(one, bytes):
                await self._read_line(one)
            else:
                await self._pass_on(*one)
            if resets != self._resets:
                return

    async def _read_line(self, line: bytes) -> None:
        resets = self._resets
        try:
            await self._stock.parse(line)
        except asyncio.InvalidStateError:
            # The answer to a ping that nobody waits for any more. The stock parser has consumed
            # it, but not counted it.
            self._nc._pings_outstanding = 0
        except (ValueError, AttributeError) as exc:  # an INFO that is no JSON, a broken -ERR
            raise ProtocolError from exc
        if self._stock.buf and resets == self._resets:
            raise ProtocolError

    async def _pass_on(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, header: bytes | None
    ) -> None:
        """What nats-py cannot read (a subject that is no UTF-8) is no reason to reconnect."""
        try:
            await self._nc._process_msg(sid, subject, reply, data, cast("bytes", header))
        except asyncio.InvalidStateError:
            pass  # a reply that nobody waits for any more
        except (ValueError, LookupError):
            log.warning("nats_message_unreadable", subject=repr(subject))


def _check_line(size: int) -> None:
    if size > _LONGEST_LINE:
        raise ProtocolError


def _layout(words: list[bytes]) -> tuple[bytes, int, int]:
    """Reply, size of the header block and whole size of the frame with this control line."""
    match words:
        case [b"HMSG", _, _, reply, head, whole] if head.isdigit() and whole.isdigit():
            header_size, size = int(head), int(whole)
        case [b"MSG", _, _, reply, whole] if whole.isdigit():
            header_size, size = 0, int(whole)
        case [b"HMSG", _, _, head, whole] if head.isdigit() and whole.isdigit():
            reply, header_size, size = b"", int(head), int(whole)
        case [b"MSG", _, _, whole] if whole.isdigit():
            reply, header_size, size = b"", 0, int(whole)
        case _:
            raise ProtocolError
    if not header_size <= size <= _LARGEST:
        raise ProtocolError
    return reply, header_size, size


def _number(word: bytes) -> int:
    if not word.isdigit() or len(word) > _DIGITS:
        raise ProtocolError
    return int(word)


def _unparsed(parser: Parser) -> bytes:
    """What a stock parser has begun to read, as it stood on the wire."""
    begun = bytes(parser.buf)
    if parser.state == AWAITING_MSG_PAYLOAD:
        head, size = parser.header_needed, parser.needed
        verb, sizes = (b"HMSG", b"%d %d" % (head, size)) if head else (b"MSG", b"%d" % size)
        arg = parser.msg_arg
        words = (verb, arg["subject"], b"%d" % arg["sid"], arg["reply"], sizes)
        begun = b" ".join(word for word in words if word) + _CRLF + begun
    parser.reset()
    return begun


def size_of(frames: Sequence[Frame]) -> int:
    """Bytes of their header blocks and payloads."""
    return sum([len(payload) + (len(header) if header else 0) for _, _, header, payload in frames])


def publishes(subjects: Iterable[bytes], payload: bytes) -> bytes:
    """The commands that send ``payload`` to each of ``subjects``; there must be one at least."""
    tail = b" %d\r\n%s\r\n" % (len(payload), payload)
    return b"PUB " + (tail + b"PUB ").join(subjects) + tail


def send(nc: Client, commands: bytes) -> None:
    """Queue commands and wake the task that writes them.

    Unlike nats-py's own way this never waits, so it cannot swallow a cancellation. What is queued
    while the connection is away is sent after the reconnect.
    """
    nc._pending.append(commands)
    nc._pending_data_size += len(commands)
    queue = nc._flush_queue
    if nc.is_connected and queue is not None and queue.empty():
        queue.put_nowait(asyncio.get_running_loop().create_future())
