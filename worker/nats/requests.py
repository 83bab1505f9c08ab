"""Requests to JetStream over one inbox: a thousand at a time, with answers matched by number.

nats-py's ``request`` takes 20 to 80 µs for each request and its answer; here a thousand messages go
out in one write, and their answers come in as one list.

Atomic batches: https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-50.md
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from penstock.worker.nats.headers import status_of
from penstock.worker.nats.wire import BatchParser, Frame, send

Heard = TypeVar("Heard")

Request = tuple[str, str, bytes]
"""Subject, header lines (each with its CRLF, or nothing at all), payload. Bytes of a line that are
no UTF-8 are surrogates, as of ``surrogateescape``."""

BATCH_LIMIT = 1_000
"""Most messages in an atomic batch; servers allow no more."""

ATOMIC_DISABLED = 10174

_NO_RESPONDERS = b"503"

_SUBJECT_LIMIT = 3_500
"""Bytes. A server closes a connection that sends it a line of more than 4,096 bytes."""

_HEADER_ROOM = 160
"""Bytes of a request's header beside its own lines, including those of an atomic batch."""


class Refusal(msgspec.Struct, frozen=True):
    """Why JetStream refuses: ``code`` as in HTTP, ``err_code`` as in nats-server's errors.json."""

    code: int = 0
    err_code: int = 0
    description: str = "no description"


class Ack(msgspec.Struct, frozen=True):
    """A stream's answer to a message. ``count`` is set only for the commit of an atomic batch."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    count: int = 0
    error: Refusal | None = None


NO_STREAM = Ack(error=Refusal(503, 0, "no stream takes this subject"))
_UNREADABLE = Ack(error=Refusal(500, 0, "the answer is not one of a stream"))
_decode_ack = msgspec.json.Decoder(Ack).decode


def ack_of(frame: Frame) -> Ack:
    """The stream's answer in ``frame``; `NO_STREAM` if no stream takes the subject."""
    if status_of(frame[2]) == _NO_RESPONDERS:
        return NO_STREAM
    try:
        return _decode_ack(frame[3])
    except msgspec.MsgspecError:
        return _UNREADABLE


def unfit(nc: Client, subject: str, size: int) -> str | None:
    """Why the server would close the connection if it got this; None if it would not.

    ``size`` covers the payload and the request's own header lines. A server's limits may change
    with each restart, so check right before sending.
    """
    if size + _HEADER_ROOM > nc.max_payload:
        return f"{size} bytes; the server takes {nc.max_payload}, headers included"
    if len(subject) > _SUBJECT_LIMIT:
        return f"its subject has {len(subject)} characters, more than {_SUBJECT_LIMIT}"
    return None


class Call(Generic[Heard]):
    """Collects answers until there are ``limit``, or ``last`` is true for one."""

    def __init__(self, limit: int, last: Callable[[Heard], bool]) -> None:
        self.answers: list[tuple[int, Heard]] = []
        self.done = asyncio.Event()
        self._limit = limit
        self._last = last

    def take(self, index: int, answer: Heard) -> None:
        """Keep the answer to request number ``index``."""
        self.answers.append((index, answer))
        if len(self.answers) == self._limit or self._last(answer):
            self.done.set()

    async def wait(self, patience: float) -> None:
        """Wait until all answers are there, or none has arrived for ``patience`` seconds."""
        heard = -1
        while heard < len(self.answers) and not self.done.is_set():  # answers still come
            heard = len(self.answers)
            try:
                async with asyncio.timeout(patience):
                    await self.done.wait()
            except TimeoutError:
                continue


def _never(_answer: Frame) -> bool:
    return False


