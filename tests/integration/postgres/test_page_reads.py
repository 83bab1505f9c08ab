"""A later page of a read costs what the first one costs."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from penstock import Asked
from penstock.schemas.identity import entity_uuid
from penstock.worker.postgres.conversation_reads import _query
from penstock.worker.postgres.pages import behind, place
from penstock.worker.postgres.reads import _history_query
from penstock.worker.sending.reads import ReadRefused
from tests.support.plans import looked_at

ROWS = 3000
PAGE = 10
EVENT = "0190a6a0-0000-7000-8000-000000000007"

_CONVERSATION = """
INSERT INTO conversations.conversation (conversation_id, external_id) VALUES ($1, 'long')
"""
_ITEMS = """
INSERT INTO conversations.item (event_id, n, occurred_at, conversation_id, item)
SELECT gen_random_uuid(), 0, $2::timestamptz - n * interval '1 millisecond', $1, '{}'
FROM generate_series(1, $3::integer) AS n
"""
_CHANGES = """
INSERT INTO events.log (event_id, event_type, domain, entity_id, version, source, occurred_at,
                        data)
SELECT gen_random_uuid(), 'agents.state_set', 'agents', name, n, '/test',
       $2::timestamptz - n * interval '1 millisecond', '{"state_key": "k"}'
FROM generate_series(1, $3::integer) AS n, unnest($1::text[]) AS name
"""


async def test_few_rows_are_looked_at(database: str) -> None:
    now = datetime.now(UTC)
    middle = (now - timedelta(milliseconds=ROWS // 2)).isoformat()
    conversation, names = entity_uuid("conversation", "long"), ["a", "b"]
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(_CONVERSATION, conversation)
        await connection.execute(_ITEMS, conversation, now, ROWS)
        await connection.execute(_CHANGES, names, now, ROWS)
        await connection.execute("ANALYZE")
        for query, most in (
            (_query(Asked(limit=PAGE, after=place(middle, EVENT, 0)), "long"), 2 * PAGE),
            (_history_query(Asked(limit=PAGE, after=place(middle, EVENT)), names), 4 * PAGE),
        ):
            assert len(await connection.fetch(query[0], *query[1])) == PAGE + 1
            found = await looked_at(connection, *query)
            assert found["item"] + found["log"] <= most, found
    finally:
        await connection.close()


def test_a_place_is_read_as_it_was_written() -> None:
    parts = ["sub\ngraph:1", "", '["', "ä"]
    assert behind(Asked(after=place(*parts)), str, str, str, str) == parts
    for odd in ("x", "1", '["a"]', '["a", 7]', "[[]]", '"ab"', "9" * 5000, '["\\ud83d", ""]'):
        with pytest.raises(ReadRefused, match="is no page of this read"):
            behind(Asked(after=odd), str, int)
