"""Messages that were handed over and are not confirmed yet: counted, limited, and given up after a
deadline.
"""

import asyncio
from typing import TypedDict

from penstock.worker.sending.outgoing import Outgoing, PublishFailed


class Limits(TypedDict, total=False):
    """How many messages, and how many bytes, may be waiting for their confirmation, and after how
    many seconds a message is given up (``give_up`` None: never).
    """

    max_pending: int
    max_pending_bytes: int
    give_up: float | None


class Unconfirmed:
    """Messages on their way, within `Limits`."""

    def __init__(
        self,
        *,
        max_pending: int = 10_000,
        max_pending_bytes: int = 64 * 1024 * 1024,
        give_up: float | None = None,
    ) -> None:
        self._max_pending = max_pending
        self._max_bytes = max_pending_bytes
        self._give_up = give_up
        self._pending = 0
        self._bytes = 0
        self._settled = asyncio.Event()
        self._closed: PublishFailed | None = None

    async def take(self, subject: str, payload: bytes, msg_id: str, reply_to: str = "") -> Outgoing:
        """Wait for room, and return a message that takes up that room until its future is done."""
        loop = asyncio.get_running_loop()
        message = Outgoing(subject, payload, msg_id, loop.create_future(), reply_to)
        deadline = None if self._give_up is None else loop.time() + self._give_up
        size = message.size
        while self._pending and (
            self._pending >= self._max_pending or self._bytes + size > self._max_bytes
        ):
            await self._change()
        self._pending += 1
        self._bytes += size
        message.confirmed.add_done_callback(lambda _: self._release(size))
        if self._closed is not None:
            message.fail(self._closed)
        if deadline is not None:
            late = PublishFailed(f"{subject!r} was not confirmed in {self._give_up:g} s")
            timer = loop.call_at(deadline, message.fail, late)
            message.confirmed.add_done_callback(lambda _: timer.cancel())
        return message

    def close(self, error: PublishFailed) -> None:
        """Fail every message that is handed over from now on, including those waiting for room."""
        self._closed = error

    async def none(self, patience: float | None = None) -> None:
        """Wait until every message is confirmed, refused or given up.

        Raises PublishFailed if nothing changes for ``patience`` seconds.
        """
        while self._pending:
            try:
                async with asyncio.timeout(patience):
                    await self._change()
            except TimeoutError:
                raise PublishFailed(
                    f"{self._pending} events are not confirmed, and none was in {patience:g} s"
                ) from None

    async def _change(self) -> None:
        self._settled.clear()
        await self._settled.wait()

    def _release(self, size: int) -> None:
        self._pending -= 1
        self._bytes -= size
        self._settled.set()
