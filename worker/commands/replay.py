"""``penstock replay``: bring what a broker, a file or PostgreSQL has kept into PostgreSQL again."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Self

import click
import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.worker import migrate
from penstock.worker.brokers import buckets
from penstock.worker.brokers.scope import Scope
from penstock.worker.commands.advancing import advancing
from penstock.worker.errors import MigrationError, PenstockError
from penstock.worker.lifecycle import stop_on_signals
from penstock.worker.pipeline.budget import Budget
from penstock.worker.pipeline.commit import Committer, Sink
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.hydrate import Hydrator, NotMirrored
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.pipeline import Pipeline
from penstock.worker.pipeline.poison import PoisonWatch
from penstock.worker.pipeline.source import Log
from penstock.worker.postgres.crash_marks import PostgresCrashMarkers
from penstock.worker.postgres.mappings import check_mappings
from penstock.worker.postgres.pool import database
from penstock.worker.postgres.replay_sink import ComparingSink, ReplaySink
from penstock.worker.postgres.replays import Replays, Run, turn
from penstock.worker.postgres.sums import mend_sums, sum_columns
from penstock.worker.postgres.views import HydratedViews
from penstock.worker.replay.account import Account
from penstock.worker.replay.asked import Asked
from penstock.worker.replay.choice import Choice
from penstock.worker.replay.chosen import ChosenSource
from penstock.worker.replay.offsets import OffsetSet
from penstock.worker.settings.keys import Settings


class Report(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a replay did. ``replay`` is its row of bus.replay; ``finished`` is False if it was
    stopped before the end. ``mended`` counts the rows whose sums were set right, by table.
    """

    replay: int | None
    stream: str
    read: int
    inserted: int
    present: int
    differing: int
    rejected: int
    finished: bool
    dry_run: bool
    seconds: float
    rate: int
    differing_ids: Sequence[str]
    mended: dict[str, int] = {}


async def replay(
    settings: Settings,
    *,
    into: str | None,
    rebuild: str | None,
    dry_run: bool,
    as_json: bool,
    **asked: Any,
) -> int:
    """Read again, tell what became of it. Exit code: 1 if something differs, was rejected, or if it
    was stopped. Raises PenstockError if it cannot.
    """
    question = _question(settings, tuple(rebuild.split(",")) if rebuild else (), asked)
    report = await read_again(settings, question, into=into, dry_run=dry_run)
    click.echo(msgspec.json.encode(report).decode() if as_json else _text(report))
    return int(bool(report.differing or report.rejected or not report.finished))


async def read_again(
    settings: Settings, asked: Asked, *, into: str | None = None, dry_run: bool = False
) -> Report:
    """Read again until the end, or until a signal. Raises PenstockError if it cannot."""
    target = msgspec.structs.replace(settings, postgres_dsn=into) if into else settings
    with stop_on_signals() as stopping:
        async with _Replay(settings, target, asked, stopping, dry_run=dry_run) as running:
            return await running.work()


