"""All buckets that the mappings declare: provisioning them, and writing to them as one."""

import asyncio
from functools import partial

from penstock.worker.brokers.ports import Bucket
from penstock.worker.brokers.registry import bucket_module
from penstock.worker.brokers.scope import Scope
from penstock.worker.difference import Difference
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.mirror import LeftOut, Mirror, Store


async def provision(scope: Scope, *, dry_run: bool) -> list[Difference]:
    """Create and correct all buckets; see `Broker.provision`."""
    buckets = (await scope.buckets()).values()
    return [found for bucket in buckets for found in await bucket.provision(dry_run=dry_run)]


async def provision_cache(scope: Scope, *, dry_run: bool) -> list[Difference]:
    """Create and correct the bucket that is for agents alone; workers do without it."""
    return await bucket_module().provision_cache(scope, dry_run=dry_run)


async def open_mirror(scope: Scope, metrics: Metrics, due: asyncio.Event) -> Mirror:
    """One store per bucket. ``due`` is set when a bucket was missing and has to be refilled; it is
    made again only if the settings let a worker provision.
    """
    left_out = LeftOut(metrics)
    stores = {
        declared: _store(bucket, metrics, due, left_out, make=scope.settings.provision)
        for declared, bucket in (await scope.buckets()).items()
    }
    return Mirror(stores, metrics, left_out)


def _store(
    bucket: Bucket, metrics: Metrics, due: asyncio.Event, left_out: LeftOut, *, make: bool
) -> Store:
    async def missing() -> None:
        if make:
            await bucket.provision(dry_run=False)
        due.set()

    return bucket.store(
        on_conflict=partial(metrics.kv_conflicts, bucket.name),
        on_missing=missing,
        on_refused=partial(left_out, bucket.name),
    )
