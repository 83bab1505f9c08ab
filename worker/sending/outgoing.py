"""A message on its way to a stream, and what may come of it."""

import asyncio
from collections import deque

import msgspec

from penstock.worker.errors import PenstockError


class PublishRefused(PenstockError):
    """The bus will not take this message however often it is sent; others are not affected.

    The message names the subject and what to do.
    """


class PublishFailed(PenstockError):
    """Not confirmed in time, or the connection ended for good. The stream may hold the message."""


class Confirmation(msgspec.Struct, frozen=True):
    """The stream has it, on disk as its settings say.

    ``duplicate``: it was there already, perhaps from an earlier attempt of the same call; then
    ``sequence`` is that of the first.
    """

    stream: str
    sequence: int
    duplicate: bool = False


class Outgoing(msgspec.Struct, eq=False):
    """A message until it is confirmed. ``refused_since`` is of the event loop's clock."""

    subject: str
    payload: bytes
    msg_id: str
    confirmed: asyncio.Future[Confirmation]
    refused_since: float | None = None

    @property
    def size(self) -> int:
        """Bytes that it holds in memory, about."""
        return len(self.payload) + 200

    def confirm(self, confirmation: Confirmation) -> None:
        """Tell the caller; nothing happens if he has gone."""
        if not self.confirmed.done():
            self.confirmed.set_result(confirmation)

    def fail(self, error: PenstockError) -> None:
        """Tell the caller; nothing happens if he has gone."""
        if not self.confirmed.done():
            self.confirmed.set_exception(error)


class Queue:
    """Messages of one domain that wait to be sent, in order."""

    def __init__(self) -> None:
        self._waiting: deque[Outgoing] = deque()
        self._filled = asyncio.Event()

    def put(self, message: Outgoing) -> None:
        """At the end."""
        self._waiting.append(message)
        self._filled.set()

    def put_back(self, messages: list[Outgoing]) -> None:
        """At the front, in their order."""
        self._waiting.extendleft(reversed(messages))
        self._filled.set()

    async def take(self, count: int, size: int) -> list[Outgoing]:
        """What there is: at least one message, at most ``count``, more than one only if ``size``
        bytes hold them.
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
            if waiting[0].confirmed.done():  # its caller has gone
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
        """All of it, to be given up."""
        rest = list(self._waiting)
        self._waiting.clear()
        self._filled.clear()
        return rest
