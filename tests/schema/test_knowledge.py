"""What agents know, as readers find it: by words, by time, by nearness."""

import json
import random
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import pytest

SEARCH = (
    "SELECT content ->> 'title' FROM knowledge.v_item"
    " WHERE search @@ websearch_to_tsquery('english', $1) ORDER BY 1"
)


async def store(connection: asyncpg.Connection, *contents: object) -> None:
    await connection.executemany(
        "INSERT INTO knowledge.item (item_id, content) VALUES (gen_random_uuid(), $1)",
        [(json.dumps(content),) for content in contents],
    )


async def test_items_are_found_by_the_words_of_title_and_description(
    connection: asyncpg.Connection,
) -> None:
    await store(
        connection,
        {"title": "Retrying", "description": "Workers retry what failed for a while"},
        {"title": "Sharding", "body": "retry"},
        {"title": "Retired", "description": "retry"},
        {"title": None, "description": 7},
        ["retry"],
        "retry",
    )
    retire = "UPDATE knowledge.item SET deleted_at = now() WHERE content ->> 'title' = 'Retired'"
    await connection.execute(retire)
    for words, expected in (
        ("retry failing", ["Retrying"]),
        ("worker -sharding", ["Retrying"]),
        ('"failed for"', ["Retrying"]),
        ("shard", ["Sharding"]),
        ("nowhere", []),
    ):
        assert [title for (title,) in await connection.fetch(SEARCH, words)] == expected, words
    await connection.execute(
        "INSERT INTO knowledge.item (item_id, content) SELECT gen_random_uuid(),"
        " jsonb_build_object('title', 'a word ' || n) FROM generate_series(1, 2000) AS n"
    )
    await connection.execute("ANALYZE knowledge.item")
    plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {SEARCH}", "retry failing")
    assert "item_search" in plan


@pytest.mark.parametrize("letter", ["x", "\U00010330"], ids=["ascii", "gothic"])
@pytest.mark.parametrize("join", [" ", "-", "/", ".x@"])
async def test_no_document_is_too_long_to_be_indexed(
    connection: asyncpg.Connection, letter: str, join: str
) -> None:
    """PostgreSQL refuses more than 1 MiB of words and their places, and with it the row."""
    words = (f"{letter}{n:x}{join}{letter}{n:x}b" for n in range(120_000))
    await store(connection, {"title": "first", "description": " ".join(words)})
    assert await connection.fetchval(SEARCH, "first") == "first"


async def assert_fact(
    connection: asyncpg.Connection,
    number: int,
    day: int,
    *,
    until: int | None = None,
    retracted: int | None = None,
    predicate: str = "runs_on",
    agent: UUID | None = None,
) -> None:
    moments = [d and datetime(2026, 1, d, tzinfo=UTC) for d in (day, until, retracted)]
    await connection.execute(
        "INSERT INTO knowledge.fact (fact_id, entity_type, entity_id, predicate, valid_from,"
        " valid_until, retracted_from, source_agent_id) VALUES ($1, 'host', 'h-1', $2, $3, $4, $5,"
        " $6)",
        UUID(int=number),
        predicate,
        *moments,
        agent,
    )


async def test_a_fact_ends_by_itself_by_its_retraction_or_by_the_next_one(
    connection: asyncpg.Connection,
) -> None:
    other = UUID(int=9)
    await connection.execute("INSERT INTO agents.agent (agent_id) VALUES ($1)", other)
    await assert_fact(connection, 1, 2)
    await assert_fact(connection, 2, 5, until=7)
    await assert_fact(connection, 3, 10, retracted=10)  # never held, and so ends none
    await assert_fact(connection, 4, 9, retracted=20)
    await assert_fact(connection, 5, 15, until=30, retracted=25)
    await assert_fact(connection, 6, 15)  # the greater id follows
    await assert_fact(connection, 7, 3, agent=other)
    await assert_fact(connection, 8, 3, predicate="owned_by")
    await connection.execute(  # only its retraction has come so far
        "INSERT INTO knowledge.fact (fact_id, retracted_from) VALUES ($1, now())", UUID(int=10)
    )
    rows = await connection.fetch(
        "SELECT fact_id, valid_until FROM knowledge.v_fact"
        " WHERE entity_type = 'host' AND entity_id = 'h-1'"
    )
    ends = {fact.int: until and until.day for fact, until in rows}
    assert ends == {1: 5, 2: 7, 3: 10, 4: 15, 5: 15, 6: None, 7: None, 8: None}
    assert await connection.fetchval("SELECT count(*) FROM knowledge.v_fact") == 8


