"""What there is to say of a PostgreSQL server, and of the tables and rights in it."""

from collections.abc import AsyncIterator

import asyncpg

from penstock.schemas.catalogue import Catalogue
from penstock.worker import migrate
from penstock.worker.finding import Finding, Verdict
from penstock.worker.postgres.alerts import alert_findings, open_alerts
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.jobs import derive_findings
from penstock.worker.postgres.letter_box import letter_findings
from penstock.worker.postgres.mappings import misfits
from penstock.worker.postgres.outbox import outbox_finding
from penstock.worker.postgres.partition_findings import partition_findings
from penstock.worker.postgres.pool import database
from penstock.worker.postgres.rights import lacking
from penstock.worker.postgres.unknown_fields import unknown_fields
from penstock.worker.settings.keys import Settings

_OLDEST = 15


async def findings(settings: Settings) -> AsyncIterator[Finding]:
    """All there is. Raises SinkUnavailable, MigrationError, SettingsError."""
    async with database(settings) as pool:
        async for finding in _server(pool):
            yield finding
        async for finding in _schema(pool, settings):
            yield finding


async def _server(pool: asyncpg.Pool) -> AsyncIterator[Finding]:
    """Version and durability."""
    with translated():
        version = await pool.fetchval("SHOW server_version")
        number = int(await pool.fetchval("SHOW server_version_num")) // 10_000
    if number < _OLDEST:
        yield Finding(Verdict.BAD, f"PostgreSQL {version}", f"upgrade to {_OLDEST} or newer")
    else:
        yield Finding(Verdict.GOOD, f"PostgreSQL {version}")
    for name in ("fsync", "full_page_writes"):
        yield await _durable(pool, name)


async def _durable(pool: asyncpg.Pool, name: str) -> Finding:
    with translated():
        value = await pool.fetchval("SELECT current_setting($1)", name)
    if value == "on":
        return Finding(Verdict.GOOD, f"PostgreSQL {name} is on")
    return Finding(
        Verdict.BAD,
        f"PostgreSQL {name} is {value}: a crash loses acknowledged events",
        f"set {name} = on in postgresql.conf",
    )


async def _schema(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Finding]:
    """Migrations, then rights, then dead letters: each needs the one before it."""
    problems = await migrate.check(settings.postgres_dsn, settings.event_packages)
    for problem in problems:
        remedy = "run `penstock migrate up`" if problem.state == "pending" else ""
        yield Finding(Verdict.BAD, f"schema: {problem}", remedy)
    if problems:
        return
    catalogue = Catalogue.load(settings.event_packages)
    for misfit in await misfits(pool, catalogue):
        text, _, remedy = misfit.partition("; ")
        yield Finding(Verdict.BAD, text, remedy)
    missing = False
    async for finding in _rights(pool, catalogue):
        missing = missing or finding.verdict is Verdict.BAD
        yield finding
    if not missing:
        async for finding in _kept(pool, settings, catalogue):
            yield finding


async def _kept(
    pool: asyncpg.Pool, settings: Settings, catalogue: Catalogue
) -> AsyncIterator[Finding]:
    """What waits for somebody, or will soon."""
    async for finding in letter_findings(pool, settings.letters_max):
        yield finding
    async for finding in unknown_fields(settings):
        yield finding
    async for finding in partition_findings(pool, settings, catalogue):
        yield finding
    for finding in await derive_findings(pool):
        yield finding
    for finding in alert_findings(await open_alerts(pool)):
        yield finding
    if settings.outbox:
        yield await outbox_finding(pool, settings)


async def _rights(pool: asyncpg.Pool, catalogue: Catalogue) -> AsyncIterator[Finding]:
    missing = await lacking(pool, catalogue)
    for right in missing:
        yield Finding(Verdict.BAD, f"PostgreSQL: no right to {right.what}", right.grant)
    if not missing:
        text = f"{len(catalogue.tables)} tables there, and every right that a worker needs"
        yield Finding(Verdict.GOOD, text)
