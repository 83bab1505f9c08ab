"""SQL, generated once from the catalogue and the columns that the database really has.

Statements take one array per column. Policies are those of `penstock.schemas.mapping`; ``t`` is the
stored row, ``EXCLUDED`` the folded one, and NULL always means "not stated".
"""

from collections.abc import Iterable, Mapping, Sequence

from penstock.schemas.event_type import Group

ColumnTypes = Mapping[str, str]
"""Column to SQL type; domains are given by the type they are based on."""


def unnest(columns: Sequence[str], types: ColumnTypes) -> str:
    """``unnest($1::uuid[], $2::text[], ...)``: rows from one array per column."""
    arrays = ", ".join(f"${n}::{types[name]}[]" for n, name in enumerate(columns, start=1))
    return f"unnest({arrays})"


def group_columns(group: Group) -> tuple[str, ...]:
    """The columns that a group writes, its guard first."""
    return group.guard + group.columns


def state_columns(
    key: Sequence[str], groups: Sequence[Group], types: ColumnTypes
) -> tuple[str, ...]:
    """What `upsert` takes arrays of: the key, the groups, and whether a row is a stub."""
    stub = ("is_stub",) if "is_stub" in types else ()
    return (*key, *(name for group in groups for name in group_columns(group)), *stub)


def upsert(table: str, key: Sequence[str], groups: Sequence[Group], types: ColumnTypes) -> str:
    """Insert rows or fold them into the stored ones; rows that would not change are left alone."""
    columns = state_columns(key, groups, types)
    changes = [change for group in groups for change in _changes(group, alone=_alone(groups))]
    if "is_stub" in types:
        changes.append("is_stub = t.is_stub AND EXCLUDED.is_stub")
    if "updated_at" in types:
        changes.append("updated_at = now()")
    conditions = [_differs(group) for group in groups if group.kind != "once"]
    if "is_stub" in types:
        conditions.append("(t.is_stub AND NOT EXCLUDED.is_stub)")
    return (
        f"INSERT INTO {table} AS t ({', '.join(columns)}) "
        f"SELECT * FROM {unnest(columns, types)} "
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {', '.join(changes)} "
        f"WHERE {' OR '.join(conditions)}"
    )


def _alone(groups: Sequence[Group]) -> bool:
    """True if one guard decides the whole row, so that WHERE needs no CASE beside it."""
    return [group.kind for group in groups if group.kind != "once"] in (["last"], ["first"])


def _row(alias: str, names: Sequence[str]) -> str:
    return f"({', '.join(f'{alias}.{name}' for name in names)})"


def _wins(group: Group) -> str:
    """The folded row states the group, and its guard beats the stored one."""
    head, sign = group.guard[0], ">" if group.kind == "last" else "<"
    return (
        f"(EXCLUDED.{head} IS NOT NULL AND (t.{head} IS NULL OR "
        f"{_row('EXCLUDED', group.guard)} {sign} {_row('t', group.guard)}))"
    )


def _ranked(alias: str, group: Group) -> str:
    order = ", ".join(f"'{label}'" for label in group.order)
    return f"coalesce(array_position(ARRAY[{order}]::text[], {alias}.{group.columns[0]}::text), 0)"


def _changes(group: Group, *, alone: bool) -> list[str]:
    names = group_columns(group)
    if group.kind in ("last", "first"):
        if alone:
            return [f"{name} = EXCLUDED.{name}" for name in names]
        wins = _wins(group)
        return [f"{n} = CASE WHEN {wins} THEN EXCLUDED.{n} ELSE t.{n} END" for n in names]
    if group.kind == "rank":
        (name,) = names
        beats = f"{_ranked('EXCLUDED', group)} > {_ranked('t', group)}"
        return [f"{name} = CASE WHEN {beats} THEN EXCLUDED.{name} ELSE t.{name} END"]
    form = _COMBINED[group.kind]
    return [f"{name} = {form.format(name)}" for name in names]


_COMBINED = {
    "max": "greatest(t.{0}, EXCLUDED.{0})",
    "min": "least(t.{0}, EXCLUDED.{0})",
    "add": "CASE WHEN EXCLUDED.{0} IS NULL THEN t.{0} ELSE coalesce(t.{0}, 0) + EXCLUDED.{0} END",
    "once": "coalesce(t.{0}, EXCLUDED.{0})",
}


def _differs(group: Group) -> str:
    """The folded row would change this group of the stored one."""
    if group.kind in ("last", "first"):
        return _wins(group)
    if group.kind == "rank":
        return f"{_ranked('EXCLUDED', group)} > {_ranked('t', group)}"
    if group.kind == "add":
        return " OR ".join(f"EXCLUDED.{name} IS NOT NULL" for name in group.columns)
    sign = ">" if group.kind == "max" else "<"
    return " OR ".join(
        f"(EXCLUDED.{name} IS NOT NULL AND (t.{name} IS NULL OR EXCLUDED.{name} {sign} t.{name}))"
        for name in group.columns
    )


