"""Ratings and streaks, against programs that know only the rules."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import asyncpg
import pytest

from tests.support.elo import Battle, random_battles, ratings

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
AGENTS = 8

_AGENTS = """
INSERT INTO agents.agent (agent_id, is_stub)
SELECT lpad(to_hex(n), 32, '0')::uuid, true FROM generate_series(1, 9) AS n
"""
_BATTLE = """
INSERT INTO merit.battle (battle_id, status, finished_at, outcome_event)
VALUES ($1, 'completed', $2, $3)
ON CONFLICT (battle_id) DO UPDATE
SET (finished_at, outcome_event) = (EXCLUDED.finished_at, EXCLUDED.outcome_event)
"""
_PLACE = """
INSERT INTO merit.battle_participant (battle_id, agent_id, rank, outcome_event)
VALUES ($1, $2, $3, $4)
ON CONFLICT (battle_id, agent_id) DO UPDATE
SET (rank, outcome_event) = (EXCLUDED.rank, EXCLUDED.outcome_event)
"""


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    found = await asyncpg.connect(database)
    await found.execute(_AGENTS)
    yield found
    await found.close()


async def finish(connection: asyncpg.Connection, battle: Battle, outcome: int) -> UUID:
    """As `battles.finished` does; a second time with another ranking, as its correction does."""
    second, number, ranks = battle
    key, event = UUID(int=number), UUID(int=outcome)
    await connection.execute(_BATTLE, key, START + timedelta(seconds=second), event)
    for agent, rank in ranks.items():
        await connection.execute(_PLACE, key, UUID(int=agent), rank, event)
    return key


async def held(connection: asyncpg.Connection) -> dict[int, Decimal]:
    rows = await connection.fetch("SELECT agent_id, rating FROM merit.rating")
    return {agent.int: rating for agent, rating in rows}


async def test_ratings_are_those_of_the_battles_in_their_order(
    connection: asyncpg.Connection,
) -> None:
    """Battles come in any order, a few at a time; some are corrected, some cancelled."""
    rng = random.Random(4)
    battles = {battle[1]: battle for battle in random_battles(rng, 120, AGENTS)}
    waiting = list(battles.values())
    rng.shuffle(waiting)
    known: dict[int, Battle] = {}
    while waiting:
        some, waiting = waiting[:7], waiting[7:]
        keys = [await finish(connection, battle, battle[1]) for battle in some]
        known |= {battle[1]: battle for battle in some}
        if rng.random() < 0.3:
            [corrected] = random_battles(rng, 1, AGENTS)
            number = rng.choice(list(known))
            known[number] = (known[number][0] + rng.choice([-9, 0, 9]), number, corrected[2])
            keys.append(await finish(connection, known[number], 1000 + len(waiting)))
        if rng.random() < 0.2:
            number = rng.choice(list(known))
            del known[number]
            await connection.execute(
                "UPDATE merit.battle SET status = 'cancelled' WHERE battle_id = $1",
                UUID(int=number),
            )
            keys.append(UUID(int=number))
        await connection.fetch("SELECT * FROM merit.rate($1)", keys)
        cancelled = await connection.fetch(
            "SELECT battle_id FROM merit.battle WHERE status = 'cancelled'"
        )
        gone = {key.int for (key,) in cancelled}
        counted = [battle for number, battle in known.items() if number not in gone]
        assert await held(connection) == ratings(counted)
    assert await connection.fetch("SELECT * FROM merit.rate()") == []
    scales = "SELECT DISTINCT scale(old_rating) FROM merit.battle_participant"
    kept = await connection.fetch(f"{scales} WHERE rated_at IS NOT NULL")
    assert [scale for (scale,) in kept] == [3], "1500 and 1500.000 are one rating, kept in one way"
    sent = await connection.fetchval(
        "SELECT count(*) FROM bus.outbox WHERE type = 'agents.rating_changed'"
    )
    assert sent > AGENTS
    await connection.execute("UPDATE config.parameter SET value = 16 WHERE name = 'elo.k'")
    assert await connection.fetch("SELECT * FROM merit.rate()")
    assert await held(connection) == ratings(counted, k=16)


async def test_a_streak_is_a_run_of_days(connection: asyncpg.Connection) -> None:
    days = {"points": [0, 1, 2, 5, 6], "activity": [3, 4], "other": [1]}
    await connection.executemany(
        "INSERT INTO merit.active_day (agent_id, streak_type, day)"
        " VALUES ($1, $2, (now() AT TIME ZONE 'UTC')::date - $3::int)",
        [(UUID(int=1), kind, ago) for kind, found in days.items() for ago in found],
    )
    rows = await connection.fetch("SELECT streak_type, longest, run, current FROM merit.streak")
    found = {kind: tuple(numbers) for kind, *numbers in rows}
    assert found == {"points": (3, 3, 3), "activity": (2, 2, 0), "other": (1, 1, 1)}


async def test_a_tier_is_the_band_of_the_points(connection: asyncpg.Connection) -> None:
    points = {1: 0, 2: 999, 3: 1000, 4: 60_000, 5: -1, 6: None}
    await connection.executemany(
        "INSERT INTO merit.standing (agent_id, total_points, last_points_at) VALUES ($1, $2, $3)",
        [(UUID(int=agent), total, START) for agent, total in points.items()],
    )
    assert len(await connection.fetch("SELECT * FROM merit.grade()")) == 4
    rows = await connection.fetch("SELECT tier FROM merit.standing ORDER BY agent_id")
    assert [tier for (tier,) in rows] == ["bronze", "bronze", "silver", "diamond", None, None]
    sent = await connection.fetch("SELECT key, data ->> 'new' FROM bus.outbox ORDER BY key")
    assert [new for _, new in sent] == ["bronze", "bronze", "silver", "diamond"]
    await connection.execute("UPDATE merit.standing SET total_points = -5")
    await connection.fetch("SELECT * FROM merit.grade($1)", [UUID(int=4)])
    assert await connection.fetchval(
        "SELECT tier IS NULL FROM merit.standing WHERE agent_id = $1", UUID(int=4)
    )
