"""What the views and jobs of `monitoring` say of a server, and of backups `recovery`."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from penstock.schemas.identity import entity_uuid
from penstock.worker.postgres.pool import open_pool
from tests.support.connecting import connection_to
from tests.support.roles import OPERATOR, OWNER, logged_in, of_worker
from tests.support.written import write


@pytest.fixture
async def owner(database: str) -> AsyncIterator[asyncpg.Connection]:
    found = await asyncpg.connect(database)
    yield found
    await found.close()


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    found = await open_pool(
        of_worker(database), size=2, statement_timeout=30, lock_timeout=5, name="test"
    )
    yield found
    await found.close()


async def test_sizes_use_and_bloat_are_those_of_whole_tables(owner: asyncpg.Connection) -> None:
    await owner.execute(
        f"CREATE SCHEMA probe AUTHORIZATION {OWNER}; SET ROLE {OWNER};"
        ' CREATE TABLE probe."Odd t" (id integer PRIMARY KEY, x text);'
        " INSERT INTO probe.\"Odd t\" SELECT n, repeat('x', 400) FROM generate_series(1, 30000) n;"
        ' DELETE FROM probe."Odd t" WHERE id % 4 > 0'
    )
    await owner.execute('VACUUM ANALYZE probe."Odd t"')
    size = "SELECT rows_estimate, total_bytes, partitions FROM monitoring.table_sizes"
    found = await owner.fetchrow(f"{size} WHERE schema_name = 'probe'")
    assert found is not None
    assert (found["rows_estimate"], found["partitions"]) == (7500, 0)
    assert found["total_bytes"] == await owner.fetchval(
        "SELECT pg_total_relation_size('probe.\"Odd t\"')"
    )
    log = await owner.fetchrow(f"{size} WHERE (schema_name, table_name) = ('events', 'log')")
    assert log is not None
    assert log["partitions"] > 20
    bloat = "SELECT bloat_percent FROM monitoring.bloat_estimate WHERE schema_name = 'probe'"
    assert 70 < await owner.fetchval(f"{bloat} AND kind = 'table'") < 80
    raised = await owner.fetch("SELECT * FROM monitoring.evaluate('{table_bloat_percent}')")
    assert [tuple(row) for row in raised] == [("table_bloat_percent probe.Odd t",)]
    usage = "SELECT usage, is_unique FROM monitoring.index_usage"
    usage += " WHERE schema_name || '.' || index_name = $1"
    assert [tuple(row) for row in await owner.fetch(usage, "events.log_entity")] == [
        ("unused", False)
    ]


async def test_without_the_extension_slow_statements_are_an_answer_and_plans_are_none(
    pool: asyncpg.Pool,
) -> None:
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError) as refused:
        await pool.fetch("SELECT * FROM monitoring.slow_queries")
    assert "CREATE EXTENSION pg_stat_statements" in str(refused.value.hint)
    assert await pool.fetch("SELECT * FROM monitoring.capture_plans()") == []


async def test_a_plan_is_shown_and_nothing_is_run(
    pool: asyncpg.Pool, owner: asyncpg.Connection
) -> None:
    plan = "SELECT plan, error FROM monitoring.plan_of($1)"
    for statement, error in (
        ("INSERT INTO bus.crash_marker (stream) VALUES ('x')", None),
        ("INSERT INTO bus.replica (worker) VALUES ('x'); SELECT 1", "not a single statement"),
        ("TRUNCATE bus.replica", "not a single statement"),
        ("SELECT 1 FROM nowhere", "42P01"),
        ("DELETE FROM partitions.policy", "42501"),  # as whoever calls
    ):
        found = await pool.fetchrow(plan, statement)
        assert found is not None
        assert (found["plan"] is None) == (error is not None), statement
        assert error is None or found["error"].startswith(error), statement
    assert await owner.fetchval("SELECT count(*) FROM bus.crash_marker") == 0


async def test_an_index_is_recommended_until_it_is_there_or_rejected(
    pool: asyncpg.Pool, owner: asyncpg.Connection
) -> None:
    recommend = "SELECT * FROM monitoring.recommend_indexes()"
    assert await pool.fetch(recommend) == []  # Penstock's own tables have what they need
    await owner.execute("""
    CREATE SCHEMA probe;
    CREATE TABLE probe.p (id integer PRIMARY KEY, doc jsonb, kind text);
    CREATE TABLE probe.c (id integer PRIMARY KEY, "P Id" integer REFERENCES probe.p, b integer
                          REFERENCES probe.p);
    INSERT INTO probe.p SELECT n, '{}', 'k' || n % 7 FROM generate_series(1, 1500) AS n;
    DO $$ BEGIN FOR n IN 1 .. 101 LOOP PERFORM FROM probe.p WHERE kind = 'k1'; END LOOP; END $$;
    INSERT INTO monitoring.query_plan (query_hash, query, plan) SELECT '1', s, p.plan
    FROM (SELECT 'SELECT FROM probe.p WHERE kind = ''k1'' AND doc <> ''null''' AS s) AS q
    CROSS JOIN LATERAL monitoring.plan_of(s) AS p;
    SELECT pg_stat_force_next_flush();
    """)
    named = ['probe.c ["P Id"]', 'probe.c ["b"]', 'probe.p ["kind"]']
    assert [name for (name,) in await pool.fetch(recommend)] == named
    assert await pool.fetch(recommend) == []
    await owner.execute(
        "UPDATE monitoring.index_recommendation SET status = 'rejected', decided_at = now()"
        """ WHERE columns = '["b"]'"""
    )
    statements = await owner.fetch("SELECT statement FROM monitoring.pending_index ORDER BY 1")
    assert [text for (text,) in statements] == [
        'CREATE INDEX CONCURRENTLY ON probe.c USING btree ("P Id")',
        "CREATE INDEX CONCURRENTLY ON probe.p USING btree (kind)",
    ]
    await owner.execute(statements[0][0])
    assert [name for (name,) in await pool.fetch(recommend)] == named[:1]
    await owner.execute(
        "DELETE FROM monitoring.query_plan;"
        " UPDATE monitoring.index_recommendation SET created_at = now() - interval '31 days'"
    )
    assert [name for (name,) in await pool.fetch(recommend)] == named[2:]
    status = "SELECT status FROM monitoring.index_recommendation ORDER BY table_name, columns::text"
    found = [status for (status,) in await owner.fetch(status)]
    assert found == ["implemented", "rejected", "obsolete"]


async def test_backups_are_told_in_any_order_and_what_lost_its_parent_is_counted(
    pool: asyncpg.Pool, owner: asyncpg.Connection
) -> None:
    finished = {"status": "completed", "bytes": 7, "manifest": {"a": "0"}}
    started = {"kind": "base", "lsn": "0/1", "stream_seqs": {"PLATFORM": 9}}
    tested = {"kind": "pitr", "backup_id": "b-1", "target": "scratch"}
    await write(
        pool,
        ("recovery.test_finished", "t-1", {"status": "passed", "verified": True}),
        ("backups.finished", "b-1", finished),
        ("backups.verified", "b-1", {"error": "a is missing"}),
        begin=20,
    )
    await write(
        pool,
        ("recovery.test_started", "t-1", tested),
        ("backups.started", "b-1", started),
        ("backups.verified", "b-1", {}),
        begin=1,
    )
    backup = "SELECT kind, status, bytes, stream_seqs::text, verified_at, verify_error, is_stub"
    found = await owner.fetchrow(f"{backup} FROM recovery.backup")
    assert found is not None
    assert tuple(found) == (
        *("base", "completed", 7, '{"PLATFORM": 9}', None, "a is missing", False),
    )
    test = await owner.fetchrow(
        "SELECT kind, status, verified, backup_id::text,"
        " finished_at - started_at = '19 seconds'::interval FROM recovery.test_result"
    )
    assert test is not None
    assert tuple(test) == ("pitr", "passed", True, entity_uuid("backup", "b-1"), True)
    log = "SELECT resource_type, action FROM audit.log ORDER BY occurred_at LIMIT 2"
    assert [tuple(row) for row in await owner.fetch(log)] == [
        ("recovery_test", "test_started"),
        ("backup", "started"),
    ]
    orphans = "SELECT child, field, enforced, orphans, example FROM recovery.verify_consistency()"
    assert await owner.fetch(f"{orphans} WHERE orphans <> 0") == []
    await owner.execute(
        "SET session_replication_role = replica; DELETE FROM recovery.backup;"
        " INSERT INTO agents.state (agent_id, state_key) SELECT backup_id, 'k'"
        " FROM recovery.test_result; SET session_replication_role = origin"
    )
    lost = [tuple(row) for row in await owner.fetch(f"{orphans} WHERE orphans <> 0 ORDER BY child")]
    key = entity_uuid("backup", "b-1")
    assert lost == [
        ("agents.state", "agent_id", False, 1, key),
        ("recovery.test_result", "backup_id", True, 1, key),
    ]


async def test_what_others_have_in_the_database_is_not_read(database: str) -> None:
    """As they might not let Penstock's owner read it, or run code of theirs while he does."""
    async with connection_to(database) as superuser:
        await superuser.execute(
            "CREATE SCHEMA billing"
            " CREATE TABLE invoice (task_id uuid REFERENCES tasks.task, agent_id uuid)"
        )
    async with connection_to(logged_in(database, OPERATOR)) as operator:
        rows = await operator.fetch("SELECT child FROM recovery.verify_consistency()")
    assert len(rows) > 20
    assert not [child for (child,) in rows if child.startswith("billing.")]
