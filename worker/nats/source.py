"""The fast path for JetStream: our own pull requests and parser, and recovery by itself.

nats-py's ``fetch`` costs several times the CPU, takes a user's header ``Status:`` for a status of
the server, and does not notice that a connection has been silent for minutes. Here messages come
through `nats.wire`, and a watchdog checks for the server's signs of life.
"""

import asyncio
import contextlib
import math
from typing import Self

import structlog
from nats.aio.client import Client

from penstock.worker.errors import PenstockError, SourceUnavailable, TopologyError
from penstock.worker.nats.api import Consumer, Epochs
from penstock.worker.nats.connection import reads, revive
from penstock.worker.nats.message import JetStreamMessages
from penstock.worker.nats.options import ReadingOptions
from penstock.worker.nats.pull import Pull, PullPlan, Pulls, Verdict
from penstock.worker.nats.unsettled import Unsettled
from penstock.worker.nats.wire import BatchParser, Frame, publishes, send, size_of
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.budget import Share
from penstock.worker.pipeline.intake import Intake
from penstock.worker.pipeline.ports import Backlog

log = structlog.get_logger()

_PROGRESS, _NAK = b"+WPI", b"-NAK"
_BUFFERED_BATCHES = 2
_PAUSE_SECONDS, _POLL_SECONDS = 0.25, 0.05
_ANSWER_SECONDS = 2.0


