"""A worker with the rights of deploy/postgres/roles.sql, and with each of them taken away."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from penstock.schemas.catalogue import Catalogue
from penstock.worker.errors import Unavailable
from penstock.worker.finding import Finding, Verdict
from penstock.worker.migrate import up
from penstock.worker.postgres.examine import findings as postgres_findings
from penstock.worker.postgres.pool import database as pool_of
from penstock.worker.postgres.rights import Right, lacking, needed
from penstock.worker.postgres.upkeep import PostgresUpkeep
from penstock.worker.settings.keys import Settings
from tests.conftest import fresh_database
from tests.support.connecting import connection_to
from tests.support.roles import INGEST, OPERATOR, OWNER, READER, execute, logged_in, make_roles
from tests.support.running import settings_for

CATALOGUE = Catalogue.load()
RIGHTS = list(needed(CATALOGUE, INGEST, "{database}"))
# Who may not use a schema is told of nothing in it, so schemas are a group of their own.
SCHEMAS = [right for right in RIGHTS if right.what.startswith("use schema")]
OTHERS = [right for right in RIGHTS if right not in SCHEMAS]
GROUPS = [SCHEMAS, *(OTHERS[first::16] for first in range(16))]


def as_worker(dsn: str) -> Settings:
    return settings_for("nats://127.0.0.1:1", logged_in(dsn, INGEST), kv="false")


async def said(settings: Settings) -> list[Finding]:
    """What doctor says of PostgreSQL that needs a person."""
    found = [finding async for finding in postgres_findings(settings)]
    return [
        finding
        for finding in found
        if finding.verdict is Verdict.BAD and "is off" not in finding.text
    ]


def taken(right: Right, dsn: str) -> tuple[str, str]:
    """The statement that grants it in this database, and the one that takes it from everybody."""
    grant = right.grant.format(database=urlsplit(dsn).path[1:])
    who = f'"{INGEST}"'
    revoke = grant.replace("GRANT ", "REVOKE ", 1).replace(f" TO {who}", f" FROM {who}, PUBLIC")
    return grant, revoke


async def test_the_roles_are_enough_and_may_be_made_again(database: str) -> None:
    assert await said(as_worker(database)) == []
    await make_roles(database)
    assert await said(as_worker(database)) == []


async def test_rights_come_with_what_later_migrations_make(postgres_dsn: str) -> None:
    """Without running the script again: a worker that follows a migration at once can work."""
    await make_roles(postgres_dsn)
    await up(logged_in(postgres_dsn, OWNER))
    missing = {finding.remedy for finding in await said(as_worker(postgres_dsn))}
    assert missing, "the functions act as the owner, so they are granted by name"
    assert all(
        any(words in remedy for words in ("EXECUTE", "DELETE ON", "UPDATE ON bus.outbox"))
        for remedy in missing
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def examined(postgres_address: str, migrated: str) -> AsyncIterator[tuple[str, asyncpg.Pool]]:
    """One database for all rights, which are each given back, and a worker's pool."""
    async with fresh_database(postgres_address, migrated) as dsn, pool_of(as_worker(dsn)) as pool:
        yield dsn, pool


@pytest.mark.parametrize("rights", GROUPS, ids=lambda rights: rights[0].what.replace(" ", "_"))
async def test_each_right_that_is_missing_is_named_with_what_gives_it(
    examined: tuple[str, asyncpg.Pool], rights: list[Right]
) -> None:
    """Far from each other in the list, so that hardly any follows from another one."""
    dsn, pool = examined
    grants, revokes = zip(*(taken(right, dsn) for right in rights), strict=True)
    await execute(dsn, *revokes)
    found = [(lack.what, lack.grant) for lack in await lacking(pool, CATALOGUE)]
    assert [lack for lack in found if lack[1] in grants] == [
        (right.what, grant) for right, grant in zip(rights, grants, strict=True)
    ]
    assert found[0][1] == grants[0], "others only follow from it"
    await execute(dsn, *grants)
    assert await lacking(pool, CATALOGUE) == []


