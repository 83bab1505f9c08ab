"""Taking old partitions out of their tables, by whoever owns these: one process at a time.

Each step is recorded before or together with what it does, and can be taken again: whoever is
killed between two of them leaves a partition from which the next one goes on. Writers wait for none
of it. DETACH CONCURRENTLY is two transactions of its own, so no function can do it for a role that
does not own the table.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.worker.errors import PenstockError, SettingsError
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.exporting import Told, export, identifier, ignored
from penstock.worker.postgres.life import Action, Ages, Life, due, lives
from penstock.worker.postgres.pool import connection_apart
from penstock.worker.postgres.stream_ages import stream_ages, too_short
from penstock.worker.settings.keys import Settings

_TURN = "SELECT pg_try_advisory_lock(hashtextextended('penstock.retention', 0))"
_REMEMBER = """
INSERT INTO partitions.detached AS d
    (schema_name, table_name, lower_bound, upper_bound, partition_name)
VALUES ($1, $2, coalesce($3, '-infinity'::timestamptz), $4, $5)
ON CONFLICT (schema_name, table_name, lower_bound) DO UPDATE
SET (upper_bound, partition_name, detached_at, archived_as, exported_at, file, rows, sha256,
     dropped_at, attached_until)
  = (EXCLUDED.upper_bound, EXCLUDED.partition_name, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
"""
_THIS = """
(schema_name, table_name, lower_bound) = ($1, $2, coalesce($3::timestamptz, '-infinity'))
"""
_DETACHED = f"UPDATE partitions.detached SET detached_at = now() WHERE {_THIS}"
_PUT_AWAY = f"""
UPDATE partitions.detached SET archived_as = partitions.put_away(schema_name, partition_name)
WHERE {_THIS}
"""
_EXPORTED = f"""
UPDATE partitions.detached SET exported_at = $4, file = $5, rows = $6, sha256 = $7 WHERE {_THIS}
"""
_DROPPED = f"""
UPDATE partitions.detached SET archived_as = NULL, dropped_at = now() WHERE {_THIS}
"""
_NOT_OURS = """
SELECT p.schema_name || '.' || p.table_name
FROM partitions.policy AS p
JOIN pg_namespace AS n ON n.nspname = p.schema_name
JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = p.table_name
WHERE p.retention IS NOT NULL AND NOT (
    pg_has_role(c.relowner, 'USAGE') AND has_schema_privilege('archive', 'CREATE')
)
ORDER BY 1
"""


NO_OWNER = (
    "this role does not own {}; set postgres_owner_dsn, or run `penstock partitions maintain "
    "--yes` regularly as the owner"
)


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A step that was taken, or why it could not be; ``error`` is empty if it was."""

    partition: str
    action: str
    note: str = ""
    error: str = ""

    def __str__(self) -> str:
        return f"{self.partition}: {self.action}{self.note and f' {self.note}'}"


class Keeper:
    """Takes the steps that are due, over the connection of an owner whose turn it is. ``told``
    hears how far an export is.
    """

    def __init__(self, connection: asyncpg.Connection, folder: Path | None, ages: Ages) -> None:
        self.connection = connection
        self.told: Told = ignored
        self._folder = folder
        self._ages = ages

    async def plan(self, named: Collection[str] = ()) -> list[tuple[Life, list[Action]]]:
        """What is due for each partition, or for those that are ``named``, expired or not."""
        now = datetime.now(UTC)
        found = await lives(self.connection)
        asked = [life for life in found if not named or life.title in named]
        steps = [(life, list(due(life, now, self._ages, asked=bool(named)))) for life in asked]
        return [(life, actions) for life, actions in steps if actions]

    async def carry_out(self, life: Life, actions: list[Action]) -> AsyncIterator[Taken]:
        """Take the steps of a partition until one fails, or the policy is another meanwhile."""
        while actions:
            action, *rest = actions
            try:
                note = await self._take(action, life)
                life = await self._again(life)
            except PenstockError as error:
                yield Taken(partition=life.title, action=action, error=str(error))
                return
            yield Taken(partition=life.title, action=action, note=note)
            still = list(due(life, datetime.now(UTC), self._ages))
            actions = [step for step in rest if step in still]

    async def _again(self, life: Life) -> Life:
        found = await lives(self.connection, gone=True)
        same = [one for one in found if (one.title, one.upper) == (life.title, life.upper)]
        return same[0] if same else life

    async def _take(self, action: Action, life: Life) -> str:
        match action:
            case Action.DETACH:
                await self._detach(life, "CONCURRENTLY")
            case Action.FINISH:
                await self._detach(life, "FINALIZE")
            case Action.PUT_AWAY:
                await self._run((_DETACHED, _key(life)), (_PUT_AWAY, _key(life)))
            case Action.EXPORT:
                return await self._export(life)
            case Action.DROP:
                await self._run((f"DROP TABLE {life.relation}", ()), (_DROPPED, _key(life)))
        return ""

    async def _detach(self, life: Life, how: str) -> None:
        parent = f"{identifier(life.schema)}.{identifier(life.table)}"
        bounds = life.lower, life.upper
        with translated():
            await self.connection.execute(_REMEMBER, life.schema, life.table, *bounds, life.name)
            await self.connection.execute(
                f"ALTER TABLE {parent} DETACH PARTITION {life.relation} {how}"
            )

    async def _run(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        with translated():
            async with self.connection.transaction():
                for statement, arguments in statements:
                    await self.connection.execute(statement, *arguments)

    async def _export(self, life: Life) -> str:
        if self._folder is None:
            raise PenstockError(
                f"{life.title} is to be exported, but archive_folder is not set; set it, or "
                f"export = false for {life.of} in partitions.policy"
            )
        try:
            path, made = await export(self.connection, life, self._folder, self.told)
        except ModuleNotFoundError as error:
            raise PenstockError(
                f"{life.title} is to be exported, which needs the Python module {error.name}: "
                "pip install 'penstock[archive]'"
            ) from error
        record = made.exported_at, str(path), made.rows, made.sha256
        with translated():
            await self.connection.execute(_EXPORTED, *_key(life), *record)
        return f"to {path}"


def _key(life: Life) -> tuple[Any, ...]:
    return life.schema, life.table, life.lower


@asynccontextmanager
async def turn(settings: Settings, ages: Ages) -> AsyncIterator[Keeper | None]:
    """The turn to keep partitions, until the session ends; None if another process has it. Raises
    SinkUnavailable.
    """
    dsn = settings.postgres_owner_dsn or settings.postgres_dsn
    folder = Path(settings.archive_folder) if settings.archive_folder else None
    slow = {"idle_in_transaction_session_timeout": "0"}  # as a disk that is written to may be
    async with connection_apart(settings, dsn=dsn, hurried=False, **slow) as connection:
        with translated():
            ours = await connection.fetchval(_TURN)
        yield Keeper(connection, folder, ages) if ours else None


async def not_ours(connection: asyncpg.Connection | asyncpg.Pool) -> list[str]:
    """The tables from which this role may not take partitions although their policy wants it."""
    with translated():
        return [name for (name,) in await connection.fetch(_NOT_OURS)]


class PostgresRetention:
    """Retention as a worker does it, beside its other work."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self._settings = settings
        self._ages = stream_ages(settings, catalogue)

    async def check(self, pool: asyncpg.Pool) -> None:
        """Raise SettingsError if a policy would drop what a stream still has; SinkUnavailable."""
        if found := await too_short(pool, self._ages):
            raise SettingsError("\n".join(found))

    async def round(self) -> AsyncGenerator[str]:
        """Do what is due, unless another process is at it; says what was done. Raises PenstockError
        with all that failed.
        """
        failed = []
        async with turn(self._settings, self._ages) as keeper:
            if keeper is None:
                return
            foreign = await not_ours(keeper.connection)
            for life, actions in await keeper.plan():
                if life.of in foreign:
                    failed.append(f"{life.title} is due, but {NO_OWNER.format(life.of)}")
                    continue
                async for taken in keeper.carry_out(life, actions):
                    if taken.error:
                        failed.append(f"{taken.partition}: {taken.error}")
                    else:
                        yield str(taken)
        if failed:
            raise PenstockError("; ".join(failed))
