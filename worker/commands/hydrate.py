"""``penstock hydrate``: fill the KV bucket from PostgreSQL."""

from penstock.schemas.catalogue import Catalogue
from penstock.worker.brokers.scope import Scope
from penstock.worker.errors import PenstockError
from penstock.worker.pipeline.upkeep import hydrate as hydrate_bucket
from penstock.worker.postgres.pool import database
from penstock.worker.postgres.upkeep import PostgresUpkeep
from penstock.worker.settings.keys import Settings


async def hydrate(settings: Settings, agent: str | None) -> int:
    """Fill the bucket from PostgreSQL, for one agent or all. Exit code."""
    catalogue = Catalogue.load(settings.event_packages)
    async with database(settings) as pool, Scope(settings, catalogue) as scope:
        bucket = await scope.bucket()
        await bucket.provision(dry_run=False)
        seen, written = await hydrate_bucket(PostgresUpkeep(pool), bucket.store(), agent)
    if agent is not None and not seen:
        raise PenstockError(f"PostgreSQL knows no agent {agent!r}; nothing was hydrated")
    print(f"{seen} keys compared, {written} written to {settings.kv_bucket}")  # noqa: T201
    return 0
