"""The rights that a worker's role needs, found out by using each of them in a transaction that is
rolled back.

What the system catalogues say is not what happens: a role may inherit, a function may act as
another role. So each right is one statement that changes nothing.
"""

from collections.abc import AsyncIterator, Iterator, Mapping

import asyncpg
import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.worker.migrate.connecting import NO_RIGHT
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.pool import borrowed
from penstock.worker.postgres.transaction import Connection

_STATEMENTS = {
    "SELECT": "SELECT * FROM {table} WHERE false",
    "INSERT": "INSERT INTO {table} ({column}) SELECT NULL WHERE false",
    "UPDATE": "UPDATE {table} SET {column} = NULL WHERE false",
    "DELETE": "DELETE FROM {table} WHERE false",
}
"""The server looks at the rights before it looks for rows."""

_OWN: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "bus.position": ("stream", ("SELECT", "INSERT")),
    "bus.dead_letter": ("stream", ("SELECT", "INSERT")),
    "bus.crash_marker": ("stream", ("SELECT", "INSERT", "UPDATE", "DELETE")),
    "bus.replica": ("worker", ("SELECT", "INSERT", "UPDATE", "DELETE")),
    "bus.replay": ("worker", ("SELECT", "INSERT", "UPDATE")),
    "bus.outbox": ("reason", ("SELECT", "UPDATE", "DELETE")),
    "bus.outbox_domain": ("domain", ("SELECT",)),
    "bus.due": ("function", ("SELECT", "INSERT", "UPDATE", "DELETE")),
    "bus.job": ("last_run", ("SELECT", "UPDATE (last_run, last_ms, last_error)")),
    "monitoring.alert": ("metric", ("SELECT",)),
    "monitoring.query_plan": ("query", ("SELECT", "INSERT", "DELETE")),
    "partitions.policy": ("table_name", ("SELECT",)),
    "partitions.detached": ("table_name", ("SELECT",)),
    "partitions.life": ("table_name", ("SELECT",)),
    "conversations.v_item": ("conversation_id", ("SELECT",)),
    "threads.v_checkpoint": ("thread_id", ("SELECT",)),
    "audit.seal": ("seal_id", ("SELECT",)),
    "agents.stats": ("agent_id", ("SELECT", "INSERT", "UPDATE", "DELETE")),
}
"""Penstock's own tables: a column of each, and what is done with its rows, or with some columns."""

_CALLS = {
    "audit.seal(text[])": "audit.seal('{}'::text[])",
    "bus.compact_positions(interval)": "bus.compact_positions('1 minute')",
    "bus.forget_letters(interval, integer)": "bus.forget_letters('1 day', 0)",
    "bus.resume_offset(text, text)": "bus.resume_offset('', '')",
    "bus.settle_requeues(uuid[], text[], text[], text)": (
        "bus.settle_requeues('{}', '{}', '{}', '')"
    ),
    "bus.utc_text(timestamptz)": "bus.utc_text(now())",
    "identity.expire_sessions(text[])": "identity.expire_sessions('{}')",
    "merit.place_now(text[])": "merit.place_now('{}')",
    "monitoring.capture_plans()": "monitoring.capture_plans()",
    "monitoring.evaluate(text[])": "monitoring.evaluate('{}')",
    "monitoring.recommend_indexes()": "monitoring.recommend_indexes()",
    "knowledge.search_vector(jsonb)": "knowledge.search_vector('{}')",
    "partitions.ensure_for(text, text, timestamptz)": "partitions.ensure_for('', '', now())",
    "partitions.maintain()": "partitions.maintain()",
    "tasks.refresh_statistics(text[])": "tasks.refresh_statistics('{}')",
    "tasks.recount_stats(uuid[])": "tasks.recount_stats('{}')",
    "tasks.wrong_stats()": "tasks.wrong_stats()",
    "telemetry.roll_up(text[])": "telemetry.roll_up('{}')",
    "telemetry.roll_up_again()": "telemetry.roll_up_again()",
    "trust.score_all(uuid[])": "trust.score_all('{}')",
    "pg_catalog.pg_advisory_unlock(bigint)": "pg_catalog.pg_advisory_unlock(1)",
    "pg_catalog.pg_try_advisory_lock(bigint)": "pg_catalog.pg_try_advisory_lock(1)",
    "pg_catalog.pg_try_advisory_xact_lock(bigint)": "pg_catalog.pg_try_advisory_xact_lock(1)",
}
"""Functions, each with a call that is not carried out, as no row is asked for."""

_NONE = "'{}'"
"""No keys to work anything out for."""

_FAR = "2200-01-01T00:00:00Z"
"""No partition is there yet, and none stays."""

