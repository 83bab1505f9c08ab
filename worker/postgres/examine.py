"""What there is to say of a PostgreSQL server, and of the tables and rights in it."""

from collections.abc import AsyncIterator

import asyncpg

from penstock.schemas.catalogue import Catalogue
from penstock.worker import migrate
from penstock.worker.finding import Finding, Verdict
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.mappings import misfits
from penstock.worker.postgres.pool import database
from penstock.worker.settings.keys import Settings

_OLDEST = 15


async def server_findings(settings: Settings) -> AsyncIterator[Finding]:
    """Version and durability. Raises SinkUnavailable."""
    async with database(settings) as pool:
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


_RIGHTS = """
SELECT name, has_table_privilege(to_regclass(name), 'INSERT') AS may_insert,
       has_table_privilege(to_regclass(name), 'UPDATE') AS may_update
FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NOT NULL
"""


async def schema_findings(settings: Settings) -> AsyncIterator[Finding]:
    """Migrations, rights, dead letters. Raises SinkUnavailable, SettingsError."""
    catalogue = Catalogue.load(settings.event_packages)
    problems = await migrate.check(settings.postgres_dsn, settings.event_packages)
    for problem in problems:
        yield Finding(Verdict.BAD, f"schema: {problem}", "run `penstock migrate up`")
    if problems:
        return
    async with database(settings) as pool:
        for misfit in await misfits(pool, catalogue):
            yield Finding(Verdict.BAD, *misfit.split("; ", 1))
        with translated():
            rights = await pool.fetch(
                _RIGHTS, [*catalogue.tables, "bus.dead_letter", "bus.position"]
            )
            letters = await pool.fetchval(
                "SELECT count(*) FROM bus.dead_letter WHERE status = 'kept'"
            )
    lacking = [name for name, may_insert, _ in rights if not may_insert]
    lacking += [name for name, _, may in rights if not may and name in catalogue.keys]
    if lacking:
        remedy = "grant INSERT and UPDATE on them to the worker's role"
        yield Finding(Verdict.BAD, f"no right to write {', '.join(lacking)}", remedy)
    else:
        yield Finding(Verdict.GOOD, f"{len(rights)} tables there and writable")
    if letters:
        remedy = "SELECT reason, count(*) FROM bus.dead_letter GROUP BY 1"
        yield Finding(Verdict.NOTE, f"{letters} dead letters are kept", remedy)
