"""The composition root: the only file that puts concrete adapters together."""

import asyncio
import difflib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self, TypeVar

import asyncpg
import structlog
from nats.aio.client import Client
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random_exponential

from schemas.catalogue import Catalogue
from worker import migrate, topology
from worker.commit import Committer
from worker.config import Settings
from worker.decode import Decoder, Window
from worker.errors import MigrationError, PenstockError, SettingsError, Unavailable
from worker.health import HealthServer
from worker.hydrate import Hydrator
from worker.lifecycle import stop_on_signals
from worker.metrics import Metrics
from worker.monitor import Monitor, wait_until_idle
from worker.nats_connection import NatsOptions, connect
from worker.pipeline import Pipeline
from worker.ports import Source
from worker.sinks.kv import JetStreamKv
from worker.sinks.postgres import PostgresSink
from worker.sinks.postgres_pool import open_pool
from worker.sinks.postgres_upkeep import PostgresUpkeep
from worker.sinks.suspects import PostgresSuspects
from worker.sources.jetstream import JetStreamSource
from worker.sources.jetstream_stock import StockJetStreamSource
from worker.topology_rules import Difference
from worker.upkeep import hydrate as hydrate_bucket
from worker.upkeep import keep_hydrated, keep_partitions

log = structlog.get_logger()
Opened = TypeVar("Opened")

_START_SECONDS = 30.0
"""How long a server that does not answer yet is waited for at start."""


async def run(settings: Settings, until_idle: float | None = None) -> int:
    """Work until told to stop, or until nothing came for ``until_idle`` seconds. Exit code."""
    with stop_on_signals() as stopping:
        _calm_collector()
        async with Worker(settings, stopping) as worker:
            return await worker.work(until_idle)


def _calm_collector() -> None:
    """Let the cyclic collector look rarely: batches are many objects and no cycles.

    By default it would walk all the rows in flight again and again, a quarter of the time.
    """
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)


