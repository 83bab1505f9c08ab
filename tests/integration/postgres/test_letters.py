"""A message that is no event is kept, even where the database refuses to keep its texts."""

import asyncio

import pytest

from penstock.schemas.catalogue import Catalogue
from penstock.worker.errors import SinkUnavailable
from penstock.worker.pipeline.commit import Committer
from penstock.worker.pipeline.ports import Message
from penstock.worker.postgres.pool import open_pool
from penstock.worker.postgres.sink import PostgresSink
from tests.support.batches import batch_of


async def test_a_letter_that_is_refused_is_kept_without_its_texts(database: str) -> None:
    """Its bytes are all there. Where not even that can be kept, nothing is acknowledged."""
    pool = await open_pool(database, size=1, statement_timeout=30, lock_timeout=5, name="")
    await pool.execute(
        "ALTER TABLE bus.dead_letter ADD CHECK (headers IS NULL AND subject !~ '[^ -~]')"
    )
    sink = PostgresSink(pool, Catalogue.load(), worker_id="test")
    await sink.prepare()
    committer = Committer(sink, name="test", retry_for=0, stopping=asyncio.Event())
    broken = Message(subject="agents.ä😀", body="ö\0".encode())
    batch = batch_of([broken]).refused("malformed_json", "nothing but 😀\0")
    (letter,) = (await committer.commit(batch)).letters
    assert letter.plain
    kept = await pool.fetchrow("SELECT subject, headers, body, error FROM bus.dead_letter")
    assert kept is not None
    assert tuple(kept) == (
        r"agents.\xe4\U0001f600",
        None,
        broken.body,
        r"nothing but \U0001f600\x00",
    )
    await pool.execute("ALTER TABLE bus.dead_letter ADD CHECK (body IS NULL) NOT VALID")
    other = batch_of([Message(subject="agents.b", body=b"b")]).refused("malformed_json", "")
    with pytest.raises(SinkUnavailable, match="cannot keep a dead letter"):
        await committer.commit(other)
    await pool.close()
