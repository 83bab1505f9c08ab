"""Poison messages, which kill the worker: finding them, isolating them, storing them at last.

A crash marker says that a worker began with a message and did not survive. The count of deliveries
alone decides nothing, because an outage adds to it too.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.ports import Message


class CrashMarkers(Protocol):
    """Records, beyond the life of a worker, which messages workers did not survive."""

    async def crashes(self, messages: Sequence[Message]) -> list[int]:
        """For each message, how often handling it began and never ended. Raises Unavailable."""

    def handling(self, messages: Sequence[Message]) -> AbstractAsyncContextManager[None]:
        """A context that marks the messages when handling begins, and removes the marks when it
        ends, because then this worker has survived. Only one at a time in this process, so that no
        message is blamed for a crash that another one caused. Raises Unavailable.
        """

    async def forget(self, messages: Sequence[Message]) -> None:
        """Remove the marks of finished messages. Raises Unavailable."""


class PoisonWatch:
    """Looks at messages that were delivered more than ``watch_after`` times, and isolates those
    with crash markers. After ``max_crashes`` crashes a message becomes a dead letter.
    """

    def __init__(self, markers: CrashMarkers, *, watch_after: int, max_crashes: int) -> None:
        self._markers = markers
        self._watch_after = watch_after
        self._max_crashes = max_crashes

    async def parts(self, batch: Batch) -> list[Batch]:
        """The parts in which to process a batch: the whole batch, unless it has messages with crash
        markers. Each of these is a part of its own, after the others, most crashes last. Raises
        Unavailable.
        """
        watched = self._watched(batch)
        if not watched:
            return [batch]
        found = await self._markers.crashes(watched)
        crashes = {id(m): count for m, count in zip(watched, found, strict=True) if count}
        together = [m for m in batch.messages if id(m) not in crashes]
        alone = sorted([m for m in watched if id(m) in crashes], key=lambda m: crashes[id(m)])
        parts = [batch.part(together, watched=True)] if together else []
        return parts + [self._alone(batch, message, crashes[id(message)]) for message in alone]

    def _watched(self, batch: Batch) -> list[Message]:
        messages, most = batch.messages, self._watch_after
        if max(messages.deliveries) <= most and not messages.doubtful:
            return []
        return [one for one in messages if one.deliveries > most or one.begun_before]

    def _alone(self, batch: Batch, message: Message, crashes: int) -> Batch:
        part = batch.part([message], watched=True)
        if crashes < self._max_crashes:
            return part
        error = f"{crashes} workers crashed while handling it, which reaches max_crashes"
        return part.refused("crashes_workers", error)

    @asynccontextmanager
    async def handling(self, batch: Batch) -> AsyncIterator[None]:
        """A context for handling a part, with crash markers if the part is watched."""
        if not batch.watched:
            yield
        elif batch.refused_whole:  # it is only stored, so it can do no harm
            yield
            await self._markers.forget(batch.messages)
        else:
            async with self._markers.handling(batch.messages):
                yield