class Worker:
    """Everything that one process runs, opened in order and closed in reverse."""

    def __init__(self, settings: Settings, stopping: asyncio.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        self._stack = AsyncExitStack()
        self._metrics = Metrics()
        self._reconcile = asyncio.Event()
        self._failed: list[str] = []

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
        settings = self._settings
        self._catalogue = Catalogue.load(settings.event_packages)
        await self._check_schema()
        self._pool = await self._stack.enter_async_context(database(settings))
        self._nc = await self._stack.enter_async_context(
            bus(settings, self._reconnected, self._closed)
        )
        await self._check_topology()
        self._sink = PostgresSink(self._pool, self._catalogue, worker_id=settings.worker_id)
        self._upkeep = PostgresUpkeep(self._pool)
        await self._upkeep.maintain()
        self._store = JetStreamKv(
            self._nc,
            settings.kv_bucket,
            on_conflict=lambda count: self._metrics.kv_conflicts(settings.kv_bucket, count),
            on_missing=self._bucket_missing,
        )
        self._hydrator = Hydrator(self._sink, self._store, self._metrics)
        kept = await self._sink.prepare()
        window = Window(
            self._catalogue, kept, past=settings.window_past, future=settings.window_future
        )
        names = stream_names(settings, self._catalogue)
        self.pipelines = [await self._pipeline(name, window) for name in names]
        self._monitor = Monitor(self._sink, self.pipelines, self._metrics)
        if settings.http_port >= 0:
            server = HealthServer(
                settings.http_host, settings.http_port, self._metrics.registry, self._monitor.checks
            )
            await self._stack.enter_async_context(server)
            log.info("health_served", host=settings.http_host, port=server.port)

    async def _check_schema(self) -> None:
        settings = self._settings
        if settings.migrate:
            await patiently(
                lambda: migrate.up(settings.postgres_dsn, packages=settings.event_packages)
            )
        found = await patiently(
            lambda: migrate.check(settings.postgres_dsn, settings.event_packages)
        )
        if found:
            problems = "; ".join(str(item) for item in found)
            raise MigrationError(f"{problems}; run `penstock migrate up`, or set migrate = true")

    async def _check_topology(self) -> None:
        settings = self._settings
        plans = stream_plans(settings, self._catalogue)
        if settings.provision:
            found = await topology.provision(self._nc, plans, **consumer_options(settings))
            found += await ensure_bucket(self._nc, settings)
            for difference in found:
                log.info("topology", difference=str(difference))
        else:
            await topology.check(self._nc, plans, **consumer_options(settings))

    async def _bucket_missing(self) -> None:
        await ensure_bucket(self._nc, self._settings)
        self._reconcile.set()

    async def _reconnected(self) -> None:
        self._reconcile.set()

    async def _closed(self) -> None:
        """NATS refused us for good: end, so that whoever runs us starts again with fresh eyes."""
        if not self._stopping.is_set():
            log.error("nats_closed")
            self._failed.append("nats")
            self._stopping.set()

    async def _pipeline(self, stream: str, window: Window) -> Pipeline:
        settings = self._settings
        source = await self._stack.enter_async_context(self._source(stream))
        committer = Committer(
            self._sink,
            transport=source.transport,
            stream=stream,
            retry_for=settings.retry_for,
            stopping=self._stopping,
            on_retry=lambda: self._metrics.batch_retried(stream),
        )
        return Pipeline(
            source,
            Decoder(self._catalogue, window, max_bytes=settings.max_event_bytes),
            committer,
            self._hydrator,
            self._metrics,
            in_flight=settings.in_flight,
            suspects=PostgresSuspects(self._pool, transport=source.transport, stream=stream),
            watch_after=settings.watch_after,
            max_crashes=settings.max_crashes,
            nack_delay=settings.nack_delay,
        )

    def _source(self, stream: str) -> Source:
        settings = self._settings
        kind = JetStreamSource if settings.source_path == "fast" else StockJetStreamSource
        return kind(
            self._nc,
            stream,
            durable=settings.consumer,
            batch_size=settings.batch_size,
            batch_bytes=settings.batch_bytes,
            linger=settings.linger,
            ack_wait=settings.ack_wait,
            heartbeat=settings.heartbeat,
        )

    async def work(self, until_idle: float | None) -> int:
        """Run the pipelines until told to stop, then drain. Returns the exit code."""
        background = [
            self._spawn(keep_partitions(self._upkeep), "partitions"),
            self._spawn(self._keep_hydrated(), "hydrate"),
            self._spawn(self._monitor.run(), "monitor"),
        ]
        running = [
            self._spawn(pipeline.run(), f"pipeline {pipeline.source.name}")
            for pipeline in self.pipelines
        ]
        if until_idle is not None:
            background.append(self._spawn(self._stop_when_idle(until_idle), "idle"))
        log.info("worker_started", streams=[p.source.name for p in self.pipelines])
        await self._stopping.wait()
        log.info("worker_stopping", deadline=self._settings.drain_timeout)
        for task in background:
            task.cancel()
        for pipeline in self.pipelines:
            pipeline.source.stop()
        late = (await asyncio.wait(running, timeout=self._settings.drain_timeout))[1]
        for task in late:
            task.cancel()
        await asyncio.gather(*background, *running, return_exceptions=True)
        log.info("worker_stopped", drained=not late, failed=self._failed)
        return 1 if late or self._failed else 0

    def _spawn(self, work: Any, name: str) -> asyncio.Task[None]:
        """A task whose failure stops the worker: half a worker would look alive."""
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.error("task_failed", task=task.get_name(), error=repr(error), exc_info=error)
            self._failed.append(task.get_name())
            self._stopping.set()

    async def _keep_hydrated(self) -> None:
        await keep_hydrated(self._upkeep, self._store, self._reconcile, self._settings.kv_reconcile)

    async def _stop_when_idle(self, seconds: float) -> None:
        await wait_until_idle(self.pipelines, seconds)
        self._stopping.set()


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """A pool as the settings say, closed at the end."""
    pool = await patiently(
        lambda: open_pool(
            settings.postgres_dsn,
            size=settings.pool_size,
            statement_timeout=settings.statement_timeout,
            lock_timeout=settings.lock_timeout,
            name=settings.worker_id,
        )
    )
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), 5)
        except TimeoutError:
            pool.terminate()