def stubs(table: str, key: str, types: ColumnTypes) -> str:
    """Insert parents that are referred to before their own event came."""
    names = [key, *(["external_id"] if "external_id" in types else [])]
    marks = ", is_stub" if "is_stub" in types else ""
    return (
        f"INSERT INTO {table} ({', '.join(names)}{marks}) "
        f"SELECT {', '.join(names)}{', true' if marks else ''} "
        f"FROM {unnest([key, 'external_id'], {**types, 'external_id': 'text'})} "
        f"AS given({key}, external_id) ON CONFLICT DO NOTHING"
    )


def stage_name(table: str) -> str:
    """The temporary table that takes rows on their way to ``table``."""
    return f"penstock_stage_{table.replace('.', '_')}"


def create_stage(table: str, columns: Sequence[str], types: ColumnTypes) -> str:
    """A temporary table with the columns of ``table`` that are written, emptied at each commit."""
    defined = ", ".join(f"{name} {types[name]}" for name in columns)
    return f"CREATE TEMP TABLE IF NOT EXISTS {stage_name(table)} ({defined}) ON COMMIT DELETE ROWS"


def merge_stage(table: str, columns: Sequence[str]) -> str:
    """Move staged rows that are new into ``table``; tells which they were."""
    names = ", ".join(columns)
    return (
        f"INSERT INTO {table} ({names}) SELECT {names} FROM {stage_name(table)} "
        "ON CONFLICT DO NOTHING RETURNING event_id::text, occurred_at"
    )


def insert_rows(table: str, columns: Sequence[str], types: ColumnTypes) -> str:
    """Insert the rows that are new into ``table``; tells which they were."""
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT * FROM {unnest(columns, types)} "
        "ON CONFLICT DO NOTHING RETURNING event_id::text, occurred_at"
    )


def hydrated(view: str, columns: Sequence[str], types: ColumnTypes) -> str:
    """Committed rows of a KV view whose ``columns`` equal one of the given keys.

    Of a value that is longer than the last argument, in bytes, only the size comes.
    """
    return (
        "SELECT bucket, key, live, guard, nth, octet_length(value), "
        f"CASE WHEN octet_length(value) <= ${len(columns) + 1}::bigint THEN value END "
        "FROM (SELECT v.bucket, v.key, v.live, v.guard, v.value, given.nth "
        f"FROM {_asked(view, columns, types)} OFFSET 0) AS found"
    )


def identities(
    view: str, identity: Sequence[str], columns: Sequence[str], types: ColumnTypes
) -> str:
    """Which rows of a KV view, by the columns ``identity``, are those of the given keys."""
    names = ", ".join(f"v.{name}" for name in identity)
    return f"SELECT DISTINCT {names} FROM {_asked(view, columns, types)}"


def all_identities(view: str, identity: Sequence[str]) -> str:
    """Which rows a KV view has, by the columns ``identity``. No value is worked out for it."""
    return f"SELECT DISTINCT {', '.join(identity)} FROM {view}"


def hydrated_key(view: str, columns: Sequence[str], types: ColumnTypes) -> str:
    """The KV keys of the given rows, without what they hold."""
    return f"SELECT v.bucket, v.key FROM {_asked(view, columns, types)}"


def _asked(view: str, columns: Sequence[str], types: ColumnTypes) -> str:
    names = ", ".join(columns)
    matched = " AND ".join(f"v.{name} = given.{name}" for name in columns)
    return (
        f"{unnest(columns, types)} WITH ORDINALITY AS given({names}, nth) "
        f"JOIN {view} AS v ON {matched}"
    )


def position(literals: Iterable[str]) -> str:
    """Keep where a batch stood; the cells are literals."""
    return (
        "INSERT INTO bus.position (transport, stream, epoch, seqs, worker) "
        f"VALUES ({', '.join(literals)})"
    )


DEAD_LETTERS = """
INSERT INTO bus.dead_letter (transport, stream, epoch, seq, subject, headers, raw_headers, body,
                             digest, reason, error, event_id, attempts, worker)
SELECT $1, $2, $3, g.seq, g.subject, g.headers::jsonb, g.raw_headers, g.body, g.digest, g.reason,
       g.error, g.event_id, g.attempts, $4
FROM unnest($5::bigint[], $6::text[], $7::text[], $8::bytea[], $9::bytea[], $10::bytea[],
            $11::text[], $12::text[], $13::uuid[], $14::int[])
     AS g(seq, subject, headers, raw_headers, body, digest, reason, error, event_id, attempts)
ON CONFLICT (transport, stream, epoch, seq, digest) DO NOTHING
RETURNING seq, digest
"""
"""Tells which of them were not kept yet."""

COLUMNS = """
SELECT n.nspname || '.' || c.relname AS relation, a.attname AS name,
       format_type(coalesce(nullif(t.typbasetype, 0), t.oid), a.atttypmod) AS type
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
WHERE n.nspname || '.' || c.relname = ANY($1::text[]) AND a.attnum > 0 AND NOT a.attisdropped
"""

POLICIES = """
SELECT schema_name || '.' || table_name AS relation, column_name, retention
FROM partitions.policy
"""
"""Every range-partitioned table: its partition column and how long its rows stay online."""
