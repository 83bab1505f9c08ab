"""SQL, generated once from the catalogue and the columns that the database really has.

Statements take one array per column. Policies are those of `penstock.schemas.mapping`; ``t`` is the
stored row, ``EXCLUDED`` the folded one, and NULL always means "not stated". A conflict is always
one of the key: a unique constraint of somebody else's rejects the row, and swallows none.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from zlib import crc32

from penstock.schemas.event_type import Group
from penstock.worker.postgres.transaction import literal

ColumnTypes = Mapping[str, str]
"""Column to SQL type, without a length or precision, which a cast would cut to while COPY refuses;
domains are given by the type they are based on.
"""


def quoted(name: str) -> str:
    """A name as it stands, whatever words SQL keeps for itself; ``schema.table`` in two parts."""
    return ".".join(f'"{part.replace(QUOTE, QUOTE * 2)}"' for part in name.split(".", 1))


QUOTE = '"'


def _names(columns: Iterable[str]) -> str:
    return ", ".join(map(quoted, columns))


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


def upsert(
    table: str,
    key: Sequence[str],
    groups: Sequence[Group],
    types: ColumnTypes,
    *,
    restate: bool = False,
) -> str:
    """Insert rows or fold them into the stored ones; rows that would not change are left alone.

    With ``restate``, what a row says differently than the very event that it names is set right.
    """
    columns = state_columns(key, groups, types)
    alone = [group.kind for group in groups] in (["last"], ["first"])  # one guard decides the row
    wins = _restates if restate else _wins
    changes = [change for group in groups for change in _changes(group, types, wins, alone=alone)]
    if "is_stub" in types:
        changes.append("is_stub = t.is_stub AND EXCLUDED.is_stub")
    if "updated_at" in types:
        changes.append("updated_at = now()")
    conditions = [differs(group, types, wins) for group in groups]
    if "is_stub" in types:
        conditions.append("(t.is_stub AND NOT EXCLUDED.is_stub)")
    return (
        f"INSERT INTO {quoted(table)} AS t ({_names(columns)}) "
        f"SELECT * FROM {unnest(columns, types)} "
        f"ON CONFLICT ({_names(key)}) DO UPDATE SET {', '.join(changes)} "
        f"WHERE {' OR '.join(conditions)}"
    )


def row(alias: str, names: Sequence[str]) -> str:
    """A row value of ``names``, for comparing several columns at once."""
    return f"({', '.join(f'{alias}.{quoted(name)}' for name in names)})"


def _wins(group: Group) -> str:
    """The folded row states the group, and its guard beats the stored one."""
    head, sign = quoted(group.guard[0]), ">" if group.kind == "last" else "<"
    return (
        f"(EXCLUDED.{head} IS NOT NULL AND (t.{head} IS NULL OR "
        f"{row('EXCLUDED', group.guard)} {sign} {row('t', group.guard)}))"
    )


def contradicts(group: Group) -> str:
    """The stored row was stated by the very event of the folded one, and says something else."""
    return (
        f"(EXCLUDED.{quoted(group.guard[0])} IS NOT NULL "
        f"AND {row('EXCLUDED', group.guard)} = {row('t', group.guard)} "
        f"AND {row('EXCLUDED', group.columns)} IS DISTINCT FROM {row('t', group.columns)})"
    )


def _restates(group: Group) -> str:
    return f"({_wins(group)} OR {contradicts(group)})"


def ranked(alias: str, group: Group) -> str:
    """The place of a ``rank`` column in its order, from 1; 0 for NULL."""
    order = ", ".join(literal(label) for label in group.order)
    column = f"{alias}.{quoted(group.columns[0])}"
    return f"coalesce(array_position(ARRAY[{order}]::text[], {column}::text), 0)"


def _changes(
    group: Group, types: ColumnTypes, wins: Callable[[Group], str], *, alone: bool
) -> list[str]:
    names = list(map(quoted, group_columns(group)))
    if group.kind in ("last", "first"):
        if alone:
            return [f"{name} = EXCLUDED.{name}" for name in names]
        won = wins(group)
        return [f"{n} = CASE WHEN {won} THEN EXCLUDED.{n} ELSE t.{n} END" for n in names]
    if group.kind == "rank":
        (name,) = names
        beats = f"{ranked('EXCLUDED', group)} > {ranked('t', group)}"
        return [f"{name} = CASE WHEN {beats} THEN EXCLUDED.{name} ELSE t.{name} END"]
    form = _COMBINED[group.kind]
    return [
        f"{quoted(name)} = {form.format(quoted(name), collation(types[name]))}"
        for name in group_columns(group)
    ]


_COMBINED = {
    "max": "greatest(t.{0}{1}, EXCLUDED.{0}{1})",
    "min": "least(t.{0}{1}, EXCLUDED.{0}{1})",
    "add": "CASE WHEN EXCLUDED.{0} IS NULL THEN t.{0} ELSE coalesce(t.{0}, 0) + EXCLUDED.{0} END",
    "once": "coalesce(t.{0}, EXCLUDED.{0})",
}


def collation(kind: str) -> str:
    """Texts are compared by code points, as the fold does, whatever language the column is in."""
    return ' COLLATE "C"' if kind in ("text", "character varying") else ""


def differs(group: Group, types: ColumnTypes, wins: Callable[[Group], str] = _wins) -> str:
    """The folded row would change this group of the stored one."""
    if group.kind in ("last", "first"):
        return wins(group)
    if group.kind == "rank":
        return f"{ranked('EXCLUDED', group)} > {ranked('t', group)}"
    form = _DIFFERENT[group.kind]
    return " OR ".join(
        f"(EXCLUDED.{quoted(name)} IS NOT NULL{form.format(quoted(name), collation(types[name]))})"
        for name in group.columns
    )


_DIFFERENT = {
    "max": " AND (t.{0} IS NULL OR EXCLUDED.{0}{1} > t.{0}{1})",
    "min": " AND (t.{0} IS NULL OR EXCLUDED.{0}{1} < t.{0}{1})",
    "add": "",
    "once": " AND t.{0} IS NULL",
}


def stubs(table: str, key: str, types: ColumnTypes) -> str:
    """Insert parents that are referred to before their own event came."""
    names = [key, *(["external_id"] if "external_id" in types else [])]
    marks = ", is_stub" if "is_stub" in types else ""
    return (
        f"INSERT INTO {quoted(table)} ({_names(names)}{marks}) "
        f"SELECT {_names(names)}{', true' if marks else ''} "
        f"FROM {_parents(key, types)} ON CONFLICT ({quoted(key)}) DO NOTHING"
    )


def stub_texts(table: str, key: str, types: ColumnTypes) -> str:
    """Give parents that are there the text of their key, if they were only named by UUID yet."""
    return (
        f"UPDATE {quoted(table)} AS t SET external_id = given.external_id "
        f"FROM {_parents(key, types)} WHERE t.{quoted(key)} = given.{quoted(key)} "
        "AND t.external_id IS NULL AND given.external_id IS NOT NULL"
    )


def _parents(key: str, types: ColumnTypes) -> str:
    known = {**types, "external_id": "text"}
    return f"{unnest([key, 'external_id'], known)} AS given({quoted(key)}, external_id)"


def stage_name(table: str) -> str:
    """The temporary table that takes rows on their way to ``table``; PostgreSQL cuts long names."""
    name = f"penstock_stage_{table.replace('.', '_')}"
    return name if len(name) <= _LONGEST_NAME else f"penstock_stage_{crc32(table.encode()):08x}"


_LONGEST_NAME = 63


def create_stage(table: str, columns: Sequence[str], types: ColumnTypes) -> str:
    """A temporary table with the columns of ``table`` that are written, emptied at each commit."""
    stage = quoted(stage_name(table))
    defined = ", ".join(f"{quoted(name)} {types[name]}" for name in columns)
    return f"CREATE TEMP TABLE IF NOT EXISTS {stage} ({defined}) ON COMMIT DELETE ROWS"


def merge_stage(table: str, key: Sequence[str], columns: Sequence[str]) -> str:
    """Move staged rows that are new into ``table``; tells which they were."""
    names, stage = _names(columns), quoted(stage_name(table))
    return (
        f"INSERT INTO {quoted(table)} ({names}) SELECT {names} FROM {stage} "
        f"ON CONFLICT ({_names(key)}) DO NOTHING RETURNING event_id::text, occurred_at"
    )


def insert_rows(table: str, key: Sequence[str], columns: Sequence[str], types: ColumnTypes) -> str:
    """Insert the rows that are new into ``table``; tells which they were."""
    return (
        f"INSERT INTO {quoted(table)} ({_names(columns)}) SELECT * FROM {unnest(columns, types)} "
        f"ON CONFLICT ({_names(key)}) DO NOTHING RETURNING event_id::text, occurred_at"
    )


def hydrated(view: str, columns: Sequence[str], types: ColumnTypes) -> str:
    """Committed rows of a KV view whose ``columns`` equal one of the given keys.

    Of a value that is longer than the last argument, in bytes, only the size comes.
    """
    return (
        "SELECT bucket, key, live, guard, nth, octet_length(value), "
        f"CASE WHEN octet_length(value) <= ${len(columns) + 1}::bigint THEN value END "
        "FROM (SELECT v.bucket, v.key, v.live, v.guard::jsonb, v.value, given.nth "
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


SETTLE_REQUEUES = """
SELECT requeue_id::text, changed
FROM bus.settle_requeues($1::uuid[], $2::text[], $3::text[], $4::text)
"""
"""Tells which of them are known, and whether that changed a letter."""

OPEN_LETTERS = """
SELECT count(*)
FROM (
    SELECT FROM bus.dead_letter WHERE status IN ('kept', 'requeued', 'rejected') LIMIT $1
) AS counted
"""
"""Letters that wait for somebody, counted up to a limit."""

COLUMNS = """
SELECT n.nspname || '.' || c.relname AS relation, a.attname AS name,
       format_type(coalesce(nullif(t.typbasetype, 0), t.oid), -1) AS type
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