class _Replay:
    """One replay: opened in order, worked once, closed in reverse order."""

    def __init__(
        self,
        settings: Settings,
        target: Settings,
        asked: Asked,
        stopping: asyncio.Event,
        *,
        dry_run: bool,
    ) -> None:
        self._settings = settings
        self._target = target
        self._asked = asked
        self._stopping = stopping
        self._dry_run = dry_run
        self._stack = AsyncExitStack()
        self._metrics = Metrics()

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def _open(self) -> None:
        settings, target, asked = self._settings, self._target, self._asked
        self._catalogue = Catalogue.load(settings.event_packages)
        choice = Choice(asked, self._catalogue)
        _check_tables(asked, self._catalogue)
        await _check_schema(target)
        enter = self._stack.enter_async_context
        self._pool = await enter(database(target))
        await check_mappings(self._pool, self._catalogue)
        self._replays = Replays(self._pool, worker_id=target.worker_id)
        unfinished = None
        if not self._dry_run:
            await enter(turn(target, asked.text))
            unfinished = await self._replays.unfinished(asked.text)
        self._scope = await enter(Scope(settings, self._catalogue))
        if unfinished is not None:
            asked = msgspec.structs.replace(asked, to_seq=unfinished.last)
        self.log: Log = await enter(await self._log(asked, choice))
        done = OffsetSet(unfinished.done if unfinished else ())
        self.source = await enter(ChosenSource(self.log, asked.span(()), choice, done))
        self._run = unfinished
        await self._begin()

    async def _log(self, asked: Asked, choice: Choice) -> Any:
        settings = self._settings
        share = Budget(settings.memory_limit, 1, settings.batch_bytes).share()
        broker = await self._scope.broker(asked.source)
        return broker.log(asked.stream, asked.span(choice.subjects), share)

    async def _begin(self) -> None:
        """Nothing is written anywhere before there is something to write."""
        if not await self.source.any() and self._run is None:
            raise PenstockError(
                f"{self._asked.stream}: none of {self.source.seen} messages matches; widen the "
                "filters, or look with --dry-run at a shorter range"
            )
        if self._run is None and not self._dry_run:
            self._run = await self._replays.begin(self._asked.text, self.log.last)

    async def work(self) -> Report:
        """Read to the end, or until told to stop."""
        begun = time.monotonic()
        sink, window = await self._sink()
        pipeline = await self._pipeline(sink, window)
        reading = asyncio.create_task(pipeline.run(), name="replay")
        stopped = asyncio.create_task(self._stopping.wait(), name="stop")
        async with advancing("replaying", self.log.total, lambda: self.source.seen):
            await asyncio.wait({reading, stopped}, return_when=asyncio.FIRST_COMPLETED)
            self.source.stop()
            await reading
        stopped.cancel()
        finished = not self._stopping.is_set()
        account, mended = await self._end(sink, finished=finished)
        seconds = time.monotonic() - begun
        return self._report(account, mended, seconds, finished=finished)

    async def _sink(self) -> tuple[ReplaySink | ComparingSink, Window]:
        target, asked = self._target, self._asked
        live = ReplaySink(
            self._pool,
            self._catalogue,
            self._run or Run(number=0),
            worker_id=target.worker_id,
            rebuilt=asked.rebuild,
        )
        kept = await live.prepare()
        window = Window(self._catalogue, kept, past=target.window_past, future=target.window_future)
        if not self._dry_run:
            return live, window
        comparing = ComparingSink(self._pool, self._catalogue)
        await comparing.prepare()
        return comparing, window

    async def _pipeline(self, sink: Sink, window: Window) -> Pipeline:
        target, name = self._target, self._asked.stream
        markers = PostgresCrashMarkers(
            self._pool,
            asyncio.Lock(),
            transport=self._run.transport if self._run else "",
            stream=name,
        )
        return Pipeline(
            self.source,
            Decoder(self._catalogue, window, max_bytes=target.max_event_bytes),
            Committer(sink, name=name, retry_for=target.retry_for, stopping=self._stopping),
            await self._hydrator(),
            self._metrics,
            name=name,
            in_flight=target.in_flight,
            poison=PoisonWatch(
                markers, watch_after=target.watch_after, max_crashes=target.max_crashes
            ),
            nack_delay=target.nack_delay,
        )

    async def _hydrator(self) -> Hydrator | NotMirrored:
        """The bucket belongs to the database of the settings: no other one is mirrored there."""
        if self._dry_run or not self._settings.kv or self._target is not self._settings:
            return NotMirrored()
        if self._settings.provision:
            await buckets.provision(self._scope, dry_run=False)
        mirror = await buckets.open_mirror(self._scope, self._metrics, asyncio.Event())
        views = HydratedViews(self._pool, self._catalogue.hydrated, mirror.leave_out)
        await views.prepare()
        return Hydrator(views, mirror)

    async def _end(
        self, sink: ReplaySink | ComparingSink, *, finished: bool
    ) -> tuple[Account, dict[str, int]]:
        if isinstance(sink, ComparingSink):
            return sink.account, {}
        assert self._run is not None  # noqa: S101  (for mypy: only a dry run has none)
        mended = await self._mend() if finished else {}
        if finished:
            await self._replays.finish(self._run)
        return await self._replays.account(self._run), mended

    async def _mend(self) -> dict[str, int]:
        mended: dict[str, int] = {}
        for table in self._asked.rebuild:
            if sum_columns(self._catalogue, table):
                async with self._pool.acquire() as connection:
                    mended[table] = len(await mend_sums(connection, self._catalogue, table))
        return mended

    def _report(
        self, account: Account, mended: dict[str, int], seconds: float, *, finished: bool
    ) -> Report:
        return Report(
            replay=self._run.number if self._run else None,
            stream=self._asked.stream,
            read=account.read,
            inserted=account.inserted,
            present=account.present,
            differing=account.differing,
            rejected=account.rejected,
            finished=finished,
            dry_run=self._dry_run,
            seconds=round(seconds, 3),
            rate=int(self.source.wanted / seconds) if seconds else 0,
            differing_ids=account.differing_ids,
            mended=mended,
        )


def _question(settings: Settings, rebuild: tuple[str, ...], options: dict[str, Any]) -> Asked:
    """What was asked for. Raises PenstockError if it contradicts itself."""
    if not options["stream"]:
        raise PenstockError("name what to read: --stream NAME")
    for one, other in (("from_seq", "since"), ("to_seq", "until")):
        if options[one] is not None and options[other] is not None:
            names = f"--{one.replace('_', '-')} and --{other}"
            raise PenstockError(f"{names} say the same thing in two ways; give one of them")
    return Asked(source=settings.brokers[0], rebuild=rebuild, **options)


async def _check_schema(target: Settings) -> None:
    if found := await migrate.check(target.postgres_dsn, target.event_packages):
        lacking = "; ".join(map(str, found))
        raise MigrationError(f"{lacking}; run `penstock migrate up` before `penstock replay`")


def _check_tables(asked: Asked, catalogue: Catalogue) -> None:
    for table in asked.rebuild:
        if table not in catalogue.keys:
            known = ", ".join(sorted(catalogue.keys))
            raise PenstockError(f"--rebuild {table}: no events state its rows; known are {known}")


def _text(report: Report) -> str:
    verb = "would be inserted" if report.dry_run else "inserted"
    counts = (
        f"{report.read} messages of {report.stream} in {report.seconds:.1f} s: "
        f"{report.inserted} {verb}, {report.present} present, {report.differing} differing, "
        f"{report.rejected} rejected"
    )
    lines = [counts]
    lines += [f"differing: {one}" for one in report.differing_ids]
    lines += [f"sums mended in {table}: {count}" for table, count in report.mended.items()]
    if not report.finished:
        lines.append("stopped before the end; the same command goes on from here")
    return "\n".join(lines)
