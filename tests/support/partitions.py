"""A table with a column of every kind and an old partition, for retention to take out."""

from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from penstock.worker.postgres.life import lives
from penstock.worker.postgres.retention import Keeper, turn
from penstock.worker.settings.keys import Settings
from tests.support.roles import OWNER
from tests.support.running import settings_for

LONG_AGO = datetime(2020, 2, 3, 4, 5, 6, 789012, tzinfo=UTC)
TABLE = '"every"."Kind of.rows"'
PARTITION = "every.Kind of.rows_y2020m02"

_MADE = """
CREATE TYPE "every".mood AS ENUM ('calm', 'it''s odd');
CREATE TYPE "every".pair AS (a int, b text);
CREATE DOMAIN "every".word AS text CHECK (length(VALUE) < 100);
CREATE TABLE "every"."Kind of.rows" (
    id uuid NOT NULL, occurred_at timestamptz NOT NULL, "a ""b" text, "c.d" int, yes boolean,
    i2 smallint, i8 bigint, f4 real, f8 double precision, n numeric, n2 numeric(12, 2), doc jsonb,
    old json, raw bytea, at timestamptz, naive timestamp, day date, clock time, span interval,
    words text[], grid int[][], times timestamptz[], host inet, bits bit varying, reach tstzrange,
    mood "every".mood, pair "every".pair, word "every".word, status vocab.task_status,
    cut varchar(5), pad char(6), twice bigint GENERATED ALWAYS AS ("c.d" * 2) STORED,
    PRIMARY KEY (id, occurred_at)
) PARTITION BY RANGE (occurred_at);
INSERT INTO partitions.policy
    (schema_name, table_name, column_name, "interval", premake, retention, archive, export)
VALUES ('every', 'Kind of.rows', 'occurred_at', 'month', 1, '3 months', false, true);
"""
_FILLED = r"""
INSERT INTO "every"."Kind of.rows"
SELECT gen_random_uuid(), $1::timestamptz + n * interval '1 microsecond', x.words[n % 5 + 1], n,
    n % 2 = 0, -n, 9000000000000000000 - n, 'NaN', x.real[n % 5 + 1], x.exact[n % 5 + 1], 1.5,
    '{"b": [1.10, null, "\u00e9"], "a": 1e400}', '{ "kept":  "as sent" }', '\x00ff',
    x.at[n % 5 + 1], x.naive[n % 5 + 1], x.day[n % 5 + 1], '24:00:00',
    '-1 mons +3 days 00:00:00.000001', x.words, ARRAY[[1, 2], [3, NULL]], x.at, '::1/64', B'101',
    tstzrange(x.at[4], NULL), 'it''s odd', ROW(1, 'x,"y')::"every".pair, 'word', 'completed',
    'abc', 'ab'
FROM generate_series(1, $2::int) AS n
CROSS JOIN (VALUES (
    ARRAY['', NULL, E'tab\t"quote" \\ 😀\n', 'NULL', '{}'],
    ARRAY['-Infinity', 'NaN', '0.1', '-0', '1e-300']::float8[],
    ARRAY['NaN', 'Infinity', '1.10', '-0.00000000000000000000000001',
          '123456789012345678901234567890.5']::numeric[],
    ARRAY['infinity', '-infinity', '4713-01-01 00:00:00.000001+00 BC',
          '2024-02-29 23:59:59.999999Z', '294246-12-31 23:59:59.999999Z']::timestamptz[],
    ARRAY['infinity', '-infinity', '4713-01-01 BC', '0001-01-01', '1969-12-31 23:59:59.5']
        ::timestamp[],
    ARRAY['infinity', '-infinity', '4713-01-01 BC', '5874897-12-31', '1970-01-01']::date[]
)) AS x (words, real, exact, at, naive, day)
"""


def keeper_of(database: str, folder: Path) -> Settings:
    """Settings of who owns the tables and archives them, and waits for no lock for long."""
    given = {"postgres_dsn": database, "archive_folder": str(folder), "lock_timeout": "300ms"}
    return settings_for("nats://127.0.0.1:1", database, **given)


async def every_kind(connection: asyncpg.Connection, rows: int) -> None:
    """Make the table, and fill `PARTITION` with so many rows, all different."""
    schema = f'CREATE SCHEMA "every" AUTHORIZATION {OWNER}'
    await connection.execute(f"{schema}; SET ROLE {OWNER}; {_MADE} RESET ROLE")
    await connection.execute("SELECT partitions.ensure_for('every', 'Kind of.rows', $1)", LONG_AGO)
    await connection.execute(_FILLED, LONG_AGO, rows)


OLD = "agents.heartbeat_y2020m02d03"
HEARTBEAT = (
    "INSERT INTO agents.heartbeat (event_id, occurred_at, agent_id)"
    " VALUES (gen_random_uuid(), $1, gen_random_uuid())"
)


async def contents(connection: asyncpg.Connection) -> list[str]:
    return [
        text for (text,) in await connection.fetch(f"SELECT t::text FROM {TABLE} AS t ORDER BY id")
    ]


async def place(connection: asyncpg.Connection, name: str = PARTITION) -> str:
    [life] = [life for life in await lives(connection, gone=True) if life.title == name]
    return life.place


async def old_heartbeats(connection: asyncpg.Connection) -> None:
    await connection.execute("SELECT partitions.ensure_for('agents', 'heartbeat', $1)", LONG_AGO)
    await connection.execute(HEARTBEAT, LONG_AGO)


async def step(settings: Settings) -> dict[str, list[str]]:
    """What one turn does, by partition; an error in its words."""
    done: dict[str, list[str]] = {}
    async with turn(settings, {}) as keeper:
        assert isinstance(keeper, Keeper)
        for life, actions in await keeper.plan():
            async for taken in keeper.carry_out(life, actions):
                done.setdefault(life.title, []).append(taken.error or taken.action)
    return done