@asynccontextmanager
async def bus(
    settings: Settings,
    reconnected: Callable[[], Awaitable[None]] | None = None,
    closed: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[Client]:
    """A connection to NATS as the settings say, closed at the end."""
    options = nats_options(settings)
    nc = await patiently(
        lambda: connect(
            options,
            name=f"penstock {settings.worker_id}",
            on_reconnected=reconnected,
            on_closed=closed,
        )
    )
    try:
        yield nc
    finally:
        await nc.close()


async def patiently(attempt: Callable[[], Awaitable[Opened]]) -> Opened:
    """Try until the server is there: at start, servers and workers come up together."""

    @retry(
        retry=retry_if_exception_type(Unavailable),
        wait=wait_random_exponential(multiplier=0.3, max=3.0),
        stop=stop_after_delay(_START_SECONDS),
        before_sleep=lambda state: log.warning(
            "waiting_for_server", error=str(state.outcome.exception()) if state.outcome else ""
        ),
        reraise=True,
    )
    async def trying() -> Opened:
        return await attempt()

    return await trying()


def nats_options(settings: Settings) -> NatsOptions:
    """The part of the settings that a connection to NATS needs."""
    return NatsOptions(
        url=settings.nats_url,
        credentials=settings.nats_credentials,
        nkey=settings.nats_nkey,
        user=settings.nats_user,
        password=settings.nats_password,
        token=settings.nats_token,
        tls_ca=settings.nats_tls_ca,
        tls_cert=settings.nats_tls_cert,
        tls_key=settings.nats_tls_key,
        tls_first=settings.nats_tls_first,
    )


def stream_names(settings: Settings, catalogue: Catalogue) -> tuple[str, ...]:
    """The streams to work on. Raises SettingsError for one that no event travels on."""
    for name in settings.streams:
        if name not in catalogue.streams:
            near = difflib.get_close_matches(name, catalogue.streams, n=1, cutoff=0)
            raise SettingsError(
                f"streams = {name!r}: the catalogue has {', '.join(catalogue.streams)}; "
                f"did you mean {near[0]}?"
            )
    return settings.streams or tuple(catalogue.streams)


def stream_plans(settings: Settings, catalogue: Catalogue) -> list[topology.StreamPlan]:
    """The streams that the settings and the catalogue ask for."""
    return [
        topology.StreamPlan(
            name=name,
            subjects=catalogue.streams[name],
            replicas=settings.stream_replicas,
            max_age=settings.stream_max_age,
            max_bytes=settings.stream_max_bytes,
        )
        for name in stream_names(settings, catalogue)
    ]


def consumer_options(settings: Settings) -> dict[str, Any]:
    """The settings of the durable consumers."""
    return {
        "durable": settings.consumer,
        "ack_wait": settings.ack_wait,
        "max_ack_pending": settings.max_ack_pending,
    }


async def ensure_bucket(
    nc: Client, settings: Settings, *, dry_run: bool = False
) -> list[Difference]:
    """Make the bucket. One replica alone persists asynchronously: PostgreSQL can refill it."""
    return await topology.ensure_bucket(
        nc,
        settings.kv_bucket,
        replicas=settings.stream_replicas,
        asynchronous=settings.stream_replicas == 1,
        dry_run=dry_run,
    )


async def provision(settings: Settings, dry_run: bool) -> int:  # noqa: FBT001  (a flag of the CLI)
    """Create what is missing on the bus and print what differs. 1 if a difference remains."""
    catalogue = Catalogue.load(settings.event_packages)
    async with bus(settings) as nc:
        found = await topology.provision(
            nc, stream_plans(settings, catalogue), dry_run=dry_run, **consumer_options(settings)
        )
        found += await ensure_bucket(nc, settings, dry_run=dry_run)
    for difference in found:
        print(difference)  # noqa: T201  (the command's answer)
    if not found:
        print("nothing to do: streams, consumers and buckets are as they should be")  # noqa: T201
    return 0


async def hydrate(settings: Settings, agent: str | None) -> int:
    """Fill the bucket from PostgreSQL, for one agent or all."""
    async with database(settings) as pool, bus(settings) as nc:
        await ensure_bucket(nc, settings)
        store = JetStreamKv(nc, settings.kv_bucket)
        seen, written = await hydrate_bucket(PostgresUpkeep(pool), store, agent)
    if agent is not None and not seen:
        raise PenstockError(f"PostgreSQL knows no agent {agent!r}; nothing was hydrated")
    print(f"{seen} keys compared, {written} written to {settings.kv_bucket}")  # noqa: T201
    return 0
