"""Applying migrations and reverting them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, nullcontext
from time import perf_counter
from typing import Literal

import asyncpg
import msgspec
import structlog

from penstock.worker.errors import Cause, MigrationError, SinkUnavailable
from penstock.worker.lifecycle import patiently
from penstock.worker.migrate.connecting import not_connected
from penstock.worker.migrate.files import PACKAGE, Migration, Script, find
from penstock.worker.migrate.ledger import Applied, Ledger, Status, compare, pending
from penstock.worker.wording import redacted, why

log = structlog.get_logger()

_ALONE = "-- penstock: no-transaction"
_LOCK = "SELECT pg_advisory_lock(hashtextextended('penstock.migrations', 0))"
_TABLE = """
CREATE TABLE IF NOT EXISTS public.schema_migrations (
    package       text NOT NULL,
    version       integer NOT NULL,
    name          text NOT NULL,
    checksum      text NOT NULL,
    down_checksum text NOT NULL,
    installed_on  timestamptz NOT NULL DEFAULT now(),
    installed_by  text NOT NULL DEFAULT current_user,
    execution_ms  bigint NOT NULL,
    PRIMARY KEY (package, version)
)
"""
_LEDGER = """
SELECT package, version, name, checksum, down_checksum, installed_on, installed_by, execution_ms
FROM public.schema_migrations
"""
_RECORD = """
INSERT INTO public.schema_migrations
    (package, version, name, checksum, down_checksum, execution_ms)