async def test_all_that_jobs_call_is_tried(database: str) -> None:
    tried = {right.what.removeprefix("call ").partition("(")[0] for right in RIGHTS}
    async with connection_to(database) as connection:
        calls = await connection.fetch(
            "SELECT f.call FROM bus.job AS j, unnest(ARRAY[j.call, j.whole]) AS f (call)"
            " WHERE f.call IS NOT NULL"
        )
    assert {call for (call,) in calls} <= tried


async def test_nobody_is_granted_what_a_job_should_not_call(database: str) -> None:
    """Whoever may say when jobs run must not come by a right through what they are said to call."""
    hijack = "UPDATE bus.job SET whole = 'pg_catalog.lo_export' WHERE name = 'statistics'"
    for role in (INGEST, OPERATOR):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await execute(logged_in(database, role), hijack)
        await execute(
            logged_in(database, role),
            "UPDATE bus.job SET last_run = NULL WHERE name = 'statistics'",
        )
    await execute(database, f"GRANT UPDATE ON bus.job TO {INGEST}")  # as it was once
    await execute(logged_in(database, INGEST), hijack)
    await make_roles(database)
    async with connection_to(database) as connection:
        asked = "SELECT has_function_privilege($1, 'lo_export(oid, text)', 'EXECUTE')"
        assert not await connection.fetchval(asked, INGEST)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await execute(logged_in(database, INGEST), hijack)


async def test_rows_of_a_history_cannot_be_changed_in_later_partitions_either(
    database: str,
) -> None:
    """Default privileges know nothing of what only grows."""
    async with connection_to(logged_in(database, INGEST)) as connection:
        for table in ("audit.log", "events.log_tasks", "merit.points"):
            later = "SELECT partitions.ensure_for($1, $2, now() + interval '300 days')"
            child = await connection.fetchval(later, *table.split("."))
            for verb in ("INSERT", "UPDATE", "DELETE"):
                asked = "SELECT has_table_privilege(current_user, $1, $2)"
                assert not await connection.fetchval(asked, child, verb), (child, verb)


async def test_triggers_that_change_other_tables_act_as_their_owner(database: str) -> None:
    """No statement of a worker says what they need, so nobody would think of granting it."""
    connection = await asyncpg.connect(database)
    functions = await connection.fetch(
        "SELECT p.oid::regprocedure::text AS name, p.prosecdef FROM pg_proc AS p"
        " WHERE p.prorettype = 'trigger'::regtype"
        " AND p.proowner = 'penstock_owner'::regrole"
        " AND p.prosrc ~* '\\m(INSERT INTO|UPDATE|DELETE FROM)\\M'"
    )
    await connection.close()
    assert "tasks.apply_stats()" in {row["name"] for row in functions}
    assert [row["name"] for row in functions if not row["prosecdef"]] == []


async def test_doctor_names_a_right_once(database: str) -> None:
    await execute(database, f"REVOKE DELETE ON bus.crash_marker FROM {INGEST}")
    [found] = await said(as_worker(database))
    assert found.text == "PostgreSQL: no right to DELETE on bus.crash_marker"
    assert found.remedy == f'GRANT DELETE ON bus.crash_marker TO "{INGEST}"'


async def test_who_may_make_no_partitions_is_told_so(database: str) -> None:
    """As it is where the function belongs to somebody who does not own the tables."""
    function = "partitions.ensure_for(text, text, timestamptz)"
    await execute(database, f"ALTER FUNCTION {function} OWNER TO {READER}")
    found = await said(as_worker(database))
    assert "PostgreSQL: no right to make partitions of events.log_agents" in {f.text for f in found}
    for finding in found:
        await execute(database, finding.remedy)
    assert await said(as_worker(database)) == []


async def test_looking_leaves_nothing_behind(database: str) -> None:
    before = await contents(database)
    await said(as_worker(database))
    assert await contents(database) == before


