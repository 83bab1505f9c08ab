"""Crash markers without a database."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from penstock.worker.pipeline.ports import Message


class Markers:
    """Crash markers in memory; ``done`` lists what was done to them, in order."""

    def __init__(self, crashes: Mapping[bytes, int] = {}) -> None:
        self._crashes = dict(crashes)
        self.done: list[tuple[str, list[bytes]]] = []

    async def crashes(self, messages: Sequence[Message]) -> list[int]:
        return [self._crashes.get(message.body, 0) for message in messages]

    @asynccontextmanager
    async def handling(self, messages: Sequence[Message]) -> AsyncIterator[None]:
        self.done.append(("begin", [message.body for message in messages]))
        try:
            yield
        finally:
            await self.forget(messages)

    async def forget(self, messages: Sequence[Message]) -> None:
        self.done.append(("forget", [message.body for message in messages]))
