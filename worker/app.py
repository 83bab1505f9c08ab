"""The composition root of `run`: puts a worker together as the settings say."""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from penstock import __version__
from penstock.schemas.catalogue import Catalogue
from penstock.worker.answers import open_answers
from penstock.worker.brokers import buckets
from penstock.worker.brokers.ports import Broker, GivenUp, Lent
from penstock.worker.brokers.scope import Scope
from penstock.worker.ending import end
from penstock.worker.errors import TopologyError
from penstock.worker.lifecycle import Assembly, patiently, tell
from penstock.worker.ops.http import NO_PORT, HealthServer, OwnAnswers
from penstock.worker.ops.monitor import Monitor, Pingable, Read, wait_until_idle
from penstock.worker.ops.presence import keep_present
from penstock.worker.outbox.drafts import Drafts
from penstock.worker.outbox.relay import relaying
from penstock.worker.pipeline.budget import Budget
from penstock.worker.pipeline.commit import Committer
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.derive import Deriver, keep_jobs
from penstock.worker.pipeline.hydrate import Hydrator, NotMirrored
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.mirror import Mirror
from penstock.worker.pipeline.pipeline import Pipeline
from penstock.worker.pipeline.poison import PoisonWatch
from penstock.worker.pipeline.ports import Judge
from penstock.worker.pipeline.progress import Progress
from penstock.worker.pipeline.unknown_fields import UnknownFields
from penstock.worker.pipeline.upkeep import (
    keep_hydrated,
    keep_partitions,
    keep_retention,
    later,
    watch_letters,
)
from penstock.worker.postgres.crash_marks import PostgresCrashMarkers
from penstock.worker.postgres.letter_box import PostgresLetters
from penstock.worker.postgres.offsets import PostgresOffsets
from penstock.worker.postgres.outbox import PostgresOutbox
from penstock.worker.postgres.probe import PostgresProbe
from penstock.worker.postgres.replicas import PostgresReplicas
from penstock.worker.postgres.store import opened
from penstock.worker.postgres.views import HydratedViews
from penstock.worker.settings.keys import Settings

log = structlog.get_logger()

_UPKEEP_AFTER_SECONDS = 5


