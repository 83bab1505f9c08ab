"""One source's way through the worker: fetch, decode, plan, write, KV, ack.

Batches overlap: while one is written, the next is fetched and decoded. At most ``in_flight``
batches are between fetch and ack; that bound is the back-pressure. The acknowledgement comes last,
so a crash anywhere means redelivery, and redelivery changes nothing.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence

import structlog

from schemas.event import Event
from worker.commit import Committer, Decoded
from worker.decode import Decoder
from worker.errors import SourceUnavailable, Unavailable
from worker.hydrate import Hydrator
from worker.metrics import Metrics
from worker.plan import make_plan
from worker.ports import DeadLetter, Message, Source, Written

log = structlog.get_logger()


class Pipeline:
    """Moves messages of one source into PostgreSQL and KV until it is told to stop."""

    def __init__(
        self,
        source: Source,
        decoder: Decoder,
        committer: Committer,
        hydrator: Hydrator,
        metrics: Metrics,
        *,
        in_flight: int,
        isolate_after: int,
        max_deliveries: int,
        nack_delay: float,
    ) -> None:
        self.source = source
        self.active = time.monotonic()
        self._decoder = decoder
        self._committer = committer
        self._hydrator = hydrator
        self._metrics = metrics
        self._slots = asyncio.Semaphore(in_flight)
        self._isolate_after = isolate_after
        self._max_deliveries = max_deliveries
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
            task = asyncio.create_task(self._settle(messages), name=f"batch-{self.source.name}")
            self._tasks.add(task)
            task.add_done_callback(self._finished)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        self.active = time.monotonic()
        if not task.cancelled() and (error := task.exception()):
            log.error("batch_failed", source=self.source.name, error=repr(error))

    async def _fetch(self) -> Sequence[Message]:
        stages = Stages(self._metrics)
        while True:
            try:
                messages = await self.source.fetch()
            except SourceUnavailable as error:
                log.warning("fetch_retried", source=self.source.name, error=str(error))
                await asyncio.sleep(1.0)
            else:
                stages.end("fetch")
                return messages

    async def _settle(self, messages: Sequence[Message]) -> None:
        """Store and acknowledge; what cannot be stored now is given back for later."""
        for part in self._parts(messages):
            try:
                await self._process(part)
            except Unavailable as error:
                log.warning(
                    "batch_returned",
                    source=self.source.name,
                    messages=len(part),
                    delay=self._nack_delay,
                    error=str(error),
                )
                await self.source.nack(part, self._nack_delay)

    def _parts(self, messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
        """Messages that were often delivered go alone: one of them may be what kills workers."""
        suspects = [m for m in messages if m.deliveries > self._isolate_after]
        if not suspects:
            yield messages
            return
        trusted = [m for m in messages if m.deliveries <= self._isolate_after]
        if trusted:
            yield trusted
        for message in suspects:
            yield [message]

    async def _process(self, messages: Sequence[Message]) -> None:
        """The whole way of a batch. An error of our own is narrowed down like a poisoned row."""
        try:
            stages = Stages(self._metrics)
            batch = self._decode(messages)
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
            log.exception("batch_split", source=self.source.name, messages=len(messages))
            if len(messages) == 1:
                await self._keep(messages[0], error)
                return
            middle = len(messages) // 2
            await self._process(messages[:middle])
            await self._process(messages[middle:])

    def _decode(self, messages: Sequence[Message]) -> list[Decoded]:
        self._decoder.tick()
        decode = self._decoder.decode
        if messages[0].deliveries > self._max_deliveries:
            return [(message, self._exhausted(message)) for message in messages]
        return [(message, decode(message)) for message in messages]

    def _exhausted(self, message: Message) -> DeadLetter:
        text = f"delivered {message.deliveries} times, max_deliveries is {self._max_deliveries}"
        return DeadLetter(message=message, reason="deliveries_exhausted", error=text)

    async def _keep(self, message: Message, error: Exception) -> None:
        letter = DeadLetter(message=message, reason="internal_error", error=repr(error))
        await self._committer.commit([(message, letter)], make_plan([]), self.source.epoch)
        await self.source.ack([message])

    def _report(
        self,
        messages: Sequence[Message],
        written: Written,
        letters: Sequence[DeadLetter],
        stages: "Stages",
    ) -> None:
        self._metrics.batch(self.source.name, messages, written, letters)
        for letter in letters:
            log.warning(
                "message_rejected",
                source=self.source.name,
                reason=letter.reason,
                sequence=letter.message.position,
                event_id=letter.event_id,
            )
        log.info(
            "batch_written",
            source=self.source.name,
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
