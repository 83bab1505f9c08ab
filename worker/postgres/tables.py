"""What the database says about tables: columns, keys, and how they are partitioned."""

from collections.abc import Sequence

import asyncpg
import msgspec


class Column(msgspec.Struct, frozen=True):
    """``type`` is the one that a domain is based on, with its modifier; ``filled`` means that the
    database gives a value where none is written, ``deterministic`` that only same texts are equal.
    """

    type: str
    required: bool
    filled: bool
    deterministic: bool


class Check(msgspec.Struct, frozen=True):
    """A CHECK constraint: ``text`` is its SQL, ``columns`` are those that it looks at."""

    name: str
    text: str
    columns: frozenset[str]


class Table(msgspec.Struct, frozen=True):
    """``keys`` are the sets of columns that a row can be found by. ``partitioned`` is True if
    partitions have to be made as time goes by, ``policy`` the column that `partitions.policy` names
    for that.
    """

    name: str
    partitioned: bool
    policy: str | None
    columns: dict[str, Column]
    keys: set[frozenset[str]]
    checks: list[Check]


_TABLES = """
SELECT n.nspname || '.' || c.relname AS name, p.partstrat = 'r' AND p.partdefid = 0 AS partitioned,
       o.column_name AS policy
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid
LEFT JOIN partitions.policy o ON (o.schema_name, o.table_name) = (n.nspname, c.relname)
WHERE n.nspname || '.' || c.relname = ANY($1::text[]) AND c.relkind IN ('r', 'p')
"""
_COLUMNS = """
SELECT n.nspname || '.' || c.relname AS relation, a.attname AS name,
       format_type(coalesce(nullif(t.typbasetype, 0), t.oid),
                   CASE WHEN t.typbasetype = 0 THEN a.atttypmod ELSE t.typtypmod END) AS type,
       a.attnotnull, a.atthasdef OR a.attidentity <> '' AS filled,
       t.typname <> 'citext' AND coalesce(l.collisdeterministic, true) AS deterministic
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE n.nspname || '.' || c.relname = ANY($1::text[]) AND a.attnum > 0 AND NOT a.attisdropped
"""
_KEYS = """
SELECT n.nspname || '.' || c.relname AS relation, array_agg(a.attname::text) AS columns
FROM pg_index i
JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid
    AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
WHERE n.nspname || '.' || c.relname = ANY($1::text[])
  AND i.indisunique AND i.indimmediate AND i.indisvalid
  AND i.indpred IS NULL AND i.indexprs IS NULL
GROUP BY i.indexrelid, 1
"""
_CHECKS = """
SELECT n.nspname || '.' || c.relname AS relation, k.conname, pg_get_constraintdef(k.oid) AS text,
       array_agg(a.attname::text) AS columns
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    AND (a.attnum = ANY (k.conkey) OR 0 = ANY (k.conkey)) -- 0 stands for the whole row
WHERE n.nspname || '.' || c.relname = ANY($1::text[]) AND k.contype = 'c'
  AND pg_get_constraintdef(k.oid) NOT LIKE '% NOT ENFORCED'
GROUP BY k.oid, 1, 2, 3
ORDER BY 1, 2
"""


_ROWS = """
SELECT coalesce(sum(greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0)), 0)::int8
FROM unnest($1::text[]) AS given (name)
CROSS JOIN LATERAL pg_partition_tree(given.name::regclass) AS part
JOIN pg_class AS c ON c.oid = part.relid
WHERE part.isleaf
"""


async def rows_about(pool: asyncpg.Pool, names: Sequence[str]) -> int:
    """How many rows tables have together, by the server's statistics. Raises the driver's errors.

    ``names`` are quoted where they have to be.
    """
    found: int = await pool.fetchval(_ROWS, names)
    return found


async def read_tables(pool: asyncpg.Pool, names: Sequence[str]) -> dict[str, Table]:
    """Those of the tables that there are. Raises the driver's errors."""
    found = {
        name: Table(name, bool(partitioned), policy, {}, set(), [])
        for name, partitioned, policy in await pool.fetch(_TABLES, names)
    }
    for relation, name, *said in await pool.fetch(_COLUMNS, names):
        if relation in found:
            found[relation].columns[name] = Column(*said)
    for relation, columns in await pool.fetch(_KEYS, names):
        if relation in found:
            found[relation].keys.add(frozenset(columns))
    for relation, name, text, columns in await pool.fetch(_CHECKS, names):
        if relation in found:
            found[relation].checks.append(Check(name, text, frozenset(columns)))
    return found
