"""Databases for tests: a copy of a migrated one is given out again when it is as new.

Copying some 1,600 files takes most of the time of a short test, and most tests only write rows. So
what they wrote is taken out, unless they changed what is not a row (a partition, a role's right, a
column): then the next test gets a new copy.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

from penstock.worker.embedded import create_database, drop_database
from tests.support.connecting import connection_to
from tests.support.waiting import until

_WITH_SCHEMA = {"search_path": ""}
"""Every name is told with its schema."""
_MUCH_BYTES = 4 << 20
"""Rows of which more was written are left behind with their database."""
_CATALOGS = (
    "pg_attrdef",
    "pg_attribute",
    "pg_class",
    "pg_constraint",
    "pg_default_acl",
    "pg_event_trigger",
    "pg_extension",
    "pg_index",
    "pg_inherits",
    "pg_policy",
    "pg_proc",
    "pg_publication",
    "pg_rewrite",
    "pg_trigger",
    "pg_type",
)
# A changed row of a catalog is a new row, with the number of the transaction that wrote it.
_SHAPE = " UNION ALL ".join(
    f"SELECT '{name}', count(*), sum(xmin::text::bigint) FROM {name}" for name in _CATALOGS
) + (
    " UNION ALL SELECT 'settings', count(*), sum(hashtext(setconfig::text)) FROM pg_db_role_setting"
    " UNION ALL SELECT 'pg_namespace', count(*), sum(xmin::text::bigint) FROM pg_namespace"
    " WHERE nspname !~ '^pg_(toast_)?temp_'"
    " UNION ALL SELECT 'database', datconnlimit, hashtext(datacl::text) FROM pg_database"
    " WHERE datname = current_database()"
)
_WRITTEN = """
    SELECT oid::regclass::text AS name, relnamespace::regnamespace::text AS schema,
    relname AS "table", pg_relation_size(oid) AS size FROM pg_class
    WHERE relkind = 'r' AND relpersistence <> 't' AND pg_relation_size(oid) > 0
    AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
"""
_SEQUENCES = "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'S'"
_OTHERS = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


class Databases:
    """Gives out copies of the database ``template`` on the server of ``address``."""

    def __init__(self, address: str, template: str) -> None:
        self._address = address
        self._template = template
        self._spares: list[str] = []
        self._shape: list[tuple[object, ...]] = []
        self._rows: dict[tuple[str, str], bytes] = {}
        self._sequences: dict[str, tuple[int, bool]] = {}

    @asynccontextmanager
    async def one(self) -> AsyncIterator[str]:
        """The address of a database as the template was, until the context is left."""
        name = self._spares.pop() if self._spares else await self._copy()
        dsn = self._dsn(name)
        try:
            yield dsn
        finally:
            if await self._renewed(dsn):
                self._spares.append(name)
            else:
                await drop_database(self._address, name)

    async def close(self) -> None:
        while self._spares:
            await drop_database(self._address, self._spares.pop())

    async def _copy(self) -> str:
        name = f"test_{uuid4().hex}"
        await create_database(self._address, name, self._template)
        if not self._shape:
            await self._learn(self._dsn(name))
        return name

    def _dsn(self, name: str) -> str:
        return urlsplit(self._address)._replace(path=f"/{name}").geturl()

    async def _learn(self, dsn: str) -> None:
        async with connection_to(dsn, **_WITH_SCHEMA) as connection:
            self._shape = await _shape(connection)
            for row in await connection.fetch(_WRITTEN):
                rows = BytesIO()
                await connection.copy_from_query(f"TABLE {row['name']}", output=rows)
                self._rows[row["schema"], row["table"]] = rows.getvalue()
            for (name,) in await connection.fetch(_SEQUENCES):
                [stands] = await connection.fetch(f"SELECT last_value, is_called FROM {name}")
                self._sequences[name] = tuple(stands)

    async def _renewed(self, dsn: str) -> bool:
        """True once the database has the template's rows again; False where it cannot."""
        async with connection_to(dsn, **_WITH_SCHEMA) as connection:
            await until(lambda: _alone(connection))
            written = await connection.fetch(_WRITTEN)
            much = sum(row["size"] for row in written) > _MUCH_BYTES
            if much or await _shape(connection) != self._shape:
                return False
            # No trigger and no foreign key is asked.
            changes = ["SET session_replication_role TO replica"]
            changes += [f"DELETE FROM {row['name']}" for row in written]
            changes += [
                f"SELECT setval('{name}', {value}, {called})"
                for name, (value, called) in self._sequences.items()
            ]
            await connection.execute(";".join(changes))
            for (schema, table), rows in self._rows.items():
                await connection.copy_to_table(table, schema_name=schema, source=BytesIO(rows))
        return True


async def _alone(connection: asyncpg.Connection) -> bool:
    return bool(await connection.fetchval(_OTHERS) == 0)


async def _shape(connection: asyncpg.Connection) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await connection.fetch(_SHAPE)]
