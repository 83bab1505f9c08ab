"""Messages that end the worker itself: found, kept away from the others, and kept at last.

A crash marker says that a worker began with a message and has not survived it. Deliveries alone
decide nothing, since an outage adds to them too.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from operator import attrgetter
from typing import Protocol

from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.ports import Message

_begun_before = attrgetter("begun_before")


class CrashMarkers(Protocol):
    """Remembers, beyond the life of a worker, which messages workers did not survive."""

    async def crashes(self, messages: Sequence[Message]) -> list[int]:
        """How often handling of each began and never ended. Raises Unavailable."""

    def handling(self, messages: Sequence[Message]) -> AbstractAsyncContextManager[None]:
        """Mark that handling begins, and wipe that away once it ends: then this worker survived.
        Only one at a time in this process, so that none is marked for another's crash. Raises
        Unavailable.
        """

    async def forget(self, messages: Sequence[Message]) -> None:
        """They are done with. Raises Unavailable."""


class PoisonWatch:
    """Takes the messages that came more than ``watch_after`` times apart by the crashes that they
    are marked with. After ``max_crashes`` of them a message is only kept, as a dead letter.
    """

    def __init__(self, markers: CrashMarkers, *, watch_after: int, max_crashes: int) -> None:
        self._markers = markers
        self._watch_after = watch_after
        self._max_crashes = max_crashes

    async def parts(self, batch: Batch) -> list[Batch]:
        """What of the batch goes together: all of it, unless it holds messages that workers crashed
        at. These go alone, after the others, those with the most crashes last. Raises Unavailable.
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
        deliveries, most = batch.deliveries, self._watch_after
        if max(deliveries) <= most and not any(map(_begun_before, batch.messages)):
            return []
        counted = zip(batch.messages, deliveries, strict=True)
        return [m for m, count in counted if count > most or m.begun_before]

    def _alone(self, batch: Batch, message: Message, crashes: int) -> Batch:
        part = batch.part([message], watched=True)
        if crashes < self._max_crashes:
            return part
        error = f"{crashes} workers crashed while they handled it; max_crashes is reached"
        return part.refused("crashes_workers", error)

    @asynccontextmanager
    async def handling(self, batch: Batch) -> AsyncIterator[None]:
        """Have it marked that a part is being handled, where that is called for."""
        if not batch.watched:
            yield
        elif batch.refused_whole:  # nobody looks into it any more
            yield
            await self._markers.forget(batch.messages)
        else:
            async with self._markers.handling(batch.messages):
                yield
