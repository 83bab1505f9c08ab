"""Bringing committed rows to the bucket: one round at a time, for all batches that are waiting.

Batches that commit during a round are collected; the next round reads and puts the rows of all of
them, each key once. A round also waits a moment for a batch that is about to commit. So the busier
the worker, the fewer puts per event.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from penstock.worker.pipeline.mirror import Mirror
from penstock.worker.pipeline.ports import KvRow, KvTouch

Touched = Mapping[KvTouch, Sequence[tuple[Any, ...]]]

_TOGETHER = 2
"""Batches that a round waits for. With more, too few batches would be in work meanwhile."""

_GATHER_SECONDS = 0.05
"""Longest wait for them, because another batch may be waiting for a lock."""


class Reader(Protocol):
    """Reads committed rows."""

    def read(self, touched: Touched) -> AsyncGenerator[list[KvRow]]:
        """The rows that the keys name, in pieces with one row per KV key. Raises Unavailable."""


class NotMirrored:
    """For a worker without a bucket."""

    def expecting(self) -> contextlib.AbstractContextManager[None]:
        """Nobody waits."""
        return contextlib.nullcontext()

    async def hydrate(self, touched: Touched) -> None:
        """Nothing is mirrored."""


class Hydrator:
    """Mirrors rows for any number of pipelines."""

    def __init__(self, reader: Reader, mirror: Mirror) -> None:
        self._reader = reader
        self._mirror = mirror
        self._waiting: dict[KvTouch, set[tuple[Any, ...]]] = {}
        self._batches = self._expected = 0
        self._news = asyncio.Event()
        self._round: asyncio.Future[None] | None = None
        self._worker: asyncio.Task[None] | None = None

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
        """Return once the bucket is at least as far as the rows are now. Raises Unavailable."""
        if not touched:
            return
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

    async def _bring(self, touched: Touched) -> None:
        async with aclosing(self._reader.read(touched)) as pieces:
            async for rows in pieces:
                await self._mirror.put(rows)
