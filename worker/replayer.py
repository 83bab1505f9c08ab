"""Puts a replay together: the ordinary pipeline, with another source and a sink that compares."""

import asyncio
import time
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.worker.brokers.scope import Scope
from penstock.worker.ending import end
from penstock.worker.errors import PenstockError, TopologyError
from penstock.worker.lifecycle import Assembly
from penstock.worker.mirroring import Mirrored, open_mirrored
from penstock.worker.pipeline.budget import Budget
from penstock.worker.pipeline.commit import Committer, Sink
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.derive import Deriver
from penstock.worker.pipeline.hydrate import Hydrator, NotMirrored
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.pipeline import Pipeline
from penstock.worker.pipeline.poison import PoisonWatch
from penstock.worker.pipeline.source import Log, Span
from penstock.worker.postgres.crash_marks import ReplayCrashMarkers, ended_workers, marked
from penstock.worker.postgres.due import PostgresDue
from penstock.worker.postgres.history_log import HistoryDecoder, HistoryLog
from penstock.worker.postgres.mappings import check_mappings
from penstock.worker.postgres.pool import database
from penstock.worker.postgres.replay_sink import ComparingSink, ReplaySink
from penstock.worker.postgres.replays import Replays, Run, turn
from penstock.worker.postgres.sums import mend_all
from penstock.worker.replay.account import Account
from penstock.worker.replay.asked import FILE, POSTGRES, Asked
from penstock.worker.replay.choice import Choice, check_tables
from penstock.worker.replay.chosen import ChosenSource
from penstock.worker.replay.file import FileLog
from penstock.worker.replay.offsets import OffsetSet
from penstock.worker.replay.outcome import Outcome
from penstock.worker.replay.standing import Standing
from penstock.worker.replay.suspects import Suspects
from penstock.worker.schema import check_schema
from penstock.worker.settings.keys import Settings

_RENDERED = 8
"""By how much data may grow where PostgreSQL writes its numbers out."""


