"""``penstock hydrate``: fill the KV buckets from PostgreSQL."""

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.identity import entity_uuid
from penstock.worker.brokers.scope import Scope
from penstock.worker.errors import PenstockError
from penstock.worker.mirroring import open_mirrored
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.ports import KvTouch
from penstock.worker.pipeline.upkeep import hydrate as hydrate_buckets
from penstock.worker.postgres.pool import database
from penstock.worker.settings.keys import Settings


async def hydrate(settings: Settings, agent: str | None) -> int:
    """Fill the buckets from PostgreSQL, for one agent or completely. Returns the exit code."""
    catalogue = Catalogue.load(settings.event_packages)
    async with database(settings) as pool, Scope(settings, catalogue) as scope:
        buckets = await open_mirrored(scope, pool, catalogue, Metrics(), provision=True)
        names = ", ".join(bucket.name for bucket in (await scope.buckets()).values())
        views = buckets.views
        found = views.all() if agent is None else views.read(_rows_of(agent, catalogue))
        seen, written = await hydrate_buckets(found, buckets.mirror)
    if agent is not None and not seen:
        raise PenstockError(
            f"PostgreSQL has no agent {agent!r}, so nothing was hydrated; check the id"
        )
    print(f"{seen} keys compared, {written} written to {names}")  # noqa: T201
    return 0


def _rows_of(agent: str, catalogue: Catalogue) -> dict[KvTouch, list[tuple[str]]]:
    """The rows of one agent, in every view that can be looked up by agent."""
    by_agent, key = ("agent_id",), (entity_uuid("agent", agent),)
    views = [view for view in catalogue.hydrated.values() if by_agent in view.lookups]
    return {KvTouch(view.name, by_agent): [key] for view in views}