class JetStreamSource:
    """A durable pull consumer. At most two batches, by count and by bytes, are asked for or waiting
    to be fetched, and no more than ``share`` allows.

    Every connection begins a generation of new inboxes, so requests of an older one deliver
    nothing. What is buffered or handed out stays valid while stream and consumer keep their epochs;
    if one is recreated, it is dropped, and its acknowledgements with it.
    """

    transport = "nats"

    def __init__(
        self, nc: Client, stream: str, reading: ReadingOptions, share: Share | None = None
    ) -> None:
        self.name = stream
        self._nc = nc
        self._consumer = Consumer(nc, stream, reading.durable)
        self._heartbeat = reading.heartbeat
        self._intake: Intake[Frame] = Intake(
            batch_size=reading.batch_size,
            batch_bytes=reading.batch_bytes,
            linger=reading.linger,
            share=share,
            weigh=size_of,
        )
        self._intake.share.wake = self._ask
        plan = PullPlan(
            subject=f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{reading.durable}",
            messages=reading.batch_size,
            bytes=self._intake.batch_bytes,
            heartbeat=reading.heartbeat,
        )
        self._pulls = Pulls(nc, plan, _BUFFERED_BATCHES, self._received, self._intake.share)
        self._handed_out = Unsettled()
        self._unsent: list[bytes] = []
        self._epochs: Epochs | None = None
        self._running = False
        self._broken = asyncio.Event()
        self._refusal: TopologyError | None = None
        self._watcher: asyncio.Task[None] | None = None
        # Silence is counted in ticks, not timed: a worker that was itself stopped for a while has
        # not been listening. What it holds is extended by the clock, as the server counts, and half
        # a tick early rather than one late.
        self._tick_seconds = min(reading.heartbeat / 2, reading.ack_wait / 3)
        self._extend_seconds = reading.ack_wait / 3 - self._tick_seconds / 2
        self._quiet_limit = math.ceil(2 * reading.heartbeat / self._tick_seconds)
        self._quiet_ticks = 0

    @property
    def healthy(self) -> bool:
        quiet = self._quiet_ticks >= self._quiet_limit
        here = self._running and self._nc.is_connected and not quiet
        return here and self._consumer.lacking is None

    async def __aenter__(self) -> Self:
        BatchParser.of(self._nc).on_reset(self, self._lost)
        try:
            await self._begin()
        except BaseException:
            await self._end()
            raise
        self._watcher = asyncio.create_task(self._watch(), name=f"watch-{self.name}")
        self._watcher.add_done_callback(self._watch_ended)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.stop()
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait({self._watcher})
        try:
            if self._running and self._nc.is_connected:
                await self._nack_rest()
        finally:
            await self._end()

    def stop(self) -> None:
        self._intake.stop()

    async def fetch(self) -> Batch:
        frames, size = await self._intake.batch()
        if self._intake.stopped and not frames:
            await self._let_arrive()
            frames, size = self._intake.rest()
        self._ask()
        if not frames:
            return Batch((), 0, self)
        try:
            messages = JetStreamMessages(frames)
        except ValueError as error:  # the server sent one of them not; all come to the next inbox
            self._intake.settled(len(frames), size)
            self._lost()
            raise SourceUnavailable(f"{self.name}: {error}") from error
        self._handed_out.add(messages)
        return Batch(messages, size, self, epoch=self._epochs.stream if self._epochs else "")

    async def ack(self, batch: Batch) -> None:
        self._settle(batch, b"+ACK")

    async def nack(self, batch: Batch, delay: float) -> None:
        self._settle(batch, b'-NAK {"delay": %d}' % (delay * 1e9) if delay > 0 else _NAK)

    async def backlog(self) -> Backlog:
        return await self._consumer.backlog()

    def _settle(self, batch: Batch, verdict: bytes) -> None:
        """Settle what was handed out. While disconnected, keep it until the epochs are known."""
        self._intake.settled(len(batch), batch.size)
        replies = self._handed_out.take(batch.messages)
        if not replies:
            return
        commands = publishes(replies, verdict)
        if self._running:
            send(self._nc, commands)
        else:
            self._unsent.append(commands)

    def _ask(self) -> None:
        if self._running and not self._intake.stopped:
            self._pulls.ask(len(self._intake), self._intake.size)

    def _received(self, pull: Pull, frames: list[Frame]) -> None:
        self._quiet_ticks = 0
        delivered, size, statuses = pull.received(frames)
        if delivered:
            self._intake.add(delivered, size)
        for status in statuses:
            self._judge(*pull.judge(status))
        self._ask()

    def _judge(self, verdict: Verdict, text: str) -> None:
        if verdict is Verdict.PAUSED:
            log.info("pull_paused", source=self.name, status=text)
            self._pulls.pause(self._ask)
        elif verdict is Verdict.GONE:
            self._lost()
        elif verdict is Verdict.REFUSED:
            self._refusal = TopologyError(
                f"consumer {self._consumer.durable} of stream {self.name} refuses pull requests: "
                f"{text}; compare it with `penstock provision --dry-run`"
            )
            self._lost()

    def _lost(self) -> None:
        """All requests are void; the watcher begins the next generation."""
        self._running = False
        self._broken.set()

    async def _watch(self) -> None:
        while True:
            await self._until_broken()
            await self._renew()

    def _watch_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._running = False
        log.error("source_failed", source=self.name, error=str(error), exc_info=error)
        if not isinstance(error, PenstockError):
            error = SourceUnavailable(f"{self.name}: {error!r}")
        self._intake.fail(error)

    async def _until_broken(self) -> None:
        clock = asyncio.get_running_loop().time
        told = clock()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._tick_seconds):
                    await self._broken.wait()
                    return
            if clock() - told >= self._extend_seconds:
                told = clock()
                self._tell(_PROGRESS)
            await self._listen()

    def _tell(self, verdict: bytes) -> None:
        """Send ``verdict`` for everything unsettled: in progress, or to be redelivered."""
        replies = [*self._handed_out, *[reply for _, reply, _, _ in self._intake]]
        if replies:
            send(self._nc, publishes(replies, verdict))

    async def _listen(self) -> None:
        self._pulls.give_up_overdue()
        self._ask()
        if self._pulls.owed:
            self._quiet_ticks += 1
        if self._quiet_ticks >= self._quiet_limit:
            await self._break_silence()

    async def _break_silence(self) -> None:
        """Begin a new generation; if the server does not answer, on a new connection."""
        alive = reads(self._nc)
        log.warning("source_silent", source=self.name, reading=alive)
        try:
            if alive:
                await self._consumer.info(min(_ANSWER_SECONDS, self._heartbeat))
        except SourceUnavailable:
            alive = False
        if not alive:
            await revive(self._nc)
        self._lost()

    async def _renew(self) -> None:
        while True:
            if self._refusal is not None:
                raise self._refusal
            await self._pulls.drop()
            await self._connected()
            try:
                return await self._begin()
            except SourceUnavailable as error:
                self._intake.fail(error)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _connected(self) -> None:
        while not self._nc.is_connected:
            if self._nc.is_closed:
                raise SourceUnavailable(f"{self.name}: the connection was closed for good")
            await revive(self._nc)
            await asyncio.sleep(_POLL_SECONDS)

    async def _begin(self) -> None:
        """Begin a generation. Raises SourceUnavailable."""
        self._broken.clear()
        epochs = await self._consumer.epochs(_ANSWER_SECONDS)
        await self._pulls.begin()
        if self._broken.is_set():
            raise SourceUnavailable(f"{self.name}: the connection was lost again")
        if self._epochs not in {None, epochs}:
            log.warning("stream_recreated", source=self.name, dropped=len(self._intake))
            self._intake.drain()
            self._handed_out.clear()
            self._unsent.clear()
        self._epochs = epochs
        self._running, self._quiet_ticks = True, 0
        self._intake.fail(None)
        for commands in self._unsent:
            send(self._nc, commands)
        self._unsent.clear()
        self._tell(_PROGRESS)
        self._ask()

    async def _let_arrive(self) -> None:
        """End the requests and take what still comes: else it would wait for the ack wait."""
        await self._pulls.run_out()
        with contextlib.suppress(SourceUnavailable):
            await self._pulls.stop_deliveries()
            await self._consumer.info(_ANSWER_SECONDS)
            await self._pulls.drop()

    async def _nack_rest(self) -> None:
        """Return what is unsettled, so that it is redelivered at once, here or elsewhere."""
        await self._let_arrive()
        self._tell(_NAK)
        with contextlib.suppress(SourceUnavailable):
            # The server reads in order: once it answers this, it has read every acknowledgement.
            await self._consumer.info(_ANSWER_SECONDS)

    async def _end(self) -> None:
        self._running = False
        BatchParser.of(self._nc).on_reset(self, None)
        await self._pulls.drop()
        self._intake.drain()
        self._handed_out.clear()
