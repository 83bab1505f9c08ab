"""The buckets of a database, for whoever fills or compares them beside the workers."""

import asyncio

import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.worker.brokers import buckets
from penstock.worker.brokers.scope import Scope
from penstock.worker.ending import end
from penstock.worker.pipeline.hydrate import Hydrator
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.mirror import Mirror
from penstock.worker.pipeline.upkeep import hydrate
from penstock.worker.postgres.pool import Pool
from penstock.worker.postgres.views import HydratedViews


class Mirrored(msgspec.Struct, frozen=True):
    """Rows, and the buckets that they are mirrored to."""

    views: HydratedViews
    mirror: Mirror

    def hydrator(self, interval: float) -> Hydrator:
        """Mirrors what is touched; what is touched lazily may wait for so many seconds."""
        return Hydrator(self.views, self.mirror, interval=interval)

    async def compare(self, stopping: asyncio.Event) -> bool:
        """Bring the buckets up to all rows, whoever else does. False if told to stop before the
        end. Raises PenstockError.
        """
        comparing = asyncio.create_task(hydrate(self.views.whole(), self.mirror), name="compare")
        stopped = asyncio.create_task(stopping.wait(), name="stop")
        try:
            await asyncio.wait({comparing, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not comparing.done():
                return False
            await comparing
            return True
        finally:
            await end(comparing, stopped)


async def open_mirrored(
    scope: Scope, pool: Pool, catalogue: Catalogue, metrics: Metrics, *, provision: bool
) -> Mirrored:
    """Open them, created and corrected before if wanted. Raises PenstockError."""
    if provision:
        await buckets.provision(scope, dry_run=False)
    mirror = await buckets.open_mirror(scope, metrics, asyncio.Event())
    views = HydratedViews(pool, catalogue.hydrated, mirror.leave_out)
    await views.prepare()
    return Mirrored(views, mirror)
