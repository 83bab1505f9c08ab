"""A log that is read piece by piece by whoever fetches: a file, a table."""

import asyncio
from collections.abc import Sequence
from typing import Self

from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.ports import Message


class PulledLog:
    """A `Log` over pieces that `_read` gives. In ``order``, nothing new is handed out before the
    last piece is settled.
    """

    def __init__(self, name: str, transport: str, *, batch_size: int, order: bool = False) -> None:
        self.name = name
        self.transport = transport
        self.total = 0
        self.last: int | None = None
        self.epoch = ""
        self._batch_size = batch_size
        self._order = order
        self._again: list[Message] = []
        self._unsettled = 0
        self._ended = self._stopped = False
        self._changed = asyncio.Event()

    async def _read(self) -> Sequence[Message]:
        """The next messages, at most ``batch_size``; none at the end."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return

    async def fetch(self) -> Batch:
        while not self._stopped:
            self._changed.clear()
            if messages := await self._next():
                return Batch(messages, sum([one.size for one in messages]), self)
            await self._changed.wait()
        return Batch([], 0, self)

    async def _next(self) -> Sequence[Message]:
        if self._again:
            messages, self._again = self._again[: self._batch_size], self._again[self._batch_size :]
            return messages
        if self._ended or (self._order and self._unsettled):
            return ()
        found = await self._read()
        self._unsettled += len(found)
        self._ended = not found
        return found

    async def ack(self, batch: Batch) -> None:
        self._unsettled -= len(batch)
        self._changed.set()

    async def nack(self, batch: Batch, delay: float) -> None:
        asyncio.get_running_loop().call_later(delay, self._offer, batch.messages)

    def _offer(self, messages: Sequence[Message]) -> None:
        self._again.extend(messages)
        self._changed.set()

    def stop(self) -> None:
        self._stopped = True
        self._changed.set()

    async def over(self, passed: int | None) -> bool:  # noqa: ARG002
        return self._ended and not self._unsettled
