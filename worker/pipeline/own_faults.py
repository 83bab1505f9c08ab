"""Errors of our own: one message is kept as a dead letter, a stream is never emptied into letters.

A fault in the code of one event type and one message that no code expected look the same from a
single message; how many there are tells them apart. Of every type a few may become letters, and one
more for every hundred that were stored since. The others are returned, and wait for whoever mends
the fault, while the events of other types go on.
"""

import asyncio
import time
from collections import Counter

from penstock.schemas.event import Event
from penstock.worker.pipeline.batch import Batch

_FEW = 10
_STORED_PER_LETTER = 100
_FRESH_SECONDS = 600.0
"""So long after a message was held it may not have come again yet."""


class OwnFaults:
    """Decides for one source what becomes of messages that our own code failed at."""

    def __init__(self) -> None:
        self._kept = Counter[str]()
        self._stored = Counter[str]()
        self._held = Counter[str]()
        self._begun = asyncio.Event()
        self._error = ""
        self._when = -_FRESH_SECONDS

    def keep(self, batch: Batch, error: Exception) -> bool:
        """Whether the only message of ``batch`` may become a letter; else it is to be returned."""
        name = _type(batch)
        if self._kept[name] < _FEW + self._stored[name] // _STORED_PER_LETTER:
            self._kept[name] += 1
            return True
        self.returned(batch, error)
        return False

    def returned(self, batch: Batch, error: Exception) -> None:
        """Take note of what is neither stored nor kept, and will come again."""
        self._held[_type(batch)] += 1
        self._begun.set()
        self._error, self._when = repr(error), time.monotonic()

    def stored(self, batch: Batch) -> None:
        """Take note of what was stored; without effect while nothing has failed."""
        if self._kept:
            self._stored.update(e.kind.name for e in batch.outcomes if isinstance(e, Event))

    async def begun(self) -> None:
        """Wait until messages are held back."""
        await self._begun.wait()

    @property
    def trouble(self) -> str | None:
        """What keeps messages waiting, if any do."""
        if time.monotonic() - self._when > _FRESH_SECONDS:
            return None
        names = ", ".join(f"{name} ({count} times)" for name, count in self._held.items())
        return f"an error of Penstock's own holds events back: {names}: {self._error}"


def _type(batch: Batch) -> str:
    """The type of the first event; of one that could not even be decoded, what its subject says."""
    for outcome in batch.outcomes:
        if isinstance(outcome, Event):
            return outcome.kind.name
    domain, _, rest = batch.messages.subjects[0].partition(".")
    return f"{domain}.{rest.rpartition('.')[2]}"