VALUES ($1, $2, $3, $4, $5, $6)
"""
_FORGET = "DELETE FROM public.schema_migrations WHERE package = $1 AND version = $2"

Direction = Literal["up", "down"]


class Step(msgspec.Struct, frozen=True):
    """One migration that was applied or reverted, and how long that took."""

    package: str
    version: int
    name: str
    direction: Direction
    execution_ms: int


Report = Callable[[Step], None]


def _logged(step: Step) -> None:
    log.info("migration_run", **msgspec.structs.asdict(step))


async def up(
    dsn: str,
    packages: Sequence[str] = (),
    to: int | None = None,
    *,
    report: Report = _logged,
) -> list[Step]:
    """Apply what is pending, and return the steps; an empty list if there was nothing to do.

    With ``to``, stop after that version of Penstock's own migrations and leave ``packages`` alone.
    ``report`` is called with each step when it ends. Raises SinkUnavailable; MigrationError, also
    if the files contradict what was applied.
    """
    names = [PACKAGE] if to is not None else [PACKAGE, *packages]
    found = {name: find(name) for name in names}
    async with _locked(dsn) as connection:
        ledger = await _read(connection)
        due = [
            migration
            for name, migrations in found.items()
            for migration in pending(name, migrations, ledger)
            if to is None or migration.version <= to
        ]
        return await _run_all((_apply(connection, migration) for migration in due), report)


async def down(
    dsn: str,
    steps: int = 1,
    package: str = PACKAGE,
    *,
    report: Report = _logged,
) -> list[Step]:
    """Revert the last ``steps`` migrations of ``package``, newest first, and return them.

    ``report`` is called with each step when it ends. Raises SinkUnavailable; MigrationError, also
    if the database refuses because something else depends on what would be dropped.
    """
    files = {migration.version: migration for migration in find(package)}
    async with _locked(dsn) as connection:
        ledger = await _read(connection)
        pending(package, list(files.values()), ledger)
        applied = sorted((version for name, version in ledger if name == package), reverse=True)
        due = (_revert(connection, files[version]) for version in applied[:steps])
        return await _run_all(due, report)


async def status(dsn: str, packages: Sequence[str] = ()) -> list[Status]:
    """The status of every migration of Penstock and ``packages``, in order.

    Raises SinkUnavailable; MigrationError only for files that are invalid in themselves.
    """
    found = {name: find(name) for name in (PACKAGE, *packages)}
    async with _connected(dsn) as connection:
        ledger = await _read(connection)
    return [
        line for name, migrations in found.items() for line in compare(name, migrations, ledger)
    ]


async def check(dsn: str, packages: Sequence[str] = ()) -> list[Status]:
    """The migrations that keep a worker from starting: all that are not simply applied."""
    return [line for line in await status(dsn, packages) if line.state != "applied"]


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    # A migration may take as long as it needs, and names every object with its schema.
    session = {"statement_timeout": "0", "lock_timeout": "0", "search_path": "public"}
    try:
        connection = await asyncpg.connect(dsn, timeout=10, server_settings=session)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise not_connected(dsn, error) from error
    try:
        _check_encoding(connection, dsn)
        yield connection
    except (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError) as error:
        raise SinkUnavailable(f"lost PostgreSQL while migrating: {why(error)}") from error
    except asyncpg.PostgresError as error:
        raise MigrationError(
            f"cannot read or write public.schema_migrations: {error}; `penstock migrate` needs "
            "a role that owns the schema"
        ) from error
    finally:
        await connection.close()


def _check_encoding(connection: asyncpg.Connection, dsn: str) -> None:
    """Any text may come: where it cannot be stored, not even a dead letter can."""
    encoding = connection.get_settings().server_encoding
    if encoding != "UTF8":
        raise MigrationError(
            f"PostgreSQL at {redacted(dsn)}: the database is encoded in {encoding}, which cannot "
            "hold every text; use one made by CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE "
            "template0"
        )


@asynccontextmanager
async def _locked(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """The only connection that may migrate; the lock ends with its session."""
    async with _connected(dsn) as connection:
        await connection.execute(_LOCK)
        await connection.execute("SET client_min_messages = warning")
        await connection.execute(_TABLE)
        yield connection


async def _read(connection: asyncpg.Connection) -> Ledger:
    if await connection.fetchval("SELECT to_regclass('public.schema_migrations')") is None:
        return {}
    try:
        rows = await connection.fetch(_LEDGER)
    except asyncpg.InsufficientPrivilegeError as error:
        role = await connection.fetchval("SELECT current_user")
        raise MigrationError(
            f"no right to read public.schema_migrations; GRANT SELECT ON public.schema_migrations "
            f'TO "{role}"',
            cause=Cause.RIGHT,
        ) from error
    return {(row["package"], row["version"]): Applied(*row) for row in rows}


async def _run_all(due: Iterable[Awaitable[Step]], report: Report) -> list[Step]:
    done = []
    for step in due:
        done.append(await step)
        report(done[-1])
    return done


async def _apply(connection: asyncpg.Connection, migration: Migration) -> Step:
    async def record(milliseconds: int) -> None:
        await connection.execute(
            _RECORD,
            migration.package,
            migration.version,
            migration.name,
            migration.up.checksum,
            migration.down.checksum,
            milliseconds,
        )

    return await _run(connection, migration, "up", migration.up, record)


async def _revert(connection: asyncpg.Connection, migration: Migration) -> Step:
    async def forget(_milliseconds: int) -> None:
        await connection.execute(_FORGET, migration.package, migration.version)

    return await _run(connection, migration, "down", migration.down, forget)


async def _run(
    connection: asyncpg.Connection,
    migration: Migration,
    direction: Direction,
    script: Script,
    record: Callable[[int], Awaitable[None]],
) -> Step:
    """Run one file and record it: both or neither, unless the file asks for no transaction."""
    started = perf_counter()
    try:
        async with nullcontext() if script.text.startswith(_ALONE) else connection.transaction():
            await connection.execute(script.text)
            milliseconds = round((perf_counter() - started) * 1000)
            await record(milliseconds)
    except (asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError):
        raise
    except asyncpg.PostgresError as error:
        raise MigrationError(f"{script.name}{_place(error, script.text)}: {error}") from error
    return Step(migration.package, migration.version, migration.name, direction, milliseconds)


def _place(error: asyncpg.PostgresError, text: str) -> str:
    """The line of the file where the server found the error, if it says so."""
    position = error.as_dict().get("position")
    return f", line {text.count(chr(10), 0, int(position) - 1) + 1}" if position else ""


async def require(
    dsn: str, packages: Sequence[str], *, apply: bool = False, patience: float = 0
) -> None:
    """Apply what is pending if ``apply``. Raises MigrationError if the schema is not as it has to
    be, and Unavailable if PostgreSQL does not answer for ``patience`` seconds.
    """
    if apply:
        await patiently(lambda: up(dsn, packages=packages), patience)
    found = await patiently(lambda: check(dsn, packages), patience)
    if found:
        problems = "; ".join(map(str, found))
        raise MigrationError(f"{problems}; run `penstock migrate up`, or set migrate = true")