class Worker(Assembly):
    """Everything that one process runs, opened in order and closed in reverse order."""

    def __init__(
        self,
        settings: Settings,
        stopping: asyncio.Event,
        listening: socket.socket | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self._stopping = stopping
        self._listening = listening
        self._metrics = Metrics()
        self._unknown_fields = UnknownFields(self._metrics)
        self._reconcile = asyncio.Event()
        self._alone = asyncio.Lock()
        self._failed: list[str] = []
        self.watched: list[Read] = []
        self._relaying: Mapping[str, Callable[[], Coroutine[Any, Any, None]]] = {}
        self._mirrored: tuple[HydratedViews, Mirror] | None = None
        self._hydrator: Hydrator | NotMirrored = NotMirrored()

    async def _open(self) -> None:
        settings = self.settings
        self._catalogue = Catalogue.load(settings.event_packages)
        store = opened(settings, self._catalogue)
        self.store = await self._stack.enter_async_context(store)
        self._deriver = Deriver(self.store.due, self._catalogue.derived, self._metrics)
        self._scope = await self._stack.enter_async_context(
            Scope(settings, self._catalogue, reconnected=self._reconcile.set, lost=self._lost)
        )
        brokers = [await self._open_broker(name) for name in settings.brokers]
        if settings.kv:
            await self._open_buckets()
        kept = await self.store.sink.prepare()
        self._window = Window(
            self._catalogue, kept, past=settings.window_past, future=settings.window_future
        )
        if settings.outbox:
            await self._open_outbox(brokers[0])
        self._replies = await open_answers(self._stack, settings, self._catalogue, brokers)
        await self._open_readers(brokers)
        self._monitor = await self._watch()
        await self._serve_health()

    async def _open_readers(self, brokers: Sequence[Broker]) -> None:
        """A pipeline for every stream of every broker, and for what brokers gave up."""
        settings = self.settings
        given_up = [(one, found) for one in brokers if (found := await one.given_up())]
        readers = len(brokers) * len(self._scope.streams) + len(given_up)
        self.budget = Budget(settings.memory_limit, readers, settings.batch_bytes)
        self._metrics.memory(lambda: self.budget.used, settings.memory_limit)
        self.pipelines = [
            await self._pipeline(broker, name, self._decoder())
            for broker in brokers
            for name in self._scope.streams
        ]
        for broker, found in given_up:
            await self._drain(broker, found)

    async def _watch(self) -> Monitor:
        settings = self.settings
        probe = PostgresProbe(settings.postgres_dsn, name=settings.worker_id)
        servers: dict[str, Pingable] = {"postgres": await self._stack.enter_async_context(probe)}
        if self._mirrored is not None:
            _, mirror = self._mirrored
            servers |= {f"bucket {store.bucket}": store for store in mirror.stores}
        late, patience = self._hydrator.trouble, settings.stalled_after
        return Monitor(servers, self.watched, self._metrics, stalled_after=patience, late=late)

    async def _open_broker(self, name: str) -> Broker:
        """Connect, and create or check the broker's topology."""
        broker = await self._scope.broker(name)
        make = partial(broker.provision, dry_run=False)
        ready = make if self.settings.provision else broker.check
        tell(await patiently(ready, self.settings.start_timeout))
        return broker

    async def _open_buckets(self) -> None:
        if self.settings.provision:
            tell(await buckets.provision(self._scope, dry_run=False))
        mirror = await buckets.open_mirror(self._scope, self._metrics, self._reconcile)
        views = HydratedViews(self.store.pool, self._catalogue.hydrated, mirror.leave_out)
        await views.prepare()
        self._hydrator = Hydrator(views, mirror, interval=self.settings.kv_status_interval)
        self._mirrored = views, mirror

    async def _open_outbox(self, broker: Broker) -> None:
        """Events that the database itself sends go to the broker that is named first."""
        max_bytes = self.settings.max_event_bytes
        outlet = await self._stack.enter_async_context(broker.outlet())
        decoder = Decoder(self._catalogue, self._window, max_bytes=max_bytes)
        drafts = Drafts(self._catalogue, decoder, max_bytes=max_bytes)
        outbox = PostgresOutbox(self.store.pool, self.settings)
        self._relaying = relaying(outbox, outlet.sender, drafts, self._metrics)

    def _lost(self, server: str) -> None:
        """The server has closed our connection for good: stop, so that a supervisor restarts us."""
        if not self._stopping.is_set():
            self._failed.append(server)
            self._stopping.set()

    def _decoder(self) -> Decoder:
        size, seen = self.settings.max_event_bytes, self._unknown_fields.seen
        return Decoder(self._catalogue, self._window, max_bytes=size, on_unknown=seen)

    async def _drain(self, broker: Broker, found: GivenUp) -> None:
        """Keep what a broker gave up as dead letters, if it lets us read that."""
        try:
            self.pipelines.append(await self._pipeline(broker, found.stream, found.judge))
        except TopologyError as error:
            log.warning("given_up_unread", source=found.stream, error=str(error))

    async def _pipeline(self, broker: Broker, stream: str, judge: Judge) -> Pipeline:
        settings = self.settings
        transport, worker_id = broker.transport, settings.worker_id
        offsets = PostgresOffsets(self.store.pool, transport=transport, worker_id=worker_id)
        lent = Lent(self.budget.share(), offsets)
        source = await patiently(  # a new source for each attempt
            lambda: self._stack.enter_async_context(broker.source(stream, lent)),
            settings.start_timeout,
        )
        name = stream if len(settings.brokers) == 1 else f"{source.transport} {stream}"
        progress = Progress()

        def retried(error: BaseException) -> None:
            self._metrics.batch_retried(name)
            progress.held(error)

        pipeline = Pipeline(
            source,
            judge,
            self._committer(name, retried),
            self._hydrator,
            self._metrics,
            name=name,
            in_flight=settings.in_flight,
            poison=self._poison(source.transport, stream),
            nack_delay=settings.nack_delay,
            progress=progress,
            deriver=self._deriver,
            replies=self._replies[transport],
        )
        self.watched.append(Read(pipeline, source, lent.share))
        return pipeline

    def _committer(self, name: str, on_retry: Callable[[BaseException], None]) -> Committer:
        return Committer(
            self.store.sink,
            name=name,
            retry_for=self.settings.retry_for,
            stopping=self._stopping,
            on_retry=on_retry,
        )

    def _poison(self, transport: str, stream: str) -> PoisonWatch:
        settings = self.settings
        return PoisonWatch(
            PostgresCrashMarkers(self.store.pool, self._alone, transport=transport, stream=stream),
            watch_after=settings.watch_after,
            max_crashes=settings.max_crashes,
        )

    async def _serve_health(self) -> None:
        settings = self.settings
        port = self._listening or settings.http_port
        if port == NO_PORT:
            return
        answers = OwnAnswers(self._metrics.registry, self._monitor.checks)
        server = HealthServer(settings.http_host, port, answers)
        await self._stack.enter_async_context(server)
        if self._listening is None:
            log.info("health_served", host=settings.http_host, port=server.port)

    async def work(self, until_idle: float | None) -> int:
        """Run the pipelines until told to stop, then drain. Returns the exit code."""
        replicas = PostgresReplicas(self.store.pool, self.settings.worker_id, __version__)
        background = [
            self._spawn(keep_present(replicas, self.pipelines), "presence"),
            self._spawn(self._hydrator.keep_up(), "lazy keys"),
            self._spawn(watch_letters(PostgresLetters(self.store.pool), self._metrics), "letters"),
            self._spawn(self._deriver.sweep(), "derive"),
            *(self._spawn(probe, name) for name, probe in self._monitor.probes.items()),
            *(self._spawn(work(), name) for name, work in self._relaying.items()),
            *self._upkeep(),
        ]
        running = [
            self._spawn(pipeline.run(), f"pipeline {pipeline.name}") for pipeline in self.pipelines
        ]
        if self._mirrored is not None:
            hydrating = keep_hydrated(*self._mirrored, self._reconcile, self.settings.kv_reconcile)
            background.append(self._spawn(hydrating, "hydrate"))
        if until_idle is not None:
            background.append(self._spawn(self._stop_when_idle(until_idle), "idle"))
        log.info("worker_started", sources=[p.name for p in self.pipelines])
        await self._stopping.wait()
        log.info("worker_stopping", deadline=self.settings.drain_timeout)
        deadline = asyncio.get_running_loop().time() + self.settings.drain_timeout
        for task in background:
            task.cancel()
        for pipeline in self.pipelines:
            pipeline.source.stop()
        late = (await asyncio.wait(running, timeout=self.settings.drain_timeout))[1]
        await end(*background, *late)
        if not late:
            await self._hydrator.finish(deadline)
            await replicas.leave()
        log.info("worker_stopped", drained=not late, failed=self._failed)
        return 1 if late or self._failed else 0

    def _upkeep(self) -> Iterator[asyncio.Task[None]]:
        """What can wait for a moment, begun one after the other: each keeps PostgreSQL busy, and a
        worker that has just started has a stream to catch up with.
        """
        works = {
            "partitions": partial(keep_partitions, self.store.upkeep, self._window.keep),
            "jobs": partial(keep_jobs, self.store.jobs, self._metrics),
        }
        if self.settings.retention:
            works["retention"] = partial(keep_retention, self.store.retention)
        for seconds, (name, work) in enumerate(works.items(), _UPKEEP_AFTER_SECONDS):
            yield self._spawn(later(seconds, work), name)

    def _spawn(self, work: Any, name: str) -> asyncio.Task[None]:
        """A task whose failure stops the worker: a worker that is half dead would look healthy."""
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.error("task_failed", task=task.get_name(), error=repr(error), exc_info=error)
            self._failed.append(task.get_name())
            self._stopping.set()

    async def _stop_when_idle(self, seconds: float) -> None:
        await self._deriver.swept.wait()
        await wait_until_idle(self.watched, seconds)
        self._stopping.set()
