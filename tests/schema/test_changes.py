"""What people change with SQL, as the audit log tells it."""

import json
from typing import Any
from uuid import UUID

import asyncpg
import pytest

LOGGED = """
SELECT action, resource_type, resource_id, old_values::text, new_values::text, changed::text, actor
FROM audit.log WHERE origin = 'trigger' ORDER BY occurred_at, event_id
"""


ODD = """
CREATE TABLE public."Odd name" (a int, b jsonb);
CREATE TRIGGER watch AFTER INSERT ON public."Odd name"
    FOR EACH ROW EXECUTE FUNCTION audit.log_change();
INSERT INTO public."Odd name" VALUES (1, '{"key": [1]}');
"""
"""A table of a package, without a key."""


async def logged(connection: asyncpg.Connection) -> list[tuple[Any, ...]]:
    rows = []
    for action, kind, resource, *documents, actor in await connection.fetch(LOGGED):
        rows.append((action, kind, resource, *(d and json.loads(d) for d in documents), actor))
    return rows


async def test_who_changed_a_number_is_on_record(connection: asyncpg.Connection) -> None:
    """With what it was; not what the worker keeps for itself, and not what stayed as it was."""
    band = {"scheme": "tier", "name": "iron", "rank": 9, "min_value": 70000}
    await connection.execute("INSERT INTO config.band VALUES ('tier', 'iron', 9, 70000)")
    async with connection.transaction():
        await connection.execute("SET LOCAL penstock.actor = 'ann'")
        await connection.execute("UPDATE config.band SET min_value = 80000 WHERE name = 'iron'")
    await connection.execute("UPDATE config.band SET rank = rank")
    await connection.execute("SELECT partitions.maintain()")
    await connection.execute("UPDATE bus.job SET last_run = now(), last_ms = 3")
    await connection.execute(
        "UPDATE partitions.policy SET premake = 4 WHERE table_name = 'log_sdlc'"
    )
    await connection.execute("DELETE FROM config.band WHERE name = 'iron'")
    await connection.execute("TRUNCATE trust.pretrusted")
    raised = {**band, "min_value": 80000}
    inserted, changed, policy, deleted, emptied = await logged(connection)
    assert inserted == ("insert", "config.band", "tier/iron", None, band, None, None)
    assert changed == ("update", "config.band", "tier/iron", band, raised, ["min_value"], "ann")
    assert policy[:3] == ("update", "partitions.policy", "events/log_sdlc")
    assert policy[5] == ["premake"]
    assert deleted == ("delete", "config.band", "tier/iron", raised, None, None, None)
    assert emptied == ("truncate", "trust.pretrusted", None, None, None, None, None)
    who = "SELECT DISTINCT db_user, txid > 0, source FROM audit.log"
    [(user, numbered, source)] = await connection.fetch(who)
    assert (user, numbered) == (await connection.fetchval("SELECT session_user"), True)
    assert source.startswith("/postgresql/test_")
    daily = "SELECT resource_type, action, changes, actors FROM audit.daily_activity ORDER BY 1, 2"
    assert [tuple(row) for row in await connection.fetch(daily)][:3] == [
        ("config.band", "delete", 1, 1),
        ("config.band", "insert", 1, 1),
        ("config.band", "update", 1, 1),
    ]


async def test_that_a_secret_was_changed_is_on_record_and_never_the_secret(
    connection: asyncpg.Connection,
) -> None:
    await connection.execute("INSERT INTO identity.account (account_id) VALUES ($1)", UUID(int=1))
    old, new = "$argon2id$old", "$argon2id$new"
    store = "INSERT INTO identity.credential (account_id, password_hash) VALUES ($1, $2)"
    await connection.execute(store, UUID(int=1), old)
    await connection.execute("UPDATE identity.credential SET password_hash = $1", new)
    _, (action, _, resource, before, after, changed, _) = await logged(connection)
    assert (action, resource, changed) == ("update", str(UUID(int=1)), ["password_hash"])
    assert before["password_hash"] == after["password_hash"] == "***"
    every = str(await connection.fetch("SELECT l::text FROM audit.log AS l"))
    assert old not in every
    assert new not in every


async def test_a_change_makes_the_partition_that_it_is_put_on_record_in(
    connection: asyncpg.Connection,
) -> None:
    """No worker has looked after this database for months. Who counts as nobody is no obstacle."""
    await connection.execute(
        "DO $$ DECLARE p record; BEGIN FOR p IN SELECT partition FROM partitions.partition"
        " WHERE (schema_name, table_name) = ('audit', 'log') LOOP"
        " EXECUTE format('DROP TABLE %s', p.partition); END LOOP; END $$"
    )
    await connection.execute("SET penstock.actor = ''")
    await connection.execute("UPDATE config.parameter SET value = 16 WHERE name = 'elo.k'")
    [(*_, changed, actor)] = await logged(connection)
    assert (changed, actor) == (["value"], None)
    await connection.execute(ODD)
    assert (await logged(connection))[1][:5] == (
        "insert",
        "public.Odd name",
        None,
        None,
        {"a": 1, "b": {"key": "***"}},
    )
    with pytest.raises(asyncpg.UndefinedObjectError, match=r"no row of partitions\.policy"):
        await connection.execute("DELETE FROM partitions.policy")
