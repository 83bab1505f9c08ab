"""What a read of a thread looks at is what it shows, however much is stored beside it."""

import asyncpg
import pytest

from penstock import Asked
from penstock.schemas.identity import entity_uuid
from penstock.worker.postgres.pages import place
from penstock.worker.postgres.thread_reads import _query
from penstock.worker.sending.reads import ReadRefused
from tests.support.plans import looked_at

THREADS = 20
CHECKPOINTS = 150
"""In each thread; each has two values of its own and two writes."""

_THREADS = """
INSERT INTO threads.thread (thread_id, external_id) SELECT id, name
FROM unnest($1::uuid[], $2::text[]) AS given (id, name)
"""
_CHECKPOINTS = """
INSERT INTO threads.checkpoint
    (event_id, occurred_at, thread_id, namespace, checkpoint_id, checkpoint, metadata)
SELECT gen_random_uuid(), now(), id, '', lpad(n::text, 5, '0'), jsonb_build_object(
    'channel_versions', jsonb_build_object('messages', n::text, 'step', n::text)), '{"step": 1}'
FROM unnest($1::uuid[]) AS id, generate_series(1, $2::integer) AS n
"""
_VALUES = """
INSERT INTO threads.value (event_id, n, occurred_at, thread_id, namespace, channel, value_version,
                           encoding, data, digest, part, parts)
SELECT gen_random_uuid(), 1, now(), id, '', channel, n::text, 'json', 'x', 'd', 0, 1
FROM unnest($1::uuid[]) AS id, generate_series(1, $2::integer) AS n,
     unnest(ARRAY['messages', 'step']) AS channel
"""
_WRITES = """
INSERT INTO threads.write (event_id, n, occurred_at, thread_id, namespace, checkpoint_id, task_id,
                           task_path, place, channel, encoding, data)
SELECT gen_random_uuid(), 1, now(), id, '', lpad(n::text, 5, '0'), 't', '', place, 'c', 'json', 'x'
FROM unnest($1::uuid[]) AS id, generate_series(1, $2::integer) AS n, generate_series(0, 1) AS place
"""


@pytest.mark.parametrize(
    "asked",
    [
        Asked(where={"namespace": ""}, limit=1),
        Asked(where={"namespace": "", "checkpoint_id": "00042"}, limit=1),
        Asked(where={"before": "00100"}, limit=1),
        Asked(where={"metadata": {"step": 1}}, limit=1),
        Asked(after=place("00042", "", entity_uuid("thread", "t-7")), limit=1),
    ],
    ids=["newest", "by id", "before", "with metadata", "page"],
)
@pytest.mark.parametrize("analyzed", [True, False])
async def test_few_rows_are_looked_at(database: str, asked: Asked, *, analyzed: bool) -> None:
    names = [f"t-{number}" for number in range(THREADS)]
    ids = [entity_uuid("thread", name) for name in names]
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(_THREADS, ids, names)
        for statement in (_CHECKPOINTS, _VALUES, _WRITES):
            await connection.execute(statement, ids, CHECKPOINTS)
        if analyzed:
            await connection.execute("ANALYZE")
        query, values = _query(asked, ids[7])
        given = [one.decode() if isinstance(one, bytes) else one for one in values]
        assert await connection.fetch(query, *given)
        found = await looked_at(connection, query, given)
    finally:
        await connection.close()
    # A plan may look at every checkpoint of the thread, but at the values of one alone, though a
    # second is looked for.
    assert found["checkpoint"] < 3 * CHECKPOINTS
    assert (found["value"], found["write"]) == (2, 2)


def test_what_nobody_can_ask_for_is_refused() -> None:
    with pytest.raises(ReadRefused, match="where: Expected `str"):
        _query(Asked(where={"before": 7}), None)
