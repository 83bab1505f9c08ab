# ruff: noqa: SLF001  (one write for a thousand messages; nats-py has no public way)
"""Publishes as bytes, and the answers to them.

A thousand messages go out as one write and share one inbox: nats-py's `publish` per message and
`request` per answer would be most of the cost of an event.

Atomic batches: https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-50.md
"""

import asyncio
from collections.abc import Sequence

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from penstock.worker.publisher.outgoing import Outgoing

BATCH_LIMIT = 1_000
"""Messages in an atomic batch; the servers allow no more."""

_POLL_SECONDS = 0.25
_SUBJECT_LIMIT = 3_500
"""Bytes. A server ends a connection that sends it a line of more than 4,096."""


class ApiError(msgspec.Struct, frozen=True):
    """Why a stream refuses: ``err_code`` as in nats-server's errors.json."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Reply(msgspec.Struct, frozen=True):
    """A stream's answer. ``count`` is set by the commit of an atomic batch alone."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    count: int = 0
    error: ApiError | None = None


NO_STREAM = Reply(error=ApiError(503, 0, "no stream takes this subject"))
_UNREADABLE = Reply(error=ApiError(500, 0, "the answer is not one of a stream"))
_decode = msgspec.json.Decoder(Reply).decode


class _Attempt:
    """Answers to one write, by the number of the message in it."""

    def __init__(self, expected: int) -> None:
        self.replies: dict[int, Reply] = {}
        self.done = asyncio.Event()
        self._expected = expected

    def take(self, index: int, reply: Reply) -> None:
        self.replies[index] = reply
        if len(self.replies) == self._expected:
            self.done.set()


class Wire:
    """Speaks with the streams over one connection.

    ``patience``: seconds without any answer after which an attempt is over.
    """

    def __init__(self, nc: Client, *, patience: float) -> None:
        self._nc = nc
        self._patience = patience
        self._inbox = nc.new_inbox()
        self._name = self._inbox.rpartition(".")[2]
        self._attempts: dict[str, _Attempt] = {}
        self._made = 0
        self._subscription: Subscription | None = None

    @property
    def generation(self) -> int:
        """Grows with every reconnect: what was in flight before may be lost."""
        return int(self._nc.stats["reconnects"])

    async def open(self) -> None:
        """Listen for answers."""
        self._subscription = await self._nc.subscribe(f"{self._inbox}.*", cb=self._receive)

    def unfit(self, message: Outgoing) -> str | None:
        """Why the server would end the connection if it were sent this; None if it would not."""
        if len(message.payload) + _SUBJECT_LIMIT > self._nc.max_payload:
            return f"{len(message.payload)} bytes; the server takes {self._nc.max_payload}"
        if len(message.subject) > _SUBJECT_LIMIT:
            return f"its subject has {len(message.subject)} characters, more than {_SUBJECT_LIMIT}"
        subject, msg_id = message.subject, message.msg_id
        if not (subject.isascii() and subject.isprintable() and " " not in subject):
            return "a subject is printable ASCII without spaces"
        if not (msg_id.isascii() and msg_id.isprintable()):
            return f"a Nats-Msg-Id is printable ASCII, not {msg_id!r}"
        return None

    def interrupt(self) -> None:
        """End all attempts with the answers they have: one of their messages gets none."""
        for attempt in self._attempts.values():
            attempt.done.set()

    async def send_atomic(self, messages: Sequence[Outgoing]) -> Reply | None:
        """All or none of 2 to `BATCH_LIMIT` messages. None if nothing was heard."""
        last = len(messages)
        name, attempt = self._attempt(1)
        batch = f"Nats-Batch-Id: {self._name}-{name}\r\nNats-Batch-Sequence: "
        parts = [
            _command(message, f"{batch}{number}\r\n") for number, message in enumerate(messages, 1)
        ]
        commit = f"{batch}{last}\r\nNats-Batch-Commit: 1\r\n"
        parts[-1] = _command(messages[-1], commit, self._reply_to(name, 0))
        replies = await self._exchange(name, attempt, parts)
        return replies.get(0)

    async def send_each(self, messages: Sequence[Outgoing]) -> dict[int, Reply]:
        """Each for itself, together. The answers that came, by the place in ``messages``."""
        name, attempt = self._attempt(len(messages))
        parts = [
            _command(message, "", self._reply_to(name, index))
            for index, message in enumerate(messages)
        ]
        return await self._exchange(name, attempt, parts)

    def _attempt(self, expected: int) -> tuple[str, _Attempt]:
        self._made += 1
        name = f"{self._made:x}"
        attempt = self._attempts[name] = _Attempt(expected)
        return name, attempt

    def _reply_to(self, name: str, index: int) -> str:
        return f"{self._inbox}.{name}-{index}"

    async def _exchange(self, name: str, attempt: _Attempt, parts: list[bytes]) -> dict[int, Reply]:
        generation = self.generation
        try:
            await self._nc._send_command(b"".join(parts))
            await self._nc._flush_pending()
            await self._wait(attempt, generation)
        finally:
            del self._attempts[name]
        return attempt.replies

    async def _wait(self, attempt: _Attempt, generation: int) -> None:
        """Until all answers are there, none came for a while, or the connection is another."""
        loop = asyncio.get_running_loop()
        heard, last = 0, loop.time()
        while self.generation == generation and self._nc.is_connected:
            try:
                await asyncio.wait_for(attempt.done.wait(), _POLL_SECONDS)
            except TimeoutError:
                pass
            else:
                return
            if len(attempt.replies) > heard:
                heard, last = len(attempt.replies), loop.time()
            elif loop.time() - last > self._patience:
                return

    async def _receive(self, message: Msg) -> None:
        name, _, index = message.subject.rpartition(".")[2].partition("-")
        attempt = self._attempts.get(name)
        if attempt is not None:  # else it is over, and its messages are sent again
            attempt.take(int(index), _reply(message))


def _reply(message: Msg) -> Reply:
    if message.headers and message.headers.get("Status") == "503":
        return NO_STREAM
    try:
        return _decode(message.data)
    except msgspec.MsgspecError:
        return _UNREADABLE


def _command(message: Outgoing, batch: str, reply: str = "") -> bytes:
    head = f"NATS/1.0\r\nNats-Msg-Id: {message.msg_id}\r\n{batch}\r\n".encode()
    size = len(head) + len(message.payload)
    line = f"HPUB {message.subject} {reply} {len(head)} {size}\r\n".encode()
    return b"".join((line, head, message.payload, b"\r\n"))