async def test_facts_of_an_entity_are_found_without_reading_the_others(
    connection: asyncpg.Connection,
) -> None:
    rng = random.Random(7)
    names = ["".join(chr(rng.randrange(0x10000, 0x20000)) for _ in range(255)) for _ in range(3)]
    await connection.execute(
        "INSERT INTO knowledge.fact (fact_id, entity_type, entity_id, predicate, valid_from)"
        " VALUES (gen_random_uuid(), $1, $2, $3, now())",
        *names,
    )
    await connection.execute("SET enable_seqscan = off")
    plan = await connection.fetchval(
        "EXPLAIN (FORMAT JSON) SELECT * FROM knowledge.v_fact"
        " WHERE entity_type = $1 AND entity_id = $2 AND predicate = $3",
        *names,
    )
    assert "fact_entity" in plan


async def test_the_nearest_vectors_have_an_index_where_pgvector_is(
    connection: asyncpg.Connection,
) -> None:
    make = "SELECT knowledge.index_embeddings($1)"
    assert await connection.fetchval(make, 3) is False
    if not await connection.fetchval(
        "SELECT true FROM pg_available_extensions WHERE name = 'vector'"
    ):
        pytest.skip("this PostgreSQL has no pgvector")
    await connection.execute("CREATE SCHEMA elsewhere; CREATE EXTENSION vector SCHEMA elsewhere")
    vectors: tuple[list[float], ...] = ([1, 0, 0], [0.6, 0.8, 0], [0, 0, 0], [3.4e38, 0, 0], [1, 0])
    insert = (
        "INSERT INTO knowledge.embedding (owner_id, model, model_version, dim, vector)"
        " VALUES ($1, 'm', '', $2, $3)"
    )
    for number, vector in enumerate(vectors):
        if number == 1:
            assert await connection.fetchval(make, 3) is True
        await connection.execute(insert, UUID(int=number), len(vector), json.dumps(vector))
    assert await connection.fetchval(make, 3) is True
    await connection.execute("SET search_path = elsewhere; SET enable_seqscan = off")
    nearest = (
        "SELECT owner_id FROM knowledge.embedding WHERE dim = 3"
        " ORDER BY vector::text::vector(3) <=> '[0.5, 0.9, 0]' LIMIT 1"
    )
    assert await connection.fetchval(nearest) == UUID(int=1)
    plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {nearest}")
    assert "embedding_hnsw_3" in plan


async def test_histories_of_knowledge_are_read_by_their_names(
    connection: asyncpg.Connection,
) -> None:
    await connection.execute(
        "INSERT INTO events.log (domain, event_id, occurred_at, event_type, entity_id, version,"
        " source, data) SELECT 'knowledge', gen_random_uuid(), now(), t, 'x', 0, '/s', j::jsonb"
        " FROM (VALUES"
        ' (\'knowledge.transferred\', \'{"target_agent_id": "a-2", "success": true}\'),'
        ' (\'patterns.applied\', \'{"agent_id": "a-1", "success": false, "duration_ms": 12}\')'
        ") v(t, j)"
    )
    for query, expected in (
        ("SELECT item, target_agent, success FROM knowledge.transfers", ("x", "a-2", True)),
        (
            "SELECT pattern, agent, success, duration_ms FROM knowledge.pattern_usage",
            ("x", "a-1", False, 12),
        ),
    ):
        assert [tuple(r) for r in await connection.fetch(query)] == [expected]
