"""The path of one source's batches: fetch, decode, plan, write, derive, hydrate, ack.

Batches overlap: while one is written, the next is fetched and decoded. At most ``in_flight``
batches are between fetch and ack; that bound is the back-pressure. The acknowledgement comes last,
so a crash anywhere means redelivery, and redelivery changes nothing.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence

import structlog

from penstock.worker.errors import NoRoomForLetters, SourceUnavailable, Unavailable
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.commit import Committer
from penstock.worker.pipeline.derive import Deriver, NotDerived
from penstock.worker.pipeline.hydrate import Hydrator, NotMirrored
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.own_faults import OwnFaults
from penstock.worker.pipeline.poison import PoisonWatch
from penstock.worker.pipeline.ports import Judge, Written
from penstock.worker.pipeline.progress import Progress
from penstock.worker.pipeline.receipts import NoReplies, Receipts, Replies
from penstock.worker.pipeline.source import Source

log = structlog.get_logger()

_HELD = 10
"""How many times the usual delay a message is put off that only a person can help."""


class Pipeline:
    """Moves messages of one source into PostgreSQL and KV until it is told to stop.

    ``active`` is when a batch last arrived or was finished, on the monotonic clock; ``progress``
    says whether it moves, and what holds it up; ``faults`` knows what our own code fails at.
    ``settled_at`` is the Unix time of the last batch that was stored and acknowledged. Publishers
    who ask for a receipt get it through ``replies``.
    """

    def __init__(
        self,
        source: Source,
        judge: Judge,
        committer: Committer,
        hydrator: Hydrator | NotMirrored,
        metrics: Metrics,
        *,
        name: str,
        in_flight: int,
        poison: PoisonWatch,
        nack_delay: float,
        progress: Progress | None = None,
        deriver: Deriver | NotDerived | None = None,
        replies: Replies | None = None,
    ) -> None:
        self.source = source
        self.name = name
        self.active = time.monotonic()
        self.progress = progress or Progress()
        self.faults = OwnFaults()
        self.settled_at: float | None = None
        self._judge = judge
        self._committer = committer
        self._deriver = deriver or NotDerived()
        self._hydrator = hydrator
        self._metrics = metrics
        self._receipts = Receipts(replies or NoReplies(), metrics, name)
        self._slots = asyncio.Semaphore(in_flight)
        self._poison = poison
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
            batch = await self._fetch()
            if not batch:
                break
            self.active = time.monotonic()
            self.progress.waits()
            self._metrics.waits(self.name, batch.messages[0].stored_at)
            task = asyncio.create_task(self._settle(batch), name=f"batch-{self.name}")
            self._tasks.add(task)
            task.add_done_callback(self._finished)
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _fetch(self) -> Batch:
        stages = Stages(self._metrics)
        while True:
            try:
                batch = await self.source.fetch()
            except SourceUnavailable as error:
                log.warning("fetch_retried", source=self.name, error=str(error))
                self.progress.held(error)
                await asyncio.sleep(1.0)
            else:
                stages.end("fetch")
                return batch

    async def _settle(self, batch: Batch) -> None:
        """Store and acknowledge; what cannot be stored now is returned for redelivery."""
        left = deque([batch])
        try:
            self._metrics.redelivered(self.name, len(batch) - batch.messages.deliveries.count(1))
            left = deque(await self._poison.parts(batch))
            while left:
                async with self._poison.handling(left[0]):
                    halves = await self._process(left[0])
                    left.popleft()
                left.extendleft(reversed(halves))
        except Exception as error:  # after any error, the rest must be delivered again
            self.progress.returns(error)
            await self._nack(left, error)
            if not isinstance(error, Unavailable):
                self.faults.returned(left[0], error)
                raise
        else:
            self.progress.settled(more=self.busy > 1)
            self.settled_at = time.time()

    async def _process(self, batch: Batch) -> Sequence[Batch]:
        """All steps for one batch. After an error of our own: the parts to process instead."""
        stages = Stages(self._metrics)
        try:
            with self._hydrator.expecting():
                if not batch.outcomes:
                    batch.outcomes = self._judge.decode(batch.messages)
                    stages.end("decode")
                touched = batch.plan.touched
                stages.end("plan")
                written = await self._committer.commit(batch)
                stages.end("write")
            if due := batch.plan.due:
                await self._deriver.derive(due)
                stages.end("derive")
            await self._hydrator.hydrate(touched)
            stages.end("kv")
            self._receipts.answer(batch, written)
            await batch.ack()
            stages.end("ack")
        except Unavailable:
            raise
        except NoRoomForLetters as error:
            return await self._refuse(batch, error)
        except Exception as error:  # the worker keeps running, and isolates the message at fault
            log.exception("batch_split", source=self.name, messages=len(batch))
            if batch.refused_whole:
                raise
            return batch.halves() or await self._alone(batch, error)
        self.faults.stored(batch)
        self._report(batch, written, stages)
        return ()

    async def _refuse(self, batch: Batch, error: NoRoomForLetters) -> Sequence[Batch]:
        """Return the messages that may not be kept as letters; the rest of the batch goes on."""
        refused = set(map(id, error.messages))
        log.error("letters_refused", source=self.name, messages=len(refused), error=str(error))
        self._metrics.letters_refused(self.name, len(refused))
        self.progress.returns(error)
        back = batch.part([one for one in batch.messages if id(one) in refused])
        await back.nack(self._nack_delay * _HELD)
        return [found] if (found := batch.without(refused)) else []

    async def _alone(self, batch: Batch, error: Exception) -> Sequence[Batch]:
        """A single message that our own code fails at: kept, or returned if there are many."""
        if self.faults.keep(batch, error):
            return [batch.refused("internal_error", repr(error))]
        log.error("message_held", source=self.name, why=self.faults.trouble)
        await batch.nack(self._nack_delay * _HELD)
        return ()

    async def _nack(self, left: Sequence[Batch], error: Exception) -> None:
        log.warning(
            "batch_returned",
            source=self.name,
            messages=sum(map(len, left)),
            delay=self._nack_delay,
            error=str(error),
        )
        for part in left:
            await part.nack(self._nack_delay)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        self.active = time.monotonic()
        if not task.cancelled() and (error := task.exception()):
            log.error("batch_failed", source=self.name, error=repr(error))

    def _report(self, batch: Batch, written: Written, stages: "Stages") -> None:
        self._metrics.batch(self.name, batch.messages, written)
        for letter in written.letters:
            log.warning(
                "message_rejected",
                source=self.name,
                reason=letter.reason,
                offset=letter.message.offset,
                event_id=letter.event_id,
            )
        log.info(
            "batch_written",
            source=self.name,
            messages=len(batch),
            new=written.new,
            duplicate=written.duplicate,
            dead_letters=len(written.letters),
            **stages.milliseconds,
        )


class Stages:
    """Times the stages of one batch."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._last = time.perf_counter()
        self.milliseconds: dict[str, float] = {}

    def end(self, stage: str) -> None:
        """End the stage that began with the previous call."""
        now = time.perf_counter()
        self._metrics.stage(stage, now - self._last)
        self.milliseconds[f"{stage}_ms"] = round((now - self._last) * 1000, 1)
        self._last = now