_HERE = "SELECT current_user, current_database()"
_POLICIES = "SELECT schema_name, table_name FROM partitions.policy ORDER BY 1, 2"
_ENSURE = "SELECT partitions.ensure_for($1, $2, $3::text::timestamptz)"
_OWNER = """
SELECT pg_get_userbyid(c.relowner)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2
"""


class Right(msgspec.Struct, frozen=True):
    """What a worker does, the statement that tries it, and the one that allows it.

    ``schema`` is where the object is; without its use nothing else there can be tried.
    """

    what: str
    attempt: str
    grant: str
    schema: str = ""


async def lacking(pool: asyncpg.Pool, catalogue: Catalogue) -> list[Right]:
    """The rights that the role of ``pool`` has not. Raises SinkUnavailable."""
    with translated():
        async with borrowed(pool) as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                return [right async for right in _lacking(connection, catalogue)]
            finally:
                await transaction.rollback()


async def _lacking(connection: Connection, catalogue: Catalogue) -> AsyncIterator[Right]:
    [(role, database)] = await connection.fetch(_HERE)
    closed = set[str]()
    for right in needed(catalogue, role, database):
        if right.schema in closed or await _allowed(connection, right.attempt):
            continue
        yield right
        if right.what == _using(right.schema):
            closed.add(right.schema)
    if "partitions" not in closed and await _allowed(connection, f"{_POLICIES} LIMIT 0"):
        async for right in _partitions(connection):
            yield right


async def _allowed(connection: Connection, attempt: str, *arguments: str) -> bool:
    """False if the server says that it is the right that is missing."""
    try:
        async with connection.transaction():  # a savepoint
            await connection.fetch(attempt, *arguments)
    except asyncpg.PostgresError as error:
        if isinstance(error, asyncpg.PostgresConnectionError | asyncpg.OperatorInterventionError):
            raise
        return error.sqlstate != NO_RIGHT
    return True


def needed(catalogue: Catalogue, role: str, database: str) -> Iterator[Right]:
    """Everything that a worker does with the events of ``catalogue``, but for making partitions."""
    tables = {**_event_tables(catalogue), **_OWN}
    temporary = "CREATE TEMP TABLE penstock_tried (n integer)"
    grant = f'GRANT TEMPORARY ON DATABASE "{database}" TO "{role}"'
    yield Right("make a temporary table", temporary, grant)
    places = {name.partition(".")[0]: name for name in (*tables, *catalogue.hydrated)}
    for schema, name in places.items():
        grant = f'GRANT USAGE ON SCHEMA {schema} TO "{role}"'
        yield Right(_using(schema), f"SELECT '{name}'::regclass", grant, schema)
    derived = {name: f"{name}({', '.join([_NONE] * n)})" for name, n in catalogue.derived.items()}
    for function, call in {**_CALLS, **derived}.items():  # first: views call them
        grant = f'GRANT EXECUTE ON FUNCTION {function} TO "{role}"'
        schema = function.partition(".")[0]
        yield Right(f"call {function}", f"SELECT {call} LIMIT 0", grant, schema)
    for table, (column, verbs) in tables.items():
        for verb in verbs:
            yield _on(table, verb, column, role)
    for view in catalogue.hydrated:
        yield _on(view, "SELECT", "", role)


def _event_tables(catalogue: Catalogue) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Rows of histories are added, those of state are changed too, unless one event makes them."""
    added = ("SELECT", "INSERT")
    state = {
        table: (keys[0], added if table in catalogue.made else (*added, "UPDATE"))
        for table, keys in catalogue.keys.items()
    }
    histories = [table for table in catalogue.tables if table not in state]
    return {**dict.fromkeys(histories, ("event_id", added)), **state}


def _on(table: str, verb: str, column: str, role: str) -> Right:
    attempt = _STATEMENTS[verb.partition(" ")[0]].format(table=table, column=column)
    grant = f'GRANT {verb} ON {table} TO "{role}"'
    return Right(f"{verb} on {table}", attempt, grant, table.partition(".")[0])


def _using(schema: str) -> str:
    return f"use schema {schema}"


async def _partitions(connection: Connection) -> AsyncIterator[Right]:
    """By making one of each table that has them; the function acts as its owner."""
    if not await _allowed(connection, _ENSURE, "", "", _FAR):
        return  # it may not even be called, which has been said
    for schema, table in await connection.fetch(_POLICIES):
        if not await _allowed(connection, _ENSURE, schema, table, _FAR):
            owner = await connection.fetchval(_OWNER, schema, table)
            yield Right(
                f"make partitions of {schema}.{table}",
                _ENSURE,
                f'ALTER FUNCTION partitions.ensure_for(text, text, timestamptz) OWNER TO "{owner}"',
            )
