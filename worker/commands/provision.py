"""``penstock provision``: create what is missing on the brokers, and list what differs."""

from penstock.schemas.catalogue import Catalogue
from penstock.worker.brokers import buckets
from penstock.worker.brokers.scope import Scope
from penstock.worker.settings.keys import Settings


async def provision(settings: Settings, *, dry_run: bool) -> int:
    """Create what is missing on the brokers and print what differs. Returns the exit code."""
    found = []
    async with Scope(settings, Catalogue.load(settings.event_packages)) as scope:
        for name in settings.brokers:
            broker = await scope.broker(name)
            found += await broker.provision(dry_run=dry_run)
        if settings.kv:
            found += await buckets.provision(scope, dry_run=dry_run)
            found += await buckets.provision_cache(scope, dry_run=dry_run)
    for difference in found:
        print(difference)  # noqa: T201  (the command's answer)
    if not found:
        print("nothing to do: everything is as it should be")  # noqa: T201
    return 0
