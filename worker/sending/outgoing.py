"""A message on its way to a stream, and its possible outcomes."""

import asyncio
from collections import deque

import msgspec

from penstock.worker.errors import PenstockError


class PublishRefused(PenstockError):
    """The broker rejects this message for good; other messages are not affected.

    The text names the subject and says what to do.
    """


class PublishFailed(PenstockError):
    """Not confirmed in time, or the connection ended for good. The stream may hold the message."""


class Confirmation(msgspec.Struct, frozen=True):
    """The stream has stored the message, as durably as the stream's settings say.

    ``sequence`` is the message's offset in the stream. ``duplicate`` means that the stream had it
    already, perhaps from an earlier attempt of the same call; ``sequence`` is then that of the
    stored message.
    """

    stream: str
    sequence: int
    duplicate: bool = False


class Outgoing(msgspec.Struct, eq=False):
    """A message that is not confirmed yet. ``reply_to`` is where its receipt is expected, if any;
    ``refused_since`` is a time of the loop's clock.
    """

    subject: str
    payload: bytes
    msg_id: str
    confirmed: asyncio.Future[Confirmation]
    reply_to: str = ""
    refused_since: float | None = None

    @property
    def size(self) -> int:
        """Approximate size in memory, in bytes."""
        return len(self.payload) + 200

    def confirm(self, confirmation: Confirmation) -> None:
        """Tell the caller. Does nothing if the caller has stopped waiting."""
        if not self.confirmed.done():
            self.confirmed.set_result(confirmation)

    def fail(self, error: PenstockError) -> None:
        """Tell the caller. Does nothing if the caller has stopped waiting."""
        if not self.confirmed.done():
            self.confirmed.set_exception(error)


class Queue:
    """Messages of one domain that are waiting to be sent, in order."""

    def __init__(self) -> None:
        self._waiting: deque[Outgoing] = deque()
        self._filled = asyncio.Event()

    def put(self, message: Outgoing) -> None:
        """Append a message."""
        self._waiting.append(message)
        self._filled.set()

    def put_back(self, messages: list[Outgoing]) -> None:
        """Put messages back at the front, in their order."""
        self._waiting.extendleft(reversed(messages))
        self._filled.set()

    async def take(self, count: int, size: int) -> list[Outgoing]:
        """Wait for at least one message, and take up to ``count``: more than one only if together
        they fit into ``size`` bytes.
        """
        while True:
            await self._filled.wait()
            taken = self._take(count, size)
            if taken:
                return taken

    def _take(self, count: int, size: int) -> list[Outgoing]:
        taken: list[Outgoing] = []
        waiting = self._waiting
        while waiting and len(taken) < count:
            if waiting[0].confirmed.done():  # its caller has stopped waiting
                waiting.popleft()
                continue
            size -= waiting[0].size
            if taken and size < 0:
                break
            taken.append(waiting.popleft())
        if not waiting:
            self._filled.clear()
        return taken

    def empty(self) -> list[Outgoing]:
        """Take out everything, for messages that are given up."""
        rest = list(self._waiting)
        self._waiting.clear()
        self._filled.clear()
        return rest
