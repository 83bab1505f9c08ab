"""The buckets that the mappings declare; the settings name the one of the agents' state."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from nats.aio.client import Client

from penstock.schemas.mapping import AGENT_STATE
from penstock.worker.brokers.scope import Scope
from penstock.worker.difference import Difference
from penstock.worker.finding import Finding
from penstock.worker.nats.bus import shared_bus
from penstock.worker.nats.examine import version
from penstock.worker.nats.kv.contents import BucketContents
from penstock.worker.nats.kv.store import JetStreamKv
from penstock.worker.nats.rights import findings, of_bucket
from penstock.worker.nats.topology import ensure_bucket

QUERY_CACHE = "QUERY_CACHE"
"""A bucket in which agents keep answers for each other; Penstock neither writes nor reads it."""

_CACHED_SECONDS = 300.0


async def provision_cache(scope: Scope, *, dry_run: bool) -> list[Difference]:
    """Create the bucket whose keys go by themselves. Raises SourceUnavailable, TopologyError."""
    return await ensure_bucket(
        await shared_bus(scope),
        QUERY_CACHE,
        history=1,
        max_age=_CACHED_SECONDS,
        replicas=scope.settings.stream_replicas,
        asynchronous=scope.settings.stream_replicas == 1,
        dry_run=dry_run,
    )


async def open_buckets(scope: Scope) -> dict[str, "JetStreamBucket"]:
    """The buckets by declared name, over the scope's one connection. Raises SourceUnavailable."""
    settings = scope.settings
    nc = await shared_bus(scope)
    names = {name: name for name in scope.catalogue.buckets}
    if AGENT_STATE in names:
        names[AGENT_STATE] = settings.kv_bucket
    return {
        declared: JetStreamBucket(nc, name, replicas=settings.stream_replicas)
        for declared, name in names.items()
    }


class JetStreamBucket:
    """A `Bucket` over a connection that the caller owns."""

    def __init__(self, nc: Client, name: str, *, replicas: int) -> None:
        self.name = name
        self._nc = nc
        self._replicas = replicas

    async def provision(self, *, dry_run: bool) -> list[Difference]:
        """A single replica persists asynchronously, because PostgreSQL can refill the bucket."""
        return await ensure_bucket(
            self._nc,
            self.name,
            replicas=self._replicas,
            asynchronous=self._replicas == 1,
            dry_run=dry_run,
        )

    async def examine(self) -> list[Finding]:
        needed = of_bucket(self.name)
        return [version(self._nc), *await findings(self._nc, f"bucket {self.name}", needed)]

    @asynccontextmanager
    async def contents(self) -> AsyncIterator[BucketContents]:
        found = BucketContents(self._nc, self.name)
        try:
            yield found
        finally:
            await found.close()

    def store(
        self,
        *,
        on_conflict: Callable[[int], None] | None = None,
        on_missing: Callable[[], Awaitable[None]] | None = None,
        on_refused: Callable[[str, str], None] | None = None,
    ) -> JetStreamKv:
        return JetStreamKv(
            self._nc,
            self.name,
            on_conflict=on_conflict,
            on_missing=on_missing,
            on_refused=on_refused,
        )
