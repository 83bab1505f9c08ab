"""Rules that every table of the migrated database keeps."""

from itertools import permutations
from typing import Any

import asyncpg
import msgspec
import pytest

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.mapping import AuditLog, History, Log
from penstock.schemas.vocabulary import DOMAINS, AgentStatus, TaskStatus, Vocabulary

CATALOGUE = Catalogue.load()
HISTORIES = {
    kind.spec.history.table
    for kind in CATALOGUE.types.values()
    if isinstance(kind.spec.history, History | Log | AuditLog)
}
STATES = {state.table for kind in CATALOGUE.types.values() for state in kind.states}


async def test_domains_and_enumerations_have_the_same_words(
    connection: asyncpg.Connection,
) -> None:
    rows = await connection.fetch(
        "SELECT t.typname, pg_get_constraintdef(k.oid) FROM pg_constraint k"
        " JOIN pg_type t ON t.oid = k.contypid WHERE t.typnamespace = 'vocab'::regnamespace"
    )
    checks = {name: str(check) for name, check in rows}
    assert set(checks) == {*DOMAINS, "agent_type", "priority"}
    for name, words in DOMAINS.items():
        assert set(checks[name].split("'")[1::2]) == set(words), name


async def test_a_domain_leaves_it_to_the_table_whether_a_value_is_needed(
    connection: asyncpg.Connection,
) -> None:
    for name in DOMAINS:
        assert await connection.fetchval(f"SELECT NULL::vocab.{name}") is None


@pytest.mark.parametrize(
    ("sent", "kind", "read"),
    [
        ("in_progress", TaskStatus, TaskStatus.RUNNING),
        ("retry", TaskStatus, TaskStatus.RETRYING),
        ("stopped", AgentStatus, AgentStatus.OFFLINE),
    ],
)
def test_foreign_spellings_are_understood(sent: str, kind: type[Vocabulary], read: str) -> None:
    assert msgspec.json.decode(f'"{sent}"', type=kind) is read


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="nope"):
        msgspec.json.decode('"nope"', type=TaskStatus)


async def test_every_range_partitioned_table_has_a_policy_on_its_own_column(
    connection: asyncpg.Connection,
) -> None:
    partitioned = await connection.fetch(
        "SELECT n.nspname AS schema_name, c.relname AS table_name,"
        " (SELECT a.attname FROM pg_attribute a"
        "  WHERE a.attrelid = c.oid AND a.attnum = p.partattrs[0]) AS column_name"
        " FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.partstrat = 'r'"
    )
    policies = await connection.fetch(
        "SELECT schema_name, table_name, column_name FROM partitions.policy"
    )
    assert {tuple(row) for row in partitioned} == {tuple(row) for row in policies}
    assert await connection.fetchval("SELECT every(premake > 0) FROM partitions.policy")


async def test_histories_are_partitioned(connection: asyncpg.Connection) -> None:
    for table in HISTORIES | {"messages.message", "tasks.execution", "agents.state"}:
        kind = await connection.fetchval(
            "SELECT relkind FROM pg_class WHERE oid = $1::regclass", table
        )
        assert kind == b"p", table


async def test_no_default_partition(connection: asyncpg.Connection) -> None:
    assert (
        await connection.fetch("SELECT partrelid FROM pg_partitioned_table WHERE partdefid <> 0")
        == []
    )


async def test_a_row_does_not_depend_on_which_event_made_it(connection: asyncpg.Connection) -> None:
    """Columns of state tables, their keys aside, are nullable and have no default."""
    for table in STATES:
        exempt = {"recorded_at"} if table in CATALOGUE.made else {"is_stub", "updated_at"}
        rows = await connection.fetch(
            "SELECT attname, attnotnull, atthasdef FROM pg_attribute"
            " WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped",
            table,
        )
        strict = {name for name, not_null, default in rows if not_null or default}
        assert strict == exempt | set(CATALOGUE.keys[table]), table


async def test_histories_have_no_references(connection: asyncpg.Connection) -> None:
    """Nor have partitioned state tables: an unknown parent must never stop an event."""
    found = await connection.fetch(
        "SELECT conname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid"
        " WHERE k.contype = 'f' AND (c.relkind = 'p' OR c.relispartition)"
    )
    assert found == []


async def test_state_is_unique_by_its_key_alone(connection: asyncpg.Connection) -> None:
    """Which of two rows a unique changeable value refuses would depend on the order of arrival."""
    for table in STATES:
        rows = await connection.fetch(
            "SELECT indisprimary FROM pg_index WHERE indrelid = $1::regclass AND indisunique", table
        )
        assert [tuple(row) for row in rows] == [(True,)], table


async def indexes(connection: asyncpg.Connection) -> list[dict[str, Any]]:
    """Those of columns alone."""
    rows = await connection.fetch(
        "SELECT i.indrelid, i.indrelid::regclass::text AS table, c.relname AS name,"
        " i.indisunique, am.amname, i.indpred IS NOT NULL AS partial,"
        " array(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(n, o)"
        "  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n ORDER BY o) AS columns"
        " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam"
        " JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace"
        " WHERE NOT t.relispartition AND n.nspname <> ALL ('{pg_catalog,pg_toast}')"
        " AND i.indexprs IS NULL"
    )
    return [dict(row) for row in rows]


async def test_no_index_repeats_another(connection: asyncpg.Connection) -> None:
    """One whose columns are how another begins costs writes and serves no query of its own."""
    found = [row for row in await indexes(connection) if row["amname"] == "btree"]
    for one, other in permutations(found, 2):
        begins = other["columns"][: len(one["columns"])] == one["columns"]
        repeats = one["indrelid"] == other["indrelid"] and begins and not one["indisunique"]
        assert not repeats or one["partial"] or other["partial"], (
            f"{one['name']} in {other['name']}"
        )


async def test_every_reference_has_an_index(connection: asyncpg.Connection) -> None:
    """Or deleting a parent, and many a query, would read the whole child."""
    leading = {(row["indrelid"], row["columns"][0]) for row in await indexes(connection)}
    references = await connection.fetch(
        "SELECT k.conrelid, a.attname, k.conname FROM pg_constraint k"
        " JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]"
        " WHERE k.contype = 'f'"
    )
    for table, column, name in references:
        assert (table, column) in leading, name


async def test_no_index_holds_a_document(connection: asyncpg.Connection) -> None:
    """A document in an index is refused once it is long, and makes every update dear."""
    found = await connection.fetch(
        "SELECT i.indexrelid::regclass FROM pg_index i JOIN pg_attribute a"
        " ON a.attrelid = i.indexrelid WHERE a.atttypid = 'jsonb'::regtype"
    )
    assert found == []


async def test_histories_can_be_read_by_entity_and_by_time(connection: asyncpg.Connection) -> None:
    found = await indexes(connection)
    for table in HISTORIES:
        own = [row for row in found if row["table"] == table]
        assert any(row["amname"] == "brin" and row["columns"] == ["occurred_at"] for row in own)
        assert any(row["columns"][1:] == ["occurred_at"] for row in own if row["amname"] == "btree")


async def test_every_table_of_the_catalogue_can_be_written_to_now(
    connection: asyncpg.Connection,
) -> None:
    missing = await connection.fetch(
        "SELECT table_name FROM partitions.policy AS p WHERE NOT EXISTS ("
        " SELECT FROM partitions.partition AS q WHERE (q.schema_name, q.table_name)"
        " = (p.schema_name, p.table_name) AND now() >= lower_bound AND now() < upper_bound)"
    )
    assert missing == []
