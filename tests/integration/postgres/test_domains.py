"""Events of the built-in domains whose rows meet, or must not, in ways that no rule of all types
covers.
"""

from collections.abc import AsyncIterator

import asyncpg
import msgspec
import pytest

from penstock.schemas.identity import entity_uuid
from penstock.worker.pipeline.ports import DeadLetter
from penstock.worker.postgres.pool import open_pool
from tests.support.written import outcome, write

FIRST, SECOND = entity_uuid("idea", "i-1"), entity_uuid("idea", "i-2")
GO_ZERO = "0001-01-01T00:00:00Z"
"""What Go sends where it means that there is no time."""


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    found = await open_pool(database, size=1, statement_timeout=30, lock_timeout=5, name="test")
    yield found
    await found.close()


async def test_ideas_meet_by_their_text_and_by_their_uuid(pool: asyncpg.Pool) -> None:
    idea = {"agent_id": "a-1", "content": "a cache"}
    both = {"agent_id": "a-2", "idea_ids": ["i-1", SECOND.upper()], "content": "a shared cache"}
    vote = {"agent_id": "a-2", "target_kind": "idea"}
    await write(
        pool,
        ("ideas.session_opened", "s-1", {"topic": "speed"}),
        ("ideas.submitted", "s-1", {**idea, "idea_id": "i-1"}),
        ("ideas.scored", "s-1", {"idea_id": FIRST, "quality": 0.5}),
        ("ideas.combined", "s-1", {**both, "combination_id": "i-3"}),
        ("ideas.voted", "s-1", {**vote, "target_id": "i-1", "value": -1}),
        ("ideas.voted", "s-1", {**vote, "target_id": FIRST.upper(), "value": 0.5}),
        (
            "ideas.voted",
            entity_uuid("brainstorm", "s-1"),
            {"agent_id": "a-3", "target_kind": "combination", "target_id": "i-3", "value": 1},
        ),
    )
    assert [tuple(row) for row in await pool.fetch("SELECT content, quality FROM collab.idea")] == [
        ("a cache", 0.5)
    ]
    made_of = await pool.fetchval("SELECT idea_ids::text FROM collab.idea_combination")
    assert msgspec.json.decode(made_of) == [FIRST, SECOND]
    votes = "SELECT target_id::text, value FROM collab.idea_vote WHERE target_kind = $1"
    assert [tuple(row) for row in await pool.fetch(votes, "idea")] == [(FIRST, 0.5)]
    counts = "SELECT participants, ideas, combinations, votes FROM collab.v_brainstorm"
    assert [tuple(row) for row in await pool.fetch(counts)] == [(3, 1, 1, 2)]
    taking_part = (
        "SELECT joined_at, ideas, combinations, votes FROM collab.v_participant WHERE agent_id = $1"
    )
    second = await pool.fetchrow(taking_part, entity_uuid("agent", "a-2"))
    assert second is not None
    assert tuple(second) == (None, 0, 1, 1)


@pytest.mark.parametrize("mentee", ["a-1", entity_uuid("agent", "a-1").upper()])
def test_nobody_is_paired_with_itself(mentee: str) -> None:
    data = {"mentor_id": "a-1", "mentee_id": mentee, "skill": "planning"}
    letter = outcome(1, "mentorships.paired", "p-1", data)
    assert isinstance(letter, DeadLetter)
    assert letter.reason == "invalid_data"
    assert f"mentee_id '{mentee}' are one agent" in letter.error


async def test_a_pairing_counts_its_sessions(pool: asyncpg.Pool) -> None:
    pair = {"mentor_id": "a-1", "mentee_id": "a-2", "skill": "planning", "total_sessions": 4}
    await write(
        pool,
        ("mentorships.session_recorded", "p-1", {"number": 1, "status": "completed"}),
        ("mentorships.session_recorded", "p-1", {"number": 2, "status": "completed"}),
        ("mentorships.session_recorded", "p-1", {"number": 2, "status": "failed"}),
    )
    active = "SELECT sessions_completed, completed_pct FROM mentorship.v_active"
    assert await pool.fetch(active) == [], "nobody said yet who they are"
    await write(pool, ("mentorships.paired", "p-1", pair), begin=10)
    assert [tuple(row) for row in await pool.fetch(active)] == [(1, 25.0)]
    pause = {"status": "paused", "reason": "a holiday"}
    await write(pool, ("mentorships.status_changed", "p-1", pause), begin=20)
    assert await pool.fetch(active) == []


async def test_a_fact_that_does_not_say_since_when_holds_since_its_event(
    pool: asyncpg.Pool,
) -> None:
    fact = {"entity_type": "host", "entity_id": "h-1", "object_value": 1, "object_type": "int"}
    said = "2025-05-05T00:00:00+02:00"
    await write(
        pool,
        ("knowledge.fact_asserted", "f-0", {**fact, "predicate": "a", "valid_from": GO_ZERO}),
        ("knowledge.fact_asserted", "f-1", {**fact, "predicate": "b"}),
        ("knowledge.fact_asserted", "f-2", {**fact, "predicate": "c", "valid_from": said}),
        ("knowledge.fact_retracted", "f-2", {"valid_until": "2025-06-06T00:00:00Z"}),
        ("knowledge.fact_retracted", "f-2", {"valid_until": "2025-07-07T00:00:00Z"}),
    )
    rows = await pool.fetch(
        "SELECT valid_from AT TIME ZONE 'UTC', valid_until AT TIME ZONE 'UTC'"
        " FROM knowledge.v_fact ORDER BY external_id"
    )
    assert [(str(begin), until and str(until.date())) for begin, until in rows] == [
        ("2026-01-01 00:00:00", None),
        ("2026-01-01 00:00:01", None),
        ("2025-05-04 22:00:00", "2025-06-06"),
    ]


async def test_an_embedding_finds_its_owner_and_its_history_is_clipped(pool: asyncpg.Pool) -> None:
    vector = [0.125] * 1536
    embedded = {"owner_kind": "item", "model": "m", "vector": vector}
    await write(
        pool,
        ("knowledge.item_stored", "k-1", {"domain": "bus", "content": {"title": "x"}}),
        ("knowledge.embedded", "k-1", embedded),
        ("patterns.applied", "p", {"agent_id": "a", "success": True, "duration_ms": 5}),
        ("patterns.applied", "p", {"agent_id": "a", "success": False, "duration_ms": 10**12}),
    )
    found = await pool.fetchrow(
        "SELECT e.dim, e.vector::text FROM knowledge.item AS i"
        " JOIN knowledge.embedding AS e ON e.owner_id = i.item_id"
    )
    assert found is not None
    assert (found[0], msgspec.json.decode(found[1])) == (1536, vector)
    kept = await pool.fetchval(
        "SELECT data::text FROM events.log WHERE event_type = 'knowledge.embedded'"
    )
    assert set(msgspec.json.decode(kept)) == {"owner_kind", "model", "omitted"}
    used = "SELECT usage_count, success_count, duration_sum_ms FROM knowledge.pattern"
    assert [tuple(row) for row in await pool.fetch(used)] == [(2, 1, 10**12 + 5)]
