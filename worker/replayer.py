"""Puts a replay together: the ordinary pipeline, with another source and a sink that compares."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event_type import EventType
from penstock.schemas.recall import losses
from penstock.worker.brokers import buckets
from penstock.worker.brokers.scope import Scope
from penstock.worker.ending import end
from penstock.worker.errors import PenstockError, TopologyError
from penstock.worker.lifecycle import Assembly
from penstock.worker.pipeline.budget import Budget
from penstock.worker.pipeline.commit import Committer, Sink
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.derive import Deriver
from penstock.worker.pipeline.hydrate import Hydrator, NotMirrored
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.pipeline import Pipeline
from penstock.worker.pipeline.poison import PoisonWatch
from penstock.worker.pipeline.source import Log
from penstock.worker.postgres.crash_marks import ReplayCrashMarkers, ended_workers, marked
from penstock.worker.postgres.due import PostgresDue
from penstock.worker.postgres.history_log import UNKNOWN, HistoryDecoder, HistoryLog
from penstock.worker.postgres.mappings import check_mappings
from penstock.worker.postgres.pool import borrowed, database
from penstock.worker.postgres.replay_sink import ComparingSink, ReplaySink
from penstock.worker.postgres.replays import Replays, Run, turn
from penstock.worker.postgres.sums import mend_sums, sum_columns
from penstock.worker.postgres.views import HydratedViews
from penstock.worker.replay.account import Account
from penstock.worker.replay.asked import FILE, POSTGRES, Asked
from penstock.worker.replay.choice import Choice, check_tables
from penstock.worker.replay.chosen import ChosenSource
from penstock.worker.replay.file import FileLog
from penstock.worker.replay.offsets import OffsetSet
from penstock.worker.replay.outcome import Cannot, Outcome
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
        self._log = await enter(await self._open_log(asked, choice))
        if not self._dry_run:
            await self._resume()
        await self._choose(choice)
        await self._begin()

    async def _open_log(self, asked: Asked, choice: Choice) -> AbstractAsyncContextManager[Log]:
        settings, span = self._settings, asked.span(choice.subjects)
        if asked.source == FILE:
            return FileLog(asked.stream, span, batch_size=settings.batch_size)
        if asked.source == POSTGRES:
            pool = self._pool
            if self._apart:
                pool = await self._stack.enter_async_context(database(settings))
            types = list(self._types())
            return HistoryLog(pool, types, batch_size=settings.batch_size, span=span)
        share = Budget(settings.memory_limit, 1, settings.batch_bytes).share()
        broker = await self._scope.broker(asked.source)
        return broker.log(asked.stream, span, share)

    async def _resume(self) -> None:
        """Go on with a run that was ended before its time, if there is one."""
        self._run = await self._replays.unfinished(self._asked.text, self._log.epoch)
        if self._run is not None:
            self._log.last = self._run.last
            if isinstance(self._log, HistoryLog):
                self._log.after = self._run.mark

    async def _choose(self, choice: Choice) -> None:
        """What is wanted of the log. A run that goes on was ended by a message, perhaps."""
        target, run = self._target, self._run
        self._deadly = await ended_workers(self._pool)
        known, first = self._deadly, 0
        if run is not None:
            marks = await marked(self._pool, transport=run.transport, stream=self._name)
            known, first = known | marks, target.in_flight * target.batch_size
        done = OffsetSet(run.done if run else ())
        span, suspects = self._asked.span(()), Suspects(known, first)
        source = ChosenSource(self._log, span, choice, done, suspects)
        self._source = await self._stack.enter_async_context(source)

    @property
    def _name(self) -> str:
        return self._asked.stream or POSTGRES

    def _types(self) -> Iterator[EventType]:
        """The types that are asked for, as far as their histories are concerned."""
        for kind in self._catalogue.types.values():
            if self._asked.type in {None, kind.name} and self._asked.stream in {"", kind.stream}:
                yield kind

    async def _begin(self) -> None:
        """Nothing is written anywhere before there is something to write."""
        if not await self._source.any() and self._run is None and not self._stopping.is_set():
            raise PenstockError(
                f"{self._asked.stream or 'the history'}: none of {self.seen} messages matches; "
                "widen the filters"
            )
        if self._run is None and not self._dry_run:
            self._run = await self._replays.begin(self._asked.text, self._log.epoch, self._log.last)

    async def work(self) -> Outcome:
        """Read to the end, or until told to stop. Raises PenstockError for an error of our own."""
        begun = time.monotonic()
        sink, window = await self._sink()
        hydrator = await self._hydrator()
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
        finished = not self._stopping.is_set()
        account, mended = await self._end(sink, finished=finished)
        return Outcome(
            number=self._run.number if self._run else None,
            account=account,
            finished=finished,
            seconds=time.monotonic() - begun,
            messages=self._source.wanted,
            mended=mended,
            cannot=tuple(self._cannot()),
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
            deriver=self._deriver(),
        )

    def _decoder(self, window: Window) -> Any:
        size = self._target.max_event_bytes
        if self._asked.source != POSTGRES:
            return Decoder(self._catalogue, window, max_bytes=size)
        return HistoryDecoder(Decoder(self._catalogue, window, max_bytes=size * _RENDERED))

    def _deriver(self) -> Deriver | None:
        if self._dry_run:
            return None
        return Deriver(PostgresDue(self._pool), self._catalogue.derived, self._metrics)

    async def _hydrator(self) -> Hydrator | NotMirrored:
        """The bucket belongs to the database of the settings: no other one is mirrored there."""
        if self._dry_run or not self._settings.kv or self._apart:
            return NotMirrored()
        if self._settings.provision:
            await buckets.provision(self._scope, dry_run=False)
        mirror = await buckets.open_mirror(self._scope, self._metrics, asyncio.Event())
        views = HydratedViews(self._pool, self._catalogue.hydrated, mirror.leave_out)
        await views.prepare()
        return Hydrator(views, mirror, interval=self._target.kv_status_interval)

    async def _end(
        self, sink: ReplaySink | ComparingSink, *, finished: bool
    ) -> tuple[Account, dict[str, int]]:
        if isinstance(sink, ComparingSink):
            return sink.account, {}
        assert self._run is not None  # noqa: S101  (for mypy: only a dry run has none)
        mended: dict[str, int] = {}
        if finished:
            mended = {table: await self._mend(table) for table in self._summed()}
            await self._replays.finish(self._run)
        return await self._replays.account(self._run), mended

    def _summed(self) -> Sequence[str]:
        return [name for name in self._asked.rebuild if sum_columns(self._catalogue, name)]

    async def _mend(self, table: str) -> int:
        async with borrowed(self._pool) as connection:
            return len(await mend_sums(connection, self._catalogue, table))

    def _cannot(self) -> Iterator[Cannot]:
        if not isinstance(self._log, HistoryLog):
            return
        for kind in self._types():
            for loss in losses(kind.spec):
                count = self._log.lost[kind.name]
                if count or not loss.some:
                    yield Cannot(kind.name, loss.what, kind.stream, count)
        if count := self._log.lost[UNKNOWN]:
            yield Cannot("?", UNKNOWN, events=count)
