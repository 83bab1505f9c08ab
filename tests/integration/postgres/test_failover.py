"""Another server takes over: the connections to the old one are given up, and what was known of it
is forgotten.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from penstock.worker.embedded import EmbeddedPostgres
from penstock.worker.errors import RowRejected, Unavailable
from penstock.worker.migrate import up
from penstock.worker.pipeline.batch import Batch
from penstock.worker.postgres.pool import open_pool
from penstock.worker.postgres.probe import PostgresProbe
from penstock.worker.postgres.sink import PostgresSink
from tests.conftest import FAST
from tests.integration.postgres.test_sink import CATALOGUE, events
from tests.support.batches import stored_as
from tests.support.clusters import StandbyPostgres, any_of, ask
from tests.support.waiting import until

FENCE = "ALTER SYSTEM SET default_transaction_read_only = on"
COUNT = "SELECT count(*) FROM agents.heartbeat"


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[tuple[asyncpg.Pool, PostgresSink]]:
    pool = await open_pool(dsn, size=5, statement_timeout=30, lock_timeout=5, name="")
    sink = PostgresSink(pool, CATALOGUE, worker_id="test")
    await sink.prepare()
    try:
        yield pool, sink
    finally:
        await pool.close()


def batch(seed: int, kind: str) -> Batch:
    return stored_as(events(random.Random(seed), [kind], 40, 40))


async def test_parents_that_are_gone_are_made_again(database: str) -> None:
    """After a restore, say: no event is to blame for what was taken for granted."""
    async with opened(database) as (pool, sink):
        assert (await sink.write(batch(1, "votes.cast"))).new == 40
        await pool.execute("TRUNCATE agents.agent, collab.vote_session, events.log CASCADE")
        assert (await sink.write(batch(1, "votes.cast"))).new == 40


async def test_a_parent_that_nobody_makes_is_missed_once_more_and_then_refused(
    database: str,
) -> None:
    async with opened(database) as (pool, sink):
        await sink.write(batch(1, "tasks.created"))
        await pool.execute(
            "CREATE TABLE titles (word text PRIMARY KEY);"
            "ALTER TABLE tasks.task ADD FOREIGN KEY (title) REFERENCES titles NOT VALID"
        )
        with pytest.raises(RowRejected, match="23503"):
            await sink.write(batch(2, "tasks.created"))


@pytest.mark.parametrize("end", ["fenced", "killed"])
async def test_the_next_batches_find_the_promoted_standby(end: str) -> None:
    """Whether the old primary is gone, or still there and takes no writes any more."""
    async with EmbeddedPostgres(settings=FAST) as primary:
        await up(primary.dsn)
        async with (
            StandbyPostgres(primary, "second", FAST) as standby,
            opened(any_of(primary, standby)) as (_, sink),
        ):
            await asyncio.gather(*(sink.write(batch(n, "agents.heartbeat")) for n in range(3)))
            stored = await ask(primary, COUNT)

            async def followed() -> bool:
                return bool(await ask(standby, COUNT) == stored)

            await until(followed)
            if end == "fenced":
                await ask(primary, FENCE, "SELECT pg_reload_conf()")
            else:
                primary.kill()
            await ask(standby, "SELECT pg_promote()")

            async def stores() -> bool:
                with contextlib.suppress(Unavailable):
                    return (await sink.write(batch(9, "agents.heartbeat"))).new > 0
                return False

            await until(stores, 10)
            assert await ask(standby, COUNT) > stored
            async with PostgresProbe(any_of(primary, standby), name="test") as probe:
                await probe.ping()
