"""A row that PostgreSQL cannot get done in time keeps no other from being stored."""

import asyncio

import pytest

from penstock.schemas.event import Event
from penstock.worker.errors import Cause, SinkUnavailable
from penstock.worker.pipeline.commit import Committer
from penstock.worker.postgres.pool import open_pool
from penstock.worker.postgres.sink import PostgresSink
from tests.support.batches import stored_as
from tests.support.written import CATALOGUE, outcome, store

_SLOW = """
CREATE FUNCTION knowledge.linger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.content ->> 'title' = 'slow' THEN PERFORM pg_sleep(60); END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER slow BEFORE INSERT ON knowledge.item FOR EACH ROW EXECUTE FUNCTION knowledge.linger()
"""
# What a parser of words looks through to the end of, from each place anew.
_HOSTILE = ["a_", "~/", "<!--", "a-1.", "<a x='", "&#1", "http://a_"]
_WORDS = "_".join(["lorems"] * 14_000)


def item(number: int, title: str) -> Event:
    data = {"domain": "d", "content": {"title": title}}
    found = outcome(number, "knowledge.item_stored", f"k-{number}", data, sequence=1)
    assert isinstance(found, Event)
    return found


async def test_its_neighbours_are_stored(database: str) -> None:
    pool = await open_pool(database, size=2, statement_timeout=1, lock_timeout=1, name="test")
    await pool.execute(_SLOW)
    sink = PostgresSink(pool, CATALOGUE, worker_id="test")
    await sink.prepare()
    committer = Committer(sink, name="test", retry_for=0, stopping=asyncio.Event())
    batch = stored_as([item(n, "slow" if n == 2 else "fine") for n in range(4)])
    with pytest.raises(SinkUnavailable, match="57014") as error:
        await committer.commit(batch)
    assert error.value.cause is Cause.SLOW
    stored = await pool.fetch("SELECT external_id FROM knowledge.item ORDER BY 1")
    assert [name for (name,) in stored] == ["k-0", "k-1", "k-3"]
    assert await pool.fetchval("SELECT count(*) FROM bus.dead_letter") == 0
    await pool.close()


async def test_no_text_of_a_document_is_slow_to_index(database: str) -> None:
    pool = await open_pool(database, size=2, statement_timeout=20, lock_timeout=5, name="test")
    texts = [(text * 100_000)[:100_000] for text in _HOSTILE] + [_WORDS]
    await store(pool, [item(number, text) for number, text in enumerate(texts)])
    find = "SELECT external_id FROM knowledge.item WHERE knowledge.search_vector(content) @@ $1"
    assert await pool.fetch(f"{find}::text::tsquery", "lorem")
    await pool.close()
