"""Bringing committed rows to the bucket: one round at a time, for all batches that are waiting.

Batches that commit during a round are collected; the next round reads and puts the rows of all of
them, each key once. A round also waits a moment for a batch that is about to commit. So the busier
the worker, the fewer puts per event.

What a batch touches lazily it does not wait for: such keys are put off, come in rounds of their own
once they are due, and are lost with the process. The next comparison with PostgreSQL, which every
worker begins with, finds them.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Protocol

import structlog

from penstock.worker.errors import PenstockError
from penstock.worker.pipeline.mirror import Mirror
from penstock.worker.pipeline.ports import KvRow, KvTouch
from penstock.worker.pipeline.postponed import Key, Postponed, Touched

log = structlog.get_logger()

_TOGETHER = 2
"""Batches that a round waits for. With more, too few batches would be in work meanwhile."""

_GATHER_SECONDS = 0.05
"""Longest wait for them, because another batch may be waiting for a lock."""


_AT_ONCE = 5_000
"""Most keys that were put off and go in one round: batches may be waiting for the next one."""


class Reader(Protocol):
    """Reads committed rows."""

    def read(self, touched: Mapping[KvTouch, Sequence[Key]]) -> AsyncGenerator[list[KvRow]]:
        """The rows that the keys name, in pieces with one row per KV key. Raises Unavailable."""


class NotMirrored:
    """For a worker without a bucket."""

    def expecting(self) -> contextlib.AbstractContextManager[None]:
        """Nobody waits."""
        return contextlib.nullcontext()

    async def hydrate(self, touched: Touched) -> None:
        """Nothing is mirrored."""

    async def keep_up(self) -> None:
        """Nothing is put off."""

    def trouble(self, patience: float) -> str | None:  # noqa: ARG002
        """Nothing is late."""
        return None

    async def flush(self) -> None:
        """Nothing is left."""

    async def finish(self, deadline: float) -> None:
        """Nothing is left."""


class Hydrator:
    """Mirrors rows for any number of pipelines. What is touched lazily may wait for ``interval``
    seconds, if somebody runs `keep_up` meanwhile.
    """

    def __init__(self, reader: Reader, mirror: Mirror, *, interval: float = 0.0) -> None:
        self.postponed = Postponed(interval)
        self._reader = reader
        self._mirror = mirror
        self._waiting: dict[KvTouch, set[Key]] = {}
        self._batches = self._expected = 0
        self._news = asyncio.Event()
        self._round: asyncio.Future[None] | None = None
        self._worker: asyncio.Task[None] | None = None
        self._refused: tuple[float, str] | None = None

    @contextlib.contextmanager
    def expecting(self) -> Iterator[None]:
        """A context in which a batch is being committed, so that a round may wait for it."""
        self._expected += 1
        try:
            yield
        finally:
            self._expected -= 1
            self._news.set()

    async def hydrate(self, touched: Touched) -> None:
        """Return once the bucket is at least as far as the rows are now, lazy ones excepted.
        Raises Unavailable.
        """
        now = self.postponed.put_off(touched)
        if now:
            await self._join_round(now)

    async def keep_up(self) -> None:
        """Bring what was put off as it gets due, until cancelled."""
        while self.postponed.slice:
            await asyncio.sleep(self.postponed.slice)
            try:
                while due := self.postponed.take(_AT_ONCE):
                    await self._join_round(due)
                    self._refused = None
            except PenstockError as error:
                since = self._refused[0] if self._refused else time.monotonic()
                self._refused = since, str(error)
                log.warning("lazy_keys_wait", keys=len(self.postponed), error=str(error))

    def trouble(self, patience: float) -> str | None:
        """Why what was put off has not come to the bucket for ``patience`` seconds, if so."""
        if self._refused is None or time.monotonic() - self._refused[0] <= patience:
            return None
        return f"{len(self.postponed)} keys that were put off are late: {self._refused[1]}"

    async def flush(self) -> None:
        """Bring all that was put off, due or not. Raises PenstockError."""
        while left := self.postponed.take(_AT_ONCE, early=True):
            await self._join_round(left)

    async def finish(self, deadline: float) -> None:
        """`flush` by ``deadline``, in the loop's time. The next comparison brings the rest."""
        try:
            async with asyncio.timeout_at(deadline):
                await self.flush()
        except (PenstockError, TimeoutError) as error:
            log.warning("lazy_keys_left", keys=len(self.postponed), error=str(error) or "no time")

    async def _join_round(self, touched: Touched) -> None:
        try:
            await self._next_round(touched)
        except BaseException:
            self.postponed.again(touched)
            raise

    async def _next_round(self, touched: Touched) -> None:
        for rule, keys in touched.items():
            self._waiting.setdefault(rule, set()).update(keys)
        self._batches += 1
        self._news.set()
        if self._round is None:
            self._round = asyncio.get_running_loop().create_future()
        coming = self._round
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._rounds(), name="hydrate")
        await asyncio.shield(coming)

    async def _rounds(self) -> None:
        while self._round is not None:
            await self._gather()
            keys, coming = self._waiting, self._round
            self._waiting, self._round, self._batches = {}, None, 0
            try:
                await self._bring({rule: sorted(found) for rule, found in keys.items()})
            except Exception as error:  # noqa: BLE001  (raised again where it is waited for)
                coming.set_exception(error)
                coming.exception()  # mark it as retrieved: all waiters may have been cancelled
            else:
                coming.set_result(None)

    async def _gather(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GATHER_SECONDS):
                while self._expected and self._batches < _TOGETHER:
                    self._news.clear()
                    await self._news.wait()

    async def _bring(self, touched: Mapping[KvTouch, Sequence[Key]]) -> None:
        async with aclosing(self._reader.read(touched)) as pieces:
            async for rows in pieces:
                await self._mirror.put(rows)