class Replayer(Assembly):
    """One replay into the database of ``target``: opened in order, worked once, closed in reverse
    order. Entering raises PenstockError, in one sentence, and has changed nothing then.
    """

    def __init__(
        self,
        settings: Settings,
        asked: Asked,
        stopping: asyncio.Event,
        *,
        into: str | None = None,
        dry_run: bool = False,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._target = msgspec.structs.replace(settings, postgres_dsn=into) if into else settings
        self._apart = into is not None
        self._asked = asked
        self._stopping = stopping
        self._dry_run = dry_run
        self._metrics = Metrics()
        self._run: Run | None = None
        self._went_on = False
        self._mirrored: Mirrored | None = None

    @property
    def total(self) -> int:
        """How many messages there are to be read, about."""
        return self._log.total

    @property
    def seen(self) -> int:
        """How many have been read."""
        return self._source.seen

    async def _open(self) -> None:
        target, asked, enter = self._target, self._asked, self._stack.enter_async_context
        self._catalogue = Catalogue.load(target.event_packages)
        choice = Choice(asked, self._catalogue)
        check_tables(asked, self._catalogue)
        await check_schema(target, "replay")
        self._pool = await enter(database(target))
        await check_mappings(self._pool, self._catalogue)
        self._replays = Replays(self._pool, worker_id=target.worker_id)
        if not self._dry_run:
            await enter(turn(target, asked.text))
        self._scope = await enter(Scope(self._settings, self._catalogue))
        await self._open_log(asked.span(choice.subjects))
        await self._choose(choice)
        await self._begin()

    async def _open_log(self, span: Span) -> None:
        run = None if self._dry_run else await self._replays.unfinished(self._asked.text)
        if run is None or not await self._goes_on(run, span):
            self._span = span
            self._log = await self._stack.enter_async_context(await self._log_of(span))

    async def _goes_on(self, run: Run, span: Span) -> bool:
        """Go on with a run that was ended before its time, if what it reads is still there. It ends
        where it did; a part that moves, only begins where it did: more than is asked for now.
        """
        span = msgspec.structs.replace(span, since=run.since)
        async with AsyncExitStack() as opened:
            try:
                log = await opened.enter_async_context(await self._log_of(span))
            except TopologyError:  # raised again, unless less is asked for now
                return False
            if log.epoch != run.epoch:
                return False
            await self._stack.enter_async_context(opened.pop_all())
        self._run, self._log, self._span, self._went_on = run, log, span, True
        if not self._asked.moves:
            log.last = run.last
        if isinstance(log, HistoryLog):
            log.after = run.standing.mark
        return True

    async def _log_of(self, span: Span) -> AbstractAsyncContextManager[Log]:
        settings, asked = self._settings, self._asked
        if asked.source == FILE:
            return FileLog(asked.stream, span, batch_size=settings.batch_size)
        if asked.source == POSTGRES:
            pool = self._pool
            if self._apart:
                pool = await self._stack.enter_async_context(database(settings))
            types = list(asked.kinds(self._catalogue))
            return HistoryLog(pool, types, batch_size=settings.batch_size, span=span)
        share = Budget(settings.memory_limit, 1, settings.batch_bytes).share()
        broker = await self._scope.broker(asked.source)
        return broker.log(asked.stream, span, share)

    async def _choose(self, choice: Choice) -> None:
        """What is wanted of the log. A run that goes on was ended by a message, perhaps."""
        target, run = self._target, self._run
        self._deadly = await ended_workers(self._pool)
        known, first = self._deadly, 0
        if run is not None:
            marks = await marked(self._pool, transport=run.transport, stream=self._name)
            known, first = known | marks, target.in_flight * target.batch_size
        source = ChosenSource(
            self._log,
            self._span.until,
            choice,
            Suspects(known, first),
            done=OffsetSet(run.done if run else ()),
            standing=run.standing if run else Standing(),
        )
        self._source = await self._stack.enter_async_context(source)

    @property
    def _name(self) -> str:
        return self._asked.stream or POSTGRES

    async def _begin(self) -> None:
        """Nothing is written anywhere before there is something to write."""
        if not await self._source.any() and self._run is None and not self._stopping.is_set():
            raise PenstockError(
                f"{self._asked.stream or 'the history'}: none of {self.seen} messages matches; "
                "widen the filters"
            )
        last = self._log.last
        if self._run is not None:
            await self._replays.go_on(self._run, last)
        elif not self._dry_run:
            self._run = await self._replays.begin(
                self._asked.text, self._log.epoch, since=self._span.since, last=last
            )

    async def work(self) -> Outcome:
        """Read to the end, or until told to stop. Raises PenstockError for an error of our own."""
        begun = time.monotonic()
        sink, window = await self._sink()
        await self._open_buckets()
        hydrator: Hydrator | NotMirrored = NotMirrored()
        if self._mirrored is not None:
            hydrator = self._mirrored.hydrator(self._target.kv_status_interval)
        pipeline = self._pipeline(sink, window, hydrator)
        reading = asyncio.create_task(pipeline.run(), name="replay")
        stopped = asyncio.create_task(self._stopping.wait(), name="stop")
        trouble = asyncio.create_task(pipeline.faults.begun(), name="trouble")
        lazily = asyncio.create_task(hydrator.keep_up(), name="lazy keys")
        try:
            await asyncio.wait({reading, stopped, trouble}, return_when=asyncio.FIRST_COMPLETED)
            self._source.stop()
            await reading
        finally:
            await end(stopped, trouble, lazily)
        await hydrator.flush()
        if found := pipeline.faults.trouble:
            raise PenstockError(f"{found}; the same command goes on once that is mended")
        if self._source.gone:
            raise TopologyError(f"{self._source.gone}, which are stored")
        finished = not self._stopping.is_set() and await self._compared()
        account, mended = await self._end(sink, finished=finished)
        history = self._log if isinstance(self._log, HistoryLog) else None
        return Outcome(
            number=self._run.number if self._run else None,
            account=account,
            finished=finished,
            seconds=time.monotonic() - begun,
            messages=self._source.wanted,
            mended=mended,
            cannot=tuple(history.cannot()) if history else (),
            went_on=self._went_on,
        )

    async def _sink(self) -> tuple[ReplaySink | ComparingSink, Window]:
        target = self._target
        sink = ReplaySink(
            self._pool,
            self._catalogue,
            self._run or Run(number=0),
            worker_id=target.worker_id,
            rebuilt=self._asked.rebuild,
        )
        kept = await sink.prepare()
        # What a history holds is not too old for it.
        past = "unlimited" if self._asked.source == POSTGRES else target.window_past
        window = Window(self._catalogue, kept, past=past, future=target.window_future)
        if not self._dry_run:
            return sink, window
        comparing = ComparingSink(self._pool, self._catalogue)
        await comparing.prepare()
        return comparing, window

    def _pipeline(self, sink: Sink, window: Window, hydrator: Hydrator | NotMirrored) -> Pipeline:
        target, name = self._target, self._name
        markers = ReplayCrashMarkers(
            self._pool,
            asyncio.Lock(),
            transport=self._run.transport if self._run else "",
            stream=name,
            known=self._deadly,
            most=target.max_crashes,
        )
        deriver = Deriver(PostgresDue(self._pool), self._catalogue.derived, self._metrics)
        return Pipeline(
            self._source,
            self._decoder(window),
            Committer(sink, name=name, retry_for=target.retry_for, stopping=self._stopping),
            hydrator,
            self._metrics,
            name=name,
            in_flight=1 if self._asked.source == POSTGRES else target.in_flight,
            poison=PoisonWatch(
                markers, watch_after=target.watch_after, max_crashes=target.max_crashes
            ),
            nack_delay=target.nack_delay,
            deriver=None if self._dry_run else deriver,
        )

    def _decoder(self, window: Window) -> Any:
        size = self._target.max_event_bytes
        if self._asked.source != POSTGRES:
            return Decoder(self._catalogue, window, max_bytes=size)
        return HistoryDecoder(Decoder(self._catalogue, window, max_bytes=size * _RENDERED))

    async def _open_buckets(self) -> None:
        """The buckets belong to the database of the settings: no other one is mirrored there."""
        if self._dry_run or not self._settings.kv or self._apart:
            return
        self._mirrored = await open_mirrored(
            self._scope,
            self._pool,
            self._catalogue,
            self._metrics,
            provision=self._settings.provision,
        )

    async def _compared(self) -> bool:
        """Compare the buckets if an earlier process read some of it: it may have died between the
        commit and the bucket. False if told to stop meanwhile.
        """
        if self._mirrored is None or not self._went_on:
            return True
        return await self._mirrored.compare(self._stopping)

    async def _end(
        self, sink: ReplaySink | ComparingSink, *, finished: bool
    ) -> tuple[Account, dict[str, int]]:
        if isinstance(sink, ComparingSink):
            return sink.account, {}
        assert self._run is not None  # noqa: S101  (for mypy: only a dry run has none)
        mended: dict[str, int] = {}
        if finished:
            mended = await mend_all(self._pool, self._catalogue, self._asked.rebuild)
            await self._replays.finish(self._run)
        return await self._replays.account(self._run), mended
