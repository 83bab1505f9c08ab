"""The migrated database as its catalogue describes it: what the generated pages are made from."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec

from penstock.worker import migrate
from penstock.worker.embedded import EmbeddedPostgres


class Column(msgspec.Struct, frozen=True):
    """A column; ``about`` is its COMMENT."""

    name: str
    type: str
    required: bool
    about: str | None


class Reference(msgspec.Struct, frozen=True):
    """A foreign key, of one column."""

    column: str
    table: str


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table, or a view: then it has no key. ``partitions`` says by what it is cut into pieces."""

    name: str
    about: str | None
    is_view: bool
    columns: Sequence[Column]
    key: Sequence[str]
    references: Sequence[Reference]
    partitions: str | None
    policies: Sequence[str]

    @property
    def schema(self) -> str:
        """The part before the point."""
        return self.name.partition(".")[0]


class Schema(msgspec.Struct, frozen=True):
    """Everything by its name: ``schemas`` with their COMMENTs, functions, domains with words."""

    schemas: Mapping[str, str | None]
    tables: Mapping[str, Table]
    functions: frozenset[str]
    words: Mapping[str, frozenset[str]]


_OWN = "n.nspname !~ '^pg_' AND n.nspname <> ALL ('{information_schema,archive,public}')"
_SCHEMAS = f"""
SELECT n.nspname, obj_description(n.oid, 'pg_namespace') FROM pg_namespace AS n WHERE {_OWN}
ORDER BY 1
"""
_TABLES = f"""
SELECT c.oid, n.nspname || '.' || c.relname AS name, obj_description(c.oid, 'pg_class') AS about,
       c.relkind IN ('v', 'm') AS is_view, pg_get_partkeydef(c.oid) AS partitions,
       (SELECT count(*) FROM pg_inherits AS i WHERE i.inhparent = c.oid) AS parts
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition AND {_OWN}
ORDER BY 2
"""
_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       col_description(a.attrelid, a.attnum)
FROM pg_attribute AS a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
_KEY = """
SELECT a.attname FROM pg_index AS i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k (n, place)
JOIN pg_attribute AS a ON a.attnum = k.n
WHERE i.indrelid = $1 AND i.indisprimary AND a.attrelid = $1 ORDER BY k.place
"""
_REFERENCES = """
SELECT a.attname, n.nspname || '.' || c.relname
FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.confrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
WHERE k.conrelid = $1 AND k.contype = 'f' ORDER BY 1
"""
_POLICIES = """
SELECT schema_name || '.' || table_name AS name, column_name, "interval" AS step, premake,
       retention::text, archive, drop_after::text
FROM partitions.policy ORDER BY 1
"""
_FUNCTIONS = f"""
SELECT DISTINCT n.nspname || '.' || p.proname
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE {_OWN}
"""
_WORDS = """
SELECT t.typname, pg_get_constraintdef(k.oid) FROM pg_constraint AS k
JOIN pg_type AS t ON t.oid = k.contypid WHERE t.typnamespace = 'vocab'::regnamespace
"""


async def described(dsn: str) -> Schema:
    """Read it all."""
    connection = await asyncpg.connect(dsn)
    try:
        policies = await connection.fetch(_POLICIES)
        tables = [
            await _table(connection, row, policies) for row in await connection.fetch(_TABLES)
        ]
        words = await connection.fetch(_WORDS)
        return Schema(
            schemas={row[0]: row[1] for row in await connection.fetch(_SCHEMAS)},
            tables={table.name: table for table in tables},
            functions=frozenset(name for (name,) in await connection.fetch(_FUNCTIONS)),
            words={name: frozenset(str(check).split("'")[1::2]) for name, check in words},
        )
    finally:
        await connection.close()


async def _table(connection: Any, row: Any, policies: Sequence[Any]) -> Table:
    oid, name = row["oid"], row["name"]
    hashed = f"{row['partitions']}, {row['parts']} parts"
    return Table(
        name=name,
        about=row["about"],
        is_view=row["is_view"],
        columns=[Column(*found) for found in await connection.fetch(_COLUMNS, oid)],
        key=[column for (column,) in await connection.fetch(_KEY, oid)],
        references=[Reference(*found) for found in await connection.fetch(_REFERENCES, oid)],
        partitions=hashed if "HASH" in hashed else row["partitions"],
        policies=[
            _policy(name, found)
            for found in policies
            if found["name"] == name or found["name"].startswith(f"{name}_")
        ],
    )


def _policy(table: str, row: Any) -> str:
    own = "" if row["name"] == table else f"`{row['name']}`: "
    kept = f"detached after {row['retention']}" if row["retention"] else "kept for ever"
    if row["retention"]:
        kept += ", then archived" if row["archive"] else ", then dropped"
        kept += f", dropped at {row['drop_after']}" if row["drop_after"] else ""
    ahead = f"{row['premake']} made ahead"
    return f"{own}one partition a {row['step']} of `{row['column_name']}`, {ahead}, {kept}"


@asynccontextmanager
async def migrated() -> AsyncIterator[str]:
    """The address of a database of its own, with all migrations applied."""
    async with EmbeddedPostgres(settings={"fsync": "off"}) as server:
        dsn = await server.create_database("described")
        await migrate.up(dsn)
        yield dsn
