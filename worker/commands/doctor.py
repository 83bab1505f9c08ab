"""``penstock doctor``: reach every server, look at what matters, say what to do."""

from collections.abc import AsyncIterator
from functools import partial

import click

from penstock.schemas.catalogue import Catalogue
from penstock.worker.brokers import registry
from penstock.worker.brokers.scope import Scope
from penstock.worker.errors import PenstockError
from penstock.worker.finding import Finding, Verdict, compared
from penstock.worker.postgres.examine import schema_findings, server_findings
from penstock.worker.postgres.unknown_fields import unknown_fields
from penstock.worker.settings.keys import Settings


async def examine(settings: Settings) -> int:
    """Print all findings; 0 if nothing needs a person, else 1."""
    colours = {Verdict.GOOD: "green", Verdict.NOTE: "yellow", Verdict.BAD: "red"}
    worst = 0
    async for finding in findings(settings):
        verdict = click.style(f"{finding.verdict:8}", fg=colours[finding.verdict])
        click.echo(f"{verdict} {finding.text}")
        if finding.remedy:
            click.echo(f"         -> {finding.remedy}")
        worst = max(worst, int(finding.verdict is Verdict.BAD))
    return worst


async def findings(settings: Settings) -> AsyncIterator[Finding]:
    """Everything there is to find, server by server, each thing once."""
    looks = [server_findings, schema_findings, unknown_fields]
    looks += [partial(_broker, name) for name in settings.brokers]
    looks += [_buckets] if settings.kv else []
    told = set[Finding]()
    for look in looks:
        try:
            async for finding in look(settings):
                if finding not in told:
                    told.add(finding)
                    yield finding
        except PenstockError as error:
            text, _, remedy = str(error).partition("; ")
            yield Finding(Verdict.BAD, text, remedy)


async def _broker(name: str, settings: Settings) -> AsyncIterator[Finding]:
    async with Scope(settings, Catalogue.load(settings.event_packages)) as scope:
        broker = await scope.broker(name)
        for finding in await broker.examine():
            yield finding
        differences = await broker.provision(dry_run=True)
    for finding in compared(differences, f"{registry.title(name)}: streams, queues and consumers"):
        yield finding


async def _buckets(settings: Settings) -> AsyncIterator[Finding]:
    async with Scope(settings, Catalogue.load(settings.event_packages)) as scope:
        for bucket in (await scope.buckets()).values():
            for finding in await bucket.examine():
                yield finding
            differences = await bucket.provision(dry_run=True)
            for finding in compared(differences, f"the bucket {bucket.name} and its settings"):
                yield finding
