"""One source's way through the worker: fetch, decode, plan, write, KV, ack.

Batches overlap: while one is written, the next is fetched and decoded. A message that comes alone
while nothing is in work goes at once; else messages gather for the linger time, or so that small
batches stay a moment apart: batches grow with load.
At most ``in_flight`` batches are between fetch and ack; that bound is the back-pressure. The
acknowledgement comes last, so a crash anywhere means redelivery, and redelivery changes nothing.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from operator import attrgetter
from typing import Protocol

import structlog

from penstock.schemas.event import Event
from penstock.worker.errors import SourceUnavailable, Unavailable
from penstock.worker.pipeline.commit import Committer
from penstock.worker.pipeline.decode import Decoder
from penstock.worker.pipeline.hydrate import Hydrator, NotMirrored
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.plan import make_plan
from penstock.worker.pipeline.ports import DeadLetter, Message, Source, Written

log = structlog.get_logger()

_is_suspect = attrgetter("suspect")


class Suspects(Protocol):
    """Remembers, beyond the life of a worker, which messages workers did not survive."""

    async def crashes(self, messages: Sequence[Message]) -> list[int]:
        """How often handling of each began and never ended. Raises Unavailable."""

    def handling(self, messages: Sequence[Message]) -> AbstractAsyncContextManager[None]:
        """Note that handling begins, and forget it once it ends: then this worker survived. Only
        one at a time in this process, so that nobody dies of another's. Raises Unavailable.
        """

    async def forget(self, messages: Sequence[Message]) -> None:
        """They are done with. Raises Unavailable."""


class Pipeline:
    """Moves messages of one source into PostgreSQL and KV until it is told to stop.

    ``active`` is when something last came or was settled, ``progressed`` when a batch was last
    stored and acknowledged, or came after a time without work (both on the monotonic clock).
    """

    def __init__(
        self,
        source: Source,
        decoder: Decoder,
        committer: Committer,
        hydrator: Hydrator | NotMirrored,
        metrics: Metrics,
        *,
        name: str,
        in_flight: int,
        suspects: Suspects,
        watch_after: int,
        max_crashes: int,
        nack_delay: float,
    ) -> None:
        self.source = source
        self.name = name
        self.active = self.progressed = time.monotonic()
        self._decoder = decoder
        self._committer = committer
        self._hydrator = hydrator
        self._metrics = metrics
        self._slots = asyncio.Semaphore(in_flight)
        self._suspects = suspects
        self._watch_after = watch_after
        self._max_crashes = max_crashes
        self._nack_delay = nack_delay
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> int:
        """Batches between fetch and ack."""
        return len(self._tasks)

    async def run(self) -> None:
        """Run until the source is stopped; returns when every batch is settled."""
        while True:
            await self._slots.acquire()
            messages = await self._fetch()
            if not messages:
                break
            self.active = time.monotonic()
            if not self._tasks:
                self.progressed = self.active
            task = asyncio.create_task(self._settle(messages), name=f"batch-{self.name}")
            self._tasks.add(task)
            task.add_done_callback(self._finished)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        self.active = time.monotonic()
        if not task.cancelled() and (error := task.exception()):
            log.error("batch_failed", source=self.name, error=repr(error))

    async def _fetch(self) -> Sequence[Message]:
        stages = Stages(self._metrics)
        while True:
            try:
                messages = await self.source.fetch()
            except SourceUnavailable as error:
                log.warning("fetch_retried", source=self.name, error=str(error))
                await asyncio.sleep(1.0)
            else:
                stages.end("fetch")
                return messages

    async def _settle(self, messages: Sequence[Message]) -> None:
        """Store and acknowledge; what cannot be stored now is given back for later."""
        deliveries = [message.deliveries for message in messages]
        self._metrics.redelivered(self.name, len(deliveries) - deliveries.count(1))
        suspects: list[Message] = []
        if max(deliveries) > self._watch_after or any(map(_is_suspect, messages)):
            counted = zip(messages, deliveries, strict=True)
            suspects = [m for m, n in counted if n > self._watch_after or m.suspect]
        left = deque([messages])
        try:
            if suspects:
                left = deque(await self._parts(messages, suspects))
            while left:
                await (self._try(left[0]) if suspects else self._process(left[0]))
                left.popleft()
        except Unavailable as error:
            await self._give_back([message for part in left for message in part], error)
        else:
            self.progressed = time.monotonic()

    async def _give_back(self, messages: Sequence[Message], error: Unavailable) -> None:
        log.warning(
            "batch_returned",
            source=self.name,
            messages=len(messages),
            delay=self._nack_delay,
            error=str(error),
        )
        await self.source.nack(messages, self._nack_delay)

    async def _parts(
        self, messages: Sequence[Message], suspects: Sequence[Message]
    ) -> list[Sequence[Message]]:
        """Those that a worker died of go alone, after the others, the most suspect last."""
        found = await self._suspects.crashes(suspects)
        crashes = {id(m): count for m, count in zip(suspects, found, strict=True) if count}
        together = [m for m in messages if id(m) not in crashes]
        parts: list[Sequence[Message]] = [together] if together else []
        for message in sorted(suspects, key=lambda m: crashes.get(id(m), 0)):
            died = crashes.get(id(message), 0)
            if died >= self._max_crashes:
                error = f"{died} workers died while they handled it, max_crashes is reached"
                await self._keep(message, "crashes_workers", error)
                await self._suspects.forget([message])
            elif died:
                parts.append([message])
        return parts

    async def _try(self, messages: Sequence[Message]) -> None:
        """Process with a note of it, which stays if this worker dies of them."""
        async with self._suspects.handling(messages):
            await self._process(messages)

    async def _process(self, messages: Sequence[Message]) -> None:
        """The whole way of a batch. An error of our own is narrowed down like a poisoned row."""
        try:
            stages = Stages(self._metrics)
            with self._hydrator.expecting():
                batch = list(zip(messages, self._decoder.decode(messages), strict=True))
                stages.end("decode")
                plan = make_plan([outcome for _, outcome in batch if isinstance(outcome, Event)])
                stages.end("plan")
                written, letters = await self._committer.commit(batch, plan, self.source.epoch)
                stages.end("write")
            await self._hydrator.hydrate(plan.touched)
            stages.end("kv")
            await self.source.ack(messages)
            stages.end("ack")
            self._report(messages, written, letters, stages)
        except Unavailable:
            raise
        except Exception as error:  # the worker stays up; the message at fault is found and kept
            log.exception("batch_split", source=self.name, messages=len(messages))
            if len(messages) == 1:
                await self._keep(messages[0], "internal_error", repr(error))
                return
            middle = len(messages) // 2
            await self._process(messages[:middle])
            await self._process(messages[middle:])

    async def _keep(self, message: Message, reason: str, error: str) -> None:
        """Make a dead letter of a message without looking into it."""
        letter = DeadLetter(message=message, reason=reason, error=error)
        await self._committer.commit([(message, letter)], make_plan([]), self.source.epoch)
        await self.source.ack([message])

    def _report(
        self,
        messages: Sequence[Message],
        written: Written,
        letters: Sequence[DeadLetter],
        stages: "Stages",
    ) -> None:
        self._metrics.batch(self.name, messages, written, letters)
        for letter in letters:
            log.warning(
                "message_rejected",
                source=self.name,
                reason=letter.reason,
                sequence=letter.message.position,
                event_id=letter.event_id,
            )
        log.info(
            "batch_written",
            source=self.name,
            messages=len(messages),
            new=written.new,
            duplicate=written.duplicate,
            dead_letters=written.dead_letters,
            **stages.milliseconds,
        )


class Stages:
    """Times the stages of one batch."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._last = time.perf_counter()
        self.milliseconds: dict[str, float] = {}

    def end(self, stage: str) -> None:
        """The stage that began with the last call is over."""
        now = time.perf_counter()
        self._metrics.stage(stage, now - self._last)
        self.milliseconds[f"{stage}_ms"] = round((now - self._last) * 1000, 1)
        self._last = now
