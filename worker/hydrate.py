"""Bringing committed rows to the bucket: one round at a time, for all batches that wait for one.

While a round is under way, the batches that commit meanwhile gather; the next round reads and puts
the rows of all of them, each key once. So the busier the worker, the fewer puts per event.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from worker.metrics import Metrics
from worker.ports import KvRow, KvTouch, StateStore

Touched = Mapping[KvTouch, Sequence[tuple[Any, ...]]]


class Reader(Protocol):
    """Reads committed rows back."""

    async def read(self, touched: Touched) -> list[KvRow]:
        """The rows that the keys name, one per KV key. Raises Unavailable."""


class NotMirrored:
    """For a worker without a bucket."""

    async def hydrate(self, touched: Touched) -> None:
        """Nothing is mirrored."""


class Hydrator:
    """Mirrors rows for any number of pipelines."""

    def __init__(self, reader: Reader, store: StateStore, metrics: Metrics) -> None:
        self._reader = reader
        self._store = store
        self._metrics = metrics
        self._waiting: dict[KvTouch, set[tuple[Any, ...]]] = {}
        self._round: asyncio.Future[None] | None = None
        self._worker: asyncio.Task[None] | None = None

    async def hydrate(self, touched: Touched) -> None:
        """Return once the bucket is at least as far as the rows are now. Raises Unavailable."""
        if not touched:
            return
        for rule, keys in touched.items():
            self._waiting.setdefault(rule, set()).update(keys)
        if self._round is None:
            self._round = asyncio.get_running_loop().create_future()
        coming = self._round
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._rounds(), name="hydrate")
        await asyncio.shield(coming)

    async def _rounds(self) -> None:
        while self._round is not None:
            keys, coming = self._waiting, self._round
            self._waiting, self._round = {}, None
            try:
                await self._mirror({rule: sorted(found) for rule, found in keys.items()})
            except Exception as error:  # noqa: BLE001  (raised again where it is waited for)
                coming.set_exception(error)
                coming.exception()  # all who waited may have been cancelled
            else:
                coming.set_result(None)

    async def _mirror(self, touched: Touched) -> None:
        puts = await self._store.put(await self._reader.read(touched))
        self._metrics.kv_puts(self._store.bucket, puts)
