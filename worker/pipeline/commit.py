"""Getting a batch into PostgreSQL: retries while the server is away, isolation of bad rows.

A row that PostgreSQL rejects is found by halving the batch, with about k log2(n) more transactions
for k bad rows in n; the other rows commit. So is a row that takes longer than a statement may.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from penstock.worker.errors import Cause, RowRejected, SinkUnavailable, Unavailable
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.ports import Written

log = structlog.get_logger()


class Sink(Protocol):
    """Stores a whole batch, or nothing of it."""

    async def write(self, batch: Batch) -> Written:
        """Commit its plan, its dead letters and where it came from. Raises Unavailable (try again)
        or RowRejected (a row is at fault).
        """


class _StopWhenSet(stop_base):
    """Stops retrying when an asyncio event is set; tenacity has this for threads only."""

    def __init__(self, stopping: asyncio.Event) -> None:
        self._stopping = stopping

    def __call__(self, retry_state: RetryCallState) -> bool:  # noqa: ARG002  (as tenacity calls)
        return self._stopping.is_set()


class Committer:
    """Commits decoded batches of the source ``name``.

    ``retry_for`` is for how many seconds a batch is retried while a server is unavailable;
    ``stopping`` ends that early; ``on_retry`` is called with the error before each retry.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        name: str,
        retry_for: float,
        stopping: asyncio.Event,
        on_retry: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self._sink = sink
        self._name = name
        self._on_retry = on_retry
        self._retrying = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            wait=wait_random_exponential(multiplier=0.2, max=5.0),
            stop=stop_after_delay(retry_for) | _StopWhenSet(stopping),
            before_sleep=self._before_sleep,
            reraise=True,
        )

    async def commit(self, batch: Batch) -> Written:
        """Store a decoded batch.

        Raises Unavailable if the server stays away, and SinkUnavailable if a message cannot even be
        stored as a dead letter: then nothing of the batch may be acknowledged.
        """
        try:
            written: Written = await self._retrying.copy()(self._sink.write, batch)
        except RowRejected as error:
            return await self._isolate(batch, error)
        except SinkUnavailable as error:
            if error.cause is not Cause.SLOW or not (halves := batch.halves()):
                raise
            return await self._set_apart(halves, error)
        return written

    async def _set_apart(self, halves: Sequence[Batch], error: SinkUnavailable) -> Written:
        """Commit at least the half that is not slow, then what it can of the other. If neither gets
        done, it is the server that is slow.
        """
        done: list[Written] = []
        slow: list[Batch] = []
        for half in halves:
            try:
                done.append(await self._sink.write(half))
            except RowRejected as rejected:
                done.append(await self._isolate(half, rejected))
            except SinkUnavailable:
                slow.append(half)
        if not done:
            raise error
        return _sum([*done, *[await self.commit(half) for half in slow]])

    async def _isolate(self, batch: Batch, error: RowRejected) -> Written:
        """Commit each half by itself; a single rejected event becomes a dead letter."""
        if halves := batch.halves():
            return _sum([await self.commit(half) for half in halves])
        if batch.refused_whole:
            if plain := batch.plain():
                return await self.commit(plain)
            raise SinkUnavailable(f"cannot keep a dead letter: {error}") from error
        return await self.commit(batch.refused(error.reason, str(error)))

    def _before_sleep(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning(
            "batch_retried",
            source=self._name,
            attempt=state.attempt_number,
            error=str(error),
        )
        if error is not None:
            self._on_retry(error)


def _sum(parts: Sequence[Written]) -> Written:
    return Written(
        new=sum(part.new for part in parts),
        duplicate=sum(part.duplicate for part in parts),
        letters=[letter for part in parts for letter in part.letters],
        events=[event for part in parts for event in part.events],
        refused=[letter for part in parts for letter in part.refused],
    )