class Inbox:
    """One wildcard subscription for the answers to all requests of its owner.

    It opens itself when needed; `close` is idempotent. A call ends after ``patience`` seconds
    without any answer.
    """

    def __init__(self, nc: Client, patience: float) -> None:
        self._nc = nc
        self._patience = patience
        self._subject = nc.new_inbox()
        self._token = self._subject.rpartition(".")[2]
        self._calls: dict[bytes, Call[Frame]] = {}
        self._made = 0
        self._subscription: Subscription | None = None

    async def open(self) -> None:
        """Listen for answers. Raises the client's errors."""
        if self._nc.is_closed:
            raise nats.errors.ConnectionClosedError
        if self._subscription is None:
            self._subscription = await self._nc.subscribe(f"{self._subject}.*")
            BatchParser.of(self._nc).register(self._subscription._id, self._receive)  # noqa: SLF001

    async def close(self) -> None:
        """Stop listening."""
        if self._subscription is not None and not self._nc.is_closed:
            BatchParser.of(self._nc).unregister(self._subscription._id)  # noqa: SLF001
            await self._subscription.unsubscribe()
        self._subscription = None

    def hears(self, subject: str) -> bool:
        """Whether it is this inbox, in any case: nats-py lowers what the server says."""
        return subject.lower() == f"{self._subject}.*".lower()

    def interrupt(self) -> None:
        """End all calls with the answers that they have so far."""
        for call in self._calls.values():
            call.done.set()

    async def ask(
        self,
        requests: Sequence[Request],
        limit: int | None = None,
        last: Callable[[Frame], bool] = _never,
    ) -> list[tuple[int, Frame]]:
        """Send all requests together and return the answers, each with the number of its request.

        Returns after ``limit`` answers (None: one per request), after an answer for which ``last``
        is true, or when the patience ends. Raises the client's errors.
        """
        await self.open()
        name, reply = self._next()
        call: Call[Frame] = Call(len(requests) if limit is None else limit, last)
        parts: list[bytes] = []
        for index, (subject, lines, payload) in enumerate(requests):
            parts += _command(subject, f"{reply}{index}", lines, payload)
        return await self._exchange(name, call, parts)

    async def ask_atomic(self, requests: Sequence[Request]) -> Frame | None:
        """Write all or none of 2 to `BATCH_LIMIT` messages of one stream.

        Returns the answer to the batch, or None if there was none.
        """
        await self.open()
        name, reply = self._next()
        batch = f"Nats-Batch-Id: {self._token}-{name}\r\nNats-Batch-Sequence: "
        parts: list[bytes] = []
        for number, (subject, lines, payload) in enumerate(requests[:-1], 1):
            parts += _command(subject, "", f"{lines}{batch}{number}\r\n", payload)
        subject, lines, payload = requests[-1]
        commit = f"{lines}{batch}{len(requests)}\r\nNats-Batch-Commit: 1\r\n"
        parts += _command(subject, f"{reply}0", commit, payload)
        answers = await self._exchange(name, Call(1, _never), parts)
        return answers[0][1] if answers else None

    def _next(self) -> tuple[str, str]:
        """The name of a call, and its reply subject without the number of the request."""
        self._made += 1
        name = f"{self._made:x}"
        return name, f"{self._subject}.{name}-"

    async def _exchange(
        self, name: str, call: Call[Frame], parts: list[bytes]
    ) -> list[tuple[int, Frame]]:
        key = name.encode()
        self._calls[key] = call
        try:
            send(self._nc, b"".join(parts))
            await call.wait(self._patience)
        finally:
            del self._calls[key]
        return call.answers

    def _receive(self, frames: list[Frame]) -> None:
        for frame in frames:
            name, _, index = frame[0].rpartition(b".")[2].partition(b"-")
            call = self._calls.get(name)
            if call is not None and index.isdigit():  # otherwise its caller has given up
                call.take(int(index), frame)


_FRAME = len("NATS/1.0\r\n\r\n")


def _command(subject: str, reply: str, lines: str, payload: bytes) -> tuple[bytes, ...]:
    """The pieces of the command that sends a request; the caller joins all pieces once."""
    if not lines:
        return f"PUB {subject} {reply} {len(payload)}\r\n".encode(), payload, b"\r\n"
    if lines.isascii():  # one piece, as its characters are its bytes
        size = len(lines) + _FRAME
        sizes = f"{size} {size + len(payload)}"
        command = f"HPUB {subject} {reply} {sizes}\r\nNATS/1.0\r\n{lines}\r\n"
        return command.encode(), payload, b"\r\n"
    head = f"NATS/1.0\r\n{lines}\r\n".encode("utf-8", "surrogateescape")
    size = len(head)
    line = f"HPUB {subject} {reply} {size} {size + len(payload)}\r\n".encode()
    return line, head, payload, b"\r\n"
