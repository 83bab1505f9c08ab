"""A source that ends, brought the ordinary way into PostgreSQL and the buckets."""

import asyncio

from penstock.schemas.catalogue import Catalogue
from penstock.worker.brokers import buckets
from penstock.worker.brokers.scope import Scope
from penstock.worker.pipeline.commit import Committer
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.derive import Deriver
from penstock.worker.pipeline.hydrate import Hydrator, NotMirrored
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.pipeline import Pipeline
from penstock.worker.pipeline.poison import PoisonWatch
from penstock.worker.pipeline.source import Source
from penstock.worker.postgres.crash_marks import PostgresCrashMarkers
from penstock.worker.postgres.due import PostgresDue
from penstock.worker.postgres.pool import Pool
from penstock.worker.postgres.sink import PostgresSink
from penstock.worker.postgres.views import HydratedViews
from penstock.worker.settings.keys import Settings


class Drain:
    """The pipeline of a worker, for sources that end."""

    def __init__(self, settings: Settings, catalogue: Catalogue, pool: Pool, scope: Scope) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._pool = pool
        self._scope = scope
        self._metrics = Metrics()

    async def __call__(self, source: Source) -> None:
        """Store everything. What cannot be stored now is left out, and logged."""
        settings = self._settings
        sink = PostgresSink(self._pool, self._catalogue, worker_id=settings.worker_id)
        kept = await sink.prepare()
        past, future = settings.window_past, settings.window_future
        window = Window(self._catalogue, kept, past=past, future=future)
        pipeline = Pipeline(
            source,
            Decoder(self._catalogue, window, max_bytes=settings.max_event_bytes),
            self._committer(sink, source.name),
            await self._hydrator(),
            self._metrics,
            name=source.name,
            in_flight=1,
            poison=self._poison(source),
            nack_delay=settings.nack_delay,
            deriver=Deriver(PostgresDue(self._pool), self._catalogue.derived, self._metrics),
        )
        await pipeline.run()

    def _committer(self, sink: PostgresSink, name: str) -> Committer:
        retry_for = self._settings.retry_for
        return Committer(sink, name=name, retry_for=retry_for, stopping=asyncio.Event())

    async def _hydrator(self) -> Hydrator | NotMirrored:
        if not self._settings.kv:
            return NotMirrored()
        mirror = await buckets.open_mirror(self._scope, self._metrics, asyncio.Event())
        views = HydratedViews(self._pool, self._catalogue.hydrated, mirror.leave_out)
        await views.prepare()
        return Hydrator(views, mirror)

    def _poison(self, source: Source) -> PoisonWatch:
        markers = PostgresCrashMarkers(
            self._pool, asyncio.Lock(), transport=source.transport, stream=source.name
        )
        after, most = self._settings.watch_after, self._settings.max_crashes
        return PoisonWatch(markers, watch_after=after, max_crashes=most)
