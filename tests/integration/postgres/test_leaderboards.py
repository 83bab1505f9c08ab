"""Leaderboards, of the periods that are on and of those that somebody asks for."""

from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from penstock.worker.settings.keys import Settings
from tests.support.commands import outside, said
from tests.support.running import settings_for

ANN, BOB, EVE = (UUID(int=n) for n in (1, 2, 3))
MONDAY = date(2026, 1, 5)
AGENTS = """
INSERT INTO agents.agent (agent_id, external_id, registered_at) VALUES
    ($1, 'ann', now()), ($2, 'bob', now()), ($3, NULL, now())
"""
POINTS = """
INSERT INTO merit.points (event_id, occurred_at, agent_id, final_points)
VALUES (gen_random_uuid(), $2, $1, $3)
"""
BOARD = """
SELECT agent_id, score::integer, rank, rank_change FROM merit.leaderboard
WHERE (category, period, period_start) = ($1, $2, $3) ORDER BY rank, agent_id
"""


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    found = await asyncpg.connect(database, server_settings={"TimeZone": "America/Lima"})
    await found.execute(AGENTS, ANN, BOB, EVE)
    yield found
    await found.close()


@pytest.fixture
def settings(nats_url: str, database: str) -> Settings:
    return settings_for(nats_url, database)


async def award(connection: asyncpg.Connection, agent: UUID, day: date, points: int) -> None:
    at = f"{day} 23:59:59.9Z"
    await connection.fetch(
        "SELECT partitions.ensure_for('merit', 'points', $1::text::timestamptz)", at
    )
    await connection.execute(POINTS.replace("$2", "$2::text::timestamptz"), agent, at, points)


async def board(connection: asyncpg.Connection, *which: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await connection.fetch(BOARD, *which)]


async def derive(settings: Settings, *words: str) -> list[str]:
    [found] = await said(settings, "derive", "leaderboards", *words, code=0)
    return list(found["keys"])


async def test_any_week_may_be_asked_for_by_a_day_of_it(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    """Equal scores share a rank, and who climbed is told by the week before."""
    for agent, day, points in (
        (ANN, 0, 5), (BOB, 6, 9), (EVE, 7, 1), (ANN, 7, 20), (BOB, 13, 20), (BOB, 14, 99)
    ):  # fmt: skip
        await award(connection, agent, MONDAY + timedelta(days=day), points)
    asked = ("--category", "overall", "--period", "weekly", "--start")
    assert await derive(settings, *asked, "2026-01-11", "--dry-run") == [
        "overall weekly 2026-01-05"
    ]
    assert await board(connection, "overall", "weekly", MONDAY) == []
    assert await derive(settings, *asked, "2026-01-11") == ["overall weekly 2026-01-05"]
    assert await derive(settings, *asked, "2026-01-05") == []
    assert await board(connection, "overall", "weekly", MONDAY) == [
        (BOB, 9, 1, None), (ANN, 5, 2, None)
    ]  # fmt: skip
    assert await derive(settings, "--key", "overall weekly 2026-01-12") == [
        "overall weekly 2026-01-12"
    ]
    assert await board(connection, "overall", "weekly", MONDAY + timedelta(days=7)) == [
        (ANN, 20, 1, 1), (BOB, 20, 1, 0), (EVE, 1, 3, None)
    ]  # fmt: skip
    assert await derive(settings, "--start", "2026-01-11") == [
        "overall daily 2026-01-11",
        "overall monthly 2026-01-01",
    ], "of all categories and periods"
    told = "SELECT data ->> 'period_start' FROM bus.outbox WHERE type = 'leaderboards.computed'"
    assert len(await connection.fetch(told)) == 4


REFUSED = (
    "leaderboards --category beauty",
    "leaderboards --start 2999-01-01",
    "tally --category overall",
    "--category overall",
)


async def test_what_is_no_leaderboard_is_refused(settings: Settings) -> None:
    for words in REFUSED:
        assert await outside(settings, "derive", *words.split()) == 2, words


async def test_a_period_whose_points_are_archived_stays_as_it_was(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    await award(connection, ANN, MONDAY, 5)
    asked = ("--category", "overall", "--period", "weekly", "--start", "2026-01-05")
    await derive(settings, *asked)
    await connection.execute(
        "INSERT INTO partitions.detached (schema_name, table_name, partition_name, lower_bound,"
        " upper_bound) VALUES ('merit', 'points', 'points_2026_01', '2026-01-01Z', '2026-02-01Z')"
    )
    await connection.execute("DELETE FROM merit.points")
    assert await outside(settings, "derive", "leaderboards", *asked) == 2
    assert await board(connection, "overall", "weekly", MONDAY) == [(ANN, 5, 1, None)]


async def test_trust_of_a_period_that_is_over_is_what_it_was_at_its_end(
    connection: asyncpg.Connection,
) -> None:
    """`trust.score` has the latest alone, which is of a later period once a score has changed."""
    await connection.execute(
        "INSERT INTO trust.score (agent_id, eigentrust, persistence, competence, composite,"
        " iterations, run_id, as_of, computed_at)"
        " SELECT agent_id, 0, 0, 0, composite, 1, gen_random_uuid(), as_of, now() FROM (VALUES"
        " ($1::uuid, 60.0, now()), ($2, 50.0, '2026-01-02Z'), ($3, 40.0, now()))"
        " AS s (agent_id, composite, as_of)",
        ANN, BOB, EVE,
    )  # fmt: skip
    await connection.execute(
        "SELECT partitions.ensure_for('events', 'log_trust', '2026-01-01Z');"
        "SELECT partitions.ensure_for('events', 'log_trust', '2025-12-01Z')"
    )
    await connection.executemany(
        "INSERT INTO events.log (domain, event_id, occurred_at, event_type, entity_id, version,"
        " source, data) VALUES ('trust', gen_random_uuid(), $1::text::timestamptz, 'trust.scored',"
        " $2, 0, '/s', jsonb_build_object('composite', $3::int))",
        [
            ("2025-12-31 23:00Z", "ann", 10),
            ("2026-01-04 23:00Z", "ann", 70),
            ("2026-01-05 00:00Z", "ann", 1),
        ],
    )
    await connection.fetch("SELECT merit.place_now('{trust weekly 2026-01-04}')")
    assert await board(connection, "trust", "weekly", MONDAY - timedelta(days=7)) == [
        (ANN, 70, 1, None), (BOB, 50, 2, None)
    ]  # fmt: skip
    await connection.fetch("SELECT merit.place_now()")
    today = await connection.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date")
    assert [row[0] for row in await board(connection, "trust", "daily", today)] == [ANN, BOB, EVE]
