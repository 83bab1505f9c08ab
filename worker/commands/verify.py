"""``penstock verify``: compare what should agree, name what does not, and mend it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial

import click
import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.worker.brokers import buckets
from penstock.worker.brokers.scope import Scope
from penstock.worker.checks.bucket import BucketCheck
from penstock.worker.checks.check import Check, Sized
from penstock.worker.checks.runner import examine
from penstock.worker.checks.sequences import SequenceCheck
from penstock.worker.commands.advancing import advancing
from penstock.worker.commands.derive import HOUR, Wanted
from penstock.worker.commands.doctor import tell
from penstock.worker.commands.draining import Drain
from penstock.worker.commands.said import CLEAR_LINE, said
from penstock.worker.finding import Finding, Verdict
from penstock.worker.lifecycle import Assembly
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.postgres.checks import StateCheck, of_tables, rebuild
from penstock.worker.postgres.derived_check import DerivedCheck
from penstock.worker.postgres.jobs import known_jobs
from penstock.worker.postgres.mappings import check_mappings
from penstock.worker.postgres.offsets import PostgresOffsets
from penstock.worker.postgres.pool import database
from penstock.worker.postgres.seal_check import SealCheck
from penstock.worker.postgres.views import HydratedViews
from penstock.worker.schema import check_schema
from penstock.worker.settings.keys import Settings

_LINE_BEFORE = "\x1b[1A"
_PATIENCE = 24 * 3600.0
"""Seconds for a statement: some read a whole history."""


async def verify(
    settings: Settings, since: datetime | None, pause: float, *, repair: bool, as_json: bool
) -> int:
    """Print all findings; 0 if nothing is wrong, or nothing any more, else 1.

    Raises PenstockError if it cannot look.
    """
    found: list[Finding] = []
    clean = False
    try:
        async with Examination(settings, since) as examination:
            async for finding in examination.findings(repair=repair, pause=pause):
                found.append(finding)
                if not as_json:
                    tell(finding)
        clean = all(finding.verdict is not Verdict.BAD for finding in found)
    finally:  # what was mended before it could not look any more is said too
        if as_json and (clean or found):
            told = {"clean": clean, "findings": found}
            click.echo(msgspec.json.encode(told).decode())
    return int(not clean)


class Examination(Assembly):
    """All checks of one run, over connections that they share."""

    def __init__(self, settings: Settings, since: datetime | None) -> None:
        super().__init__()
        self._settings = msgspec.structs.replace(settings, statement_timeout=_PATIENCE)
        self._since = since
        self._catalogue = Catalogue.load(settings.event_packages)
        self._damaged: list[str] = []

    async def _open(self) -> None:
        settings, enter = self._settings, self._stack.enter_async_context
        await check_schema(settings, "verify")
        self._pool = await enter(database(settings))
        await check_mappings(self._pool, self._catalogue)
        self._scope = await enter(Scope(settings, self._catalogue))

    async def findings(self, *, repair: bool, pause: float) -> AsyncIterator[Finding]:
        """What every check finds, in order: first what others build on, the buckets last."""
        for checks in (self._sequences(), self._tables(), self._derived(), self._buckets()):
            async for check in checks:
                async with _said(check):
                    found = await examine(check, repair=repair, pause=pause)
                if isinstance(check, StateCheck) and any(f.verdict is Verdict.BAD for f in found):
                    self._damaged.append(check.table)
                for finding in found:
                    yield finding

    async def _sequences(self) -> AsyncIterator[Check]:
        drain = Drain(self._settings, self._catalogue, self._pool, self._scope)
        for name in self._settings.brokers:
            broker = await self._scope.broker(name)
            records = PostgresOffsets(
                self._pool, transport=broker.transport, worker_id=self._settings.worker_id
            )
            for stream in self._scope.streams:
                yield SequenceCheck(broker, stream, records, drain, self._since)

    async def _tables(self) -> AsyncIterator[Check]:
        sources = await self._sources()
        for check in of_tables(self._pool, self._catalogue, self._since, sources):
            yield check

    async def _derived(self) -> AsyncIterator[Check]:
        yield SealCheck(self._settings, self._since)
        for job in await known_jobs(self._pool):
            if job.every is not None and job.whole is None:
                continue  # it may be as late as its clock
            recent = self._since is not None and job.key_kind == HOUR
            keys = Wanted(since=self._since).of(job) if recent else None
            yield DerivedCheck(self._settings, job, keys)

    async def _sources(self) -> Sequence[str]:
        """The brokers, if all that ever came can be read again there."""
        names = self._settings.brokers
        kept = [(await self._scope.broker(name)).keeps for name in names]
        return names if all(kept) else ()

    async def _buckets(self) -> AsyncIterator[Check]:
        if not self._settings.kv:
            return
        mirror = await buckets.open_mirror(self._scope, Metrics(), asyncio.Event())
        for declared, bucket in (await self._scope.buckets()).items():
            contents = await self._stack.enter_async_context(bucket.contents())
            unshown: dict[str, str] = {}
            own = {n: v for n, v in self._catalogue.hydrated.items() if v.bucket == declared}
            views = HydratedViews(self._pool, own, partial(_note, unshown))
            await views.prepare()
            wrong = [table for table in self._damaged if table in self._tables_of(declared)]
            sources = await self._sources()
            waits_for = ", ".join(rebuild(self._catalogue, table, sources) for table in wrong)
            lag = self._settings.kv_status_interval
            yield BucketCheck(bucket.name, contents, views, mirror, unshown, waits_for, lag=lag)

    def _tables_of(self, bucket: str) -> set[str]:
        """The state tables that a bucket shows: those of the events that change it."""
        return {
            upsert.table
            for kind in self._catalogue.types.values()
            if any(rule.bucket == bucket for rule in kind.spec.kv)
            for upsert in kind.spec.states
        }


@asynccontextmanager
async def _said(check: Check) -> AsyncIterator[None]:
    """On a terminal, what is being looked at: since when, or how far, how fast and how much longer.
    Nothing stays of it.
    """
    size = await check.size() if isinstance(check, Sized) and sys.stderr.isatty() else 0
    if not (isinstance(check, Sized) and size):
        with said(check.name):
            yield
        return
    try:
        async with advancing(check.name, size, lambda: min(check.seen, size)):
            yield
    finally:
        click.echo(_LINE_BEFORE + CLEAR_LINE, nl=False, err=True)


def _note(unshown: dict[str, str], _bucket: str, key: str, why: str) -> None:
    unshown[key] = why
