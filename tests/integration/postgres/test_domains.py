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
from tests.support.written import outcome, store, write

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


async def test_the_results_of_a_suite_come_in_several_events_and_the_first_of_a_test_stays(
    pool: asyncpg.Pool,
) -> None:
    run = "2026-01-01T00:00:00Z"
    reports = [
        [{"name": "a", "status": "passed", "duration_ms": 5}, {"name": "b", "status": "skipped"}],
        [{"name": "a", "status": "failed", "path": "t.py", "error": "x", "stack": "y"}],
        [{"name": "a", "status": "failed"}, {"name": "a", "status": "skipped"}],
        [{"name": "c" * 255, "path": "\U0001f680" * 255, "status": "passed"}],
    ]
    sent = [("tests.results_reported", "s-1", {"executed_at": run, "results": r}) for r in reports]
    totals = {"duration_ms": 9, "total": 4, "passed": 2, "failed": 1, "skipped": 1}
    finished = {"name": "unit", "executed_at": run, "task_id": "t-1", **totals}
    covered = {"project_id": "p-1", "suite_id": "s-1", "line_pct": 87.5, "data": ["x" * 9000]}
    await write(pool, sent[2], ("tests.coverage_reported", "c-1", covered), begin=20)
    await write(pool, *sent, ("tests.suite_finished", "s-1", finished))
    found = await pool.fetch(
        "SELECT left(path, 4), left(name, 1), status, duration_ms, error FROM sdlc.test_result"
        ' ORDER BY name COLLATE "C", path'
    )
    assert [tuple(row) for row in found] == [
        ("", "a", "passed", 5, None),
        ("t.py", "a", "failed", None, "x"),
        ("", "b", "skipped", None, None),
        ("\U0001f680" * 4, "c", "passed", None, None),
    ]
    joined = await pool.fetchrow(
        "SELECT s.name, s.total, s.is_stub, t.external_id, c.line_pct FROM sdlc.coverage AS c"
        " JOIN sdlc.test_suite AS s USING (suite_id) JOIN tasks.task AS t USING (task_id)"
    )
    assert joined is not None
    assert tuple(joined) == ("unit", 4, False, "t-1", 87.5)
    kept = await pool.fetchval(
        "SELECT data::text FROM events.log WHERE event_type = 'tests.coverage_reported'"
    )
    assert msgspec.json.decode(kept).keys() == {"project_id", "suite_id", "line_pct", "omitted"}


async def test_what_github_changed_last_wins_over_what_was_looked_at_last(
    pool: asyncpg.Pool,
) -> None:
    kind, repository = "github.issue_synced", "r-1"
    issue = {"number": 7, "github_id": "I_7", "source_updated_at": "2026-01-01T00:00:00Z"}
    opened = {**issue, "title": "x", "state": "open", "labels": ["bug"]}
    closed = {**issue, "title": "x", "state": "closed"}
    letter = outcome(1, kind, repository, opened)
    assert isinstance(letter, DeadLetter)
    assert letter.reason == "missing_sequence"
    await store(pool, [outcome(2, kind, repository, closed, sequence=20)])
    await store(pool, [outcome(3, kind, repository, opened, sequence=10)])
    found = await pool.fetchrow(
        "SELECT i.state, i.labels, to_char(i.synced_at AT TIME ZONE 'UTC', 'SS'), r.external_id,"
        " r.is_stub FROM sdlc.issue AS i JOIN sdlc.repository AS r USING (repository_id)"
    )
    assert found is not None
    assert tuple(found) == ("closed", None, "03", "r-1", True)


async def test_an_error_is_resolved_before_it_is_known(pool: asyncpg.Pool) -> None:
    error = {"error_id": "e-1", "raised_at": "2026-01-01T00:00:00Z"}
    facts = {**error, "kind": "Timeout", "message": "too slow", "agent_id": "a-1"}
    await write(pool, ("errors.resolved", "api", {**error, "resolved_by": "ann"}))
    await write(
        pool,
        ("errors.raised", "api", facts),
        ("errors.raised", "api", {**facts, "message": "later"}),
        begin=10,
    )
    await write(pool, ("errors.resolved", "api", {**error, "resolution": "again"}), begin=5)
    found = await pool.fetch(
        "SELECT source, message, severity, resolved_by, resolution, to_char(resolved_at AT TIME"
        " ZONE 'UTC', 'SS') FROM telemetry.error"
    )
    assert [tuple(row) for row in found] == [("api", "too slow", "medium", None, "again", "05")], (
        "the newest resolution, as a whole"
    )


async def test_requests_and_health_are_kept_as_they_were_sent(pool: asyncpg.Pool) -> None:
    request = {"method": "GET", "path": "/v1", "status": 200, "duration_ms": 3, "ip": "2001:db8::a"}
    look = {"name": "ping", "status": "degraded", "details": {"queue": 7}}
    await write(pool, ("requests.logged", "api", request), ("health.checked", "db", look))
    found = await pool.fetchrow("SELECT service, host(ip), account_id FROM telemetry.request")
    assert found is not None
    assert tuple(found) == ("api", "2001:db8::a", None)
    found = await pool.fetchrow("SELECT subject, status, details::text FROM telemetry.health_check")
    assert found is not None
    assert tuple(found) == ("db", "degraded", '{"queue": 7}')
    samples = [{"name": "cpu", "value": 1e200}]
    letter = outcome(1, "metrics.recorded", "a", {"scope": "agent", "samples": samples})
    assert isinstance(letter, DeadLetter)
    assert letter.reason == "out_of_range", "sums of such would be no numbers any more"