async def contents(dsn: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(
            await connection.fetch(
                "SELECT relname, relkind FROM pg_class WHERE relnamespace::regnamespace::text "
                "NOT LIKE 'pg\\_%' ORDER BY 1, 2"
            )
        )
    finally:
        await connection.close()


@pytest.fixture
async def worker_connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(logged_in(database, INGEST))
    yield connection
    await connection.close()


async def test_a_worker_may_reopen_the_last_task_of_an_agent(
    worker_connection: asyncpg.Connection,
) -> None:
    """The trigger deletes the agent's statistics, with the rights of the worker."""
    agent = "INSERT INTO agents.agent (agent_id) VALUES (gen_random_uuid()) RETURNING agent_id"
    agent_id = await worker_connection.fetchval(agent)
    await worker_connection.execute(
        "INSERT INTO tasks.task (task_id, assigned_to, status) VALUES ($1, $1, 'completed')",
        agent_id,
    )
    assert await worker_connection.fetchval("SELECT tasks_completed FROM agents.stats") == 1
    await worker_connection.execute("UPDATE tasks.task SET status = 'pending'")
    assert await worker_connection.fetchval("SELECT count(*) FROM agents.stats") == 0


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM events.log",
        "UPDATE events.log SET data = NULL",
        "TRUNCATE events.log",
        "DELETE FROM bus.position",
        "UPDATE bus.dead_letter SET status = 'gone'",
        "DELETE FROM agents.agent",
        "SELECT FROM identity.credential",
        "INSERT INTO identity.oauth_token (account_id) VALUES (NULL)",
        "UPDATE partitions.policy SET retention = '1 day'",
        "INSERT INTO public.schema_migrations SELECT * FROM public.schema_migrations",
        "CREATE TABLE public.mine (n int)",
        "CREATE TABLE events.mine (n int)",
        "DROP TABLE events.log",
        "CREATE FUNCTION bus.mine() RETURNS int LANGUAGE sql RETURN 1",
    ],
)
async def test_a_worker_may_no_more_than_it_needs(
    worker_connection: asyncpg.Connection, statement: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await worker_connection.execute(statement)


async def test_a_reader_reads_everything_and_calls_nothing_that_acts_as_the_owner(
    database: str,
) -> None:
    connection = await asyncpg.connect(logged_in(database, READER))
    try:
        for table in (*CATALOGUE.tables, "bus.dead_letter", "agents.kv", "partitions.partition"):
            await connection.execute(f"SELECT count(*) FROM {table}")
        for call in ("partitions.maintain()", "bus.compact_positions()"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"SELECT {call}")
        for refused in (
            "INSERT INTO agents.agent (agent_id) VALUES (NULL)",
            "SELECT FROM identity.mfa_device",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(refused)
    finally:
        await connection.close()


async def test_functions_that_act_as_their_owner_ignore_what_a_caller_puts_before_them(
    worker_connection: asyncpg.Connection,
) -> None:
    """A temporary table called as one of theirs must not be taken for it."""
    await worker_connection.execute("CREATE TEMP TABLE policy (n int)")
    await worker_connection.execute("CREATE TEMP TABLE pg_class (relispartition boolean)")
    await worker_connection.execute("SET search_path = pg_temp, partitions, bus, pg_catalog")
    await worker_connection.execute("SELECT partitions.maintain()")
    await worker_connection.execute("SELECT bus.compact_positions()")
    with pytest.raises(asyncpg.UndefinedObjectError):
        await worker_connection.execute("SELECT partitions.ensure_for('bus', 'position', now())")


async def test_what_run_meets_is_what_doctor_says(database: str) -> None:
    await execute(
        database,
        f"REVOKE EXECUTE ON FUNCTION bus.compact_positions(interval) FROM {INGEST}",
    )
    async with pool_of(as_worker(database)) as pool:
        [right] = await lacking(pool, CATALOGUE)
        assert right.what == "call bus.compact_positions(interval)"
        with pytest.raises(Unavailable, match=r"42501.*compact_positions"):
            await PostgresUpkeep(pool).maintain()
