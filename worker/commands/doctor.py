"""``penstock doctor``: reach every server, look at what matters, say what to do."""

from collections.abc import AsyncIterator
from functools import partial

import click
import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.worker.brokers import registry
from penstock.worker.brokers.ports import Broker, Bucket
from penstock.worker.brokers.scope import Scope
from penstock.worker.errors import PenstockError
from penstock.worker.finding import COLOURS, Finding, Verdict, compared
from penstock.worker.postgres.examine import findings as postgres_findings
from penstock.worker.settings.keys import Settings


async def examine(settings: Settings) -> int:
    """Print all findings; 0 if nothing needs a person, else 1."""
    worst = 0
    async for finding in findings(settings):
        tell(finding)
        worst = max(worst, int(finding.verdict is Verdict.BAD))
    return worst


def tell(finding: Finding) -> None:
    """Print one finding, and what to do about it."""
    verdict = click.style(f"{finding.verdict:8}", fg=COLOURS[finding.verdict])
    click.echo(f"{verdict} {finding.text}")
    if finding.remedy:
        click.echo(f"         -> {finding.remedy}")


async def findings(settings: Settings) -> AsyncIterator[Finding]:
    """Everything there is to find, server by server, each thing once."""
    settings = msgspec.structs.replace(settings, start_timeout=0)  # one attempt
    looks = [postgres_findings]
    looks += [partial(_broker, name) for name in settings.brokers]
    looks += [_buckets] if settings.kv else []
    told = set[Finding]()
    for look in looks:
        async for finding in _caught(look(settings)):
            if finding not in told:
                told.add(finding)
                yield finding


async def _caught(found: AsyncIterator[Finding]) -> AsyncIterator[Finding]:
    """What was found, and at last what kept from finding more."""
    try:
        async for finding in found:
            yield finding
    except PenstockError as error:
        text, _, remedy = str(error).partition("; ")
        yield Finding(Verdict.BAD, text, remedy)


async def _broker(name: str, settings: Settings) -> AsyncIterator[Finding]:
    async with Scope(settings, Catalogue.load(settings.event_packages)) as scope:
        what = f"{registry.title(name)}: streams, queues and consumers"
        async for finding in _examined(await scope.broker(name), what):
            yield finding


async def _buckets(settings: Settings) -> AsyncIterator[Finding]:
    async with Scope(settings, Catalogue.load(settings.event_packages)) as scope:
        for bucket in (await scope.buckets()).values():
            what = f"the bucket {bucket.name} and its settings"
            async for finding in _examined(bucket, what):
                yield finding


async def _examined(target: Broker | Bucket, what: str) -> AsyncIterator[Finding]:
    """The server, the rights there, and how ``what`` differs from what is wanted."""
    found = await target.examine()
    for finding in found:
        yield finding
    if any(finding.verdict is Verdict.BAD for finding in found):
        return  # with a right missing, the rest would only say so again
    for finding in compared(await target.provision(dry_run=True), what):
        yield finding
