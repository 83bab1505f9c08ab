"""Getting a batch into PostgreSQL: patience with the server, isolation of poison.

A server that is away is waited for. A row that PostgreSQL refuses is found by halving the batch,
about k log2(n) more transactions for k bad rows in n; the others commit.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from penstock.schemas.event import Event
from penstock.worker.errors import RowRejected, SinkUnavailable, Unavailable
from penstock.worker.pipeline.plan import Plan, make_plan
from penstock.worker.pipeline.ports import DeadLetter, Message, Origin, Written

log = structlog.get_logger()

_REASONS = {
    "22003": "out_of_range",
    "22021": "nul_character",
    "22P05": "nul_character",
    "OverflowError": "out_of_range",
    "54001": "too_deep",
}
"""SQLSTATEs that name a fault of the event more closely than ``row_rejected`` does."""

Decoded = tuple[Message, Event | DeadLetter]
"""A message and what became of it."""


class Sink(Protocol):
    """Stores a plan as a whole, or not at all."""

    async def write(self, plan: Plan, letters: Sequence[DeadLetter], origin: Origin) -> Written:
        """Commit. Raises Unavailable (try again) or RowRejected (a row is at fault)."""


class _StopWhenSet(stop_base):
    """Stops retrying once an asyncio event is set; tenacity's own takes a thread's event."""

    def __init__(self, stopping: asyncio.Event) -> None:
        self._stopping = stopping

    def __call__(self, retry_state: RetryCallState) -> bool:  # noqa: ARG002  (as tenacity calls)
        return self._stopping.is_set()


class Committer:
    """Commits decoded batches of one source.

    ``retry_for`` is how long, in seconds, an unavailable server is waited for before the batch is
    given up; ``stopping`` ends the waiting early.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        transport: str,
        stream: str,
        retry_for: float,
        stopping: asyncio.Event,
        on_retry: Any = None,
    ) -> None:
        self._sink = sink
        self._transport = transport
        self._stream = stream
        self._on_retry = on_retry
        self._retrying = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            wait=wait_random_exponential(multiplier=0.2, max=5.0),
            stop=stop_after_delay(retry_for) | _StopWhenSet(stopping),
            before_sleep=self._before_sleep,
            reraise=True,
        )

    async def commit(
        self, batch: Sequence[Decoded], plan: Plan, epoch: str
    ) -> tuple[Written, list[DeadLetter]]:
        """Store the batch, whose plan is ``plan``. Returns what was done and the dead letters.

        Raises Unavailable if the server stays away, and SinkUnavailable if a message cannot even be
        kept as a dead letter: then nothing of it may be acknowledged.
        """
        letters = [outcome for _, outcome in batch if isinstance(outcome, DeadLetter)]
        try:
            written: Written = await self._retrying.copy()(
                self._sink.write, plan, letters, self._origin(batch, epoch)
            )
        except RowRejected as error:
            return await self._isolate(batch, epoch, error)
        return written, letters

    async def _isolate(
        self, batch: Sequence[Decoded], epoch: str, error: RowRejected
    ) -> tuple[Written, list[DeadLetter]]:
        """Commit the halves by themselves; a single refused event becomes a dead letter."""
        if len(batch) == 1:
            message, outcome = batch[0]
            if isinstance(outcome, DeadLetter):
                raise SinkUnavailable(f"cannot keep a dead letter: {error}") from error
            return await self._commit_again([(message, _refused(message, outcome, error))], epoch)
        middle = len(batch) // 2
        first, first_letters = await self._commit_again(batch[:middle], epoch)
        second, second_letters = await self._commit_again(batch[middle:], epoch)
        return _sum(first, second), first_letters + second_letters

    async def _commit_again(
        self, batch: Sequence[Decoded], epoch: str
    ) -> tuple[Written, list[DeadLetter]]:
        plan = make_plan([outcome for _, outcome in batch if isinstance(outcome, Event)])
        return await self.commit(batch, plan, epoch)

    def _origin(self, batch: Sequence[Decoded], epoch: str) -> Origin:
        positions = {message.position for message, _ in batch} - {None}
        return Origin(
            transport=self._transport,
            stream=self._stream,
            epoch=epoch,
            sequences=sorted(position for position in positions if position is not None),
        )

    def _before_sleep(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning(
            "batch_retried",
            source=self._stream,
            attempt=state.attempt_number,
            error=str(error),
        )
        if self._on_retry is not None:
            self._on_retry()


def _refused(message: Message, event: Event, error: RowRejected) -> DeadLetter:
    return DeadLetter(
        message=message,
        reason=_REASONS.get(error.code, "row_rejected"),
        error=str(error),
        event_id=event.id,
        occurred_at=event.time,
    )


def _sum(a: Written, b: Written) -> Written:
    return Written(
        new=a.new + b.new,
        duplicate=a.duplicate + b.duplicate,
        dead_letters=a.dead_letters + b.dead_letters,
        seconds=a.seconds + b.seconds,
    )
