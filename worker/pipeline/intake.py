"""Messages between the socket and `fetch`: when a batch is released, and how much may wait.

A single message is released at once if nothing is in work. While other batches are in work, a batch
is filled for the linger time at most, or until it is full, or until nothing is in work any more.
After a batch of several messages, the next one is released a moment later, so batches grow with
load.

What waits and what is in work counts against the stream's share of the worker's memory; a source
checks that share before it asks the broker for more.
"""

import asyncio
import contextlib
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import accumulate, islice
from operator import attrgetter
from typing import Any, Generic, TypeVar

from penstock.worker.pipeline.budget import Share, unlimited

Held = TypeVar("Held")


_APART_SECONDS = 0.007
"""Time between two batches, unless the earlier one had a single message. However small it is, a
batch costs about ten messages to servers; 400 batches a second keep two cores half busy.
"""


def _sizes(messages: Collection[Any]) -> int:
    return sum(map(attrgetter("size"), messages))


class Intake(Generic[Held]):
    """A buffer that releases batches of at most ``batch_size`` messages and ``batch_bytes`` bytes.

    A message larger than that is a batch of its own. ``share`` limits the bytes too; without one
    there is no limit beyond the batch's. ``weigh`` says how many bytes messages hold together, by
    default the sum of each ``size``: a source may let its own raw form of them wait here.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        batch_bytes: int,
        linger: float,
        share: Share | None = None,
        weigh: Callable[[Sequence[Held]], int] = _sizes,
    ) -> None:
        self.share = share or unlimited()
        self.batch_bytes = min(batch_bytes, self.share.floor)
        self.size = 0
        self.stopped = False
        self.failure: Exception | None = None
        self._batch_size = batch_size
        self._linger = linger
        self._weigh = weigh
        self._messages: deque[Held] = deque()
        self._changed = asyncio.Event()
        self._in_work = 0
        self._next = 0.0

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._messages)

    def add(self, messages: Collection[Held], size: int) -> None:
        """Append messages with ``size`` bytes in total."""
        self._messages.extend(messages)
        self.size += size
        self.share.hold(size)
        self._changed.set()

    def drain(self) -> list[Held]:
        """Remove and return everything that waits."""
        waiting, size = self._all()
        self.share.hold(-size)
        return waiting

    def _all(self) -> tuple[list[Held], int]:
        waiting, size = list(self._messages), self.size
        self._messages.clear()
        self.size = 0
        return waiting, size

    def stop(self) -> None:
        """Let `batch` return. Idempotent."""
        self.stopped = True
        self._changed.set()

    def fail(self, failure: Exception | None) -> None:
        """Let `batch` raise ``failure`` once nothing is left. None ends that."""
        self.failure = failure
        self._changed.set()

    def settled(self, count: int, size: int) -> None:
        """``count`` messages with ``size`` bytes in total are no longer in work."""
        self._in_work -= count
        if self._in_work <= 0:
            self._changed.set()
        self.share.hold(-size)

    @contextlib.contextmanager
    def keeping(self, messages: Sequence[Held]) -> Iterator[None]:
        """A context in which ``messages`` still count as memory, though no longer as work."""
        size = self._weigh(messages)
        self.share.hold(size)
        try:
            yield
        finally:
            self.share.hold(-size)

    async def batch(self) -> tuple[list[Held], int]:
        """The next batch and its size, released by the rules above. Empty after `stop`.

        Removes nothing before it returns, so it is safe to cancel.
        """
        while not self.stopped:
            if not self._messages:
                if self.failure is not None:
                    raise self.failure
                await self._change()
                continue
            if self._linger and not self._full:
                await self._fill()
            if self._messages:
                batch, size = self._take()
                alone = len(batch) == 1
                self._next = 0.0 if alone else asyncio.get_running_loop().time() + _APART_SECONDS
                self._in_work += len(batch)
                return batch, size
        return [], 0

    def rest(self) -> tuple[list[Held], int]:
        """What is left after `stop`, a batch at a time. Empty if nothing is."""
        batch, size = self._take() if self._messages else ([], 0)
        self._in_work += len(batch)
        return batch, size

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _fill(self) -> None:
        clock = asyncio.get_running_loop().time
        begun = clock()
        while not self._full and not self.stopped:
            until = max(begun + self._linger if self._in_work > 0 else 0.0, self._next)
            if until <= clock():
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._change()

    @property
    def _full(self) -> bool:
        return len(self._messages) >= self._batch_size or self.size >= self.batch_bytes

    def _take(self) -> tuple[list[Held], int]:
        if len(self._messages) <= self._batch_size and self.size <= self.batch_bytes:
            return self._all()
        batch = list(islice(self._messages, self._batch_size))
        size = self._weigh(batch)
        if size > self.batch_bytes:
            batch, size = self._as_many_as_fit(batch)
        for _ in batch:
            self._messages.popleft()
        self.size -= size
        return batch, size

    def _as_many_as_fit(self, batch: list[Held]) -> tuple[list[Held], int]:
        """The first of them that fit into a batch, one at least."""
        sums = list(accumulate([self._weigh((one,)) for one in batch]))
        count = max(1, bisect_right(sums, self.batch_bytes))
        return batch[:count], sums[count - 1]
