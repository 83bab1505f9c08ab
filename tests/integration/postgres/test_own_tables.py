"""Tables of a user's own: unique constraints, reserved names, parents of parents."""

import asyncio
from collections.abc import AsyncIterator
from itertools import permutations
from typing import Any

import asyncpg
import pytest

from penstock.worker.pipeline.commit import Committer
from penstock.worker.pipeline.ports import Written
from penstock.worker.postgres.mappings import misfits
from penstock.worker.postgres.pool import open_pool
from penstock.worker.postgres.sink import PostgresSink
from tests.support.things import CATALOGUE, TABLES, batch, thing

MANY = 150
"""So many rows go in by COPY."""


class Store:
    """A database with the tables, and a worker's half of writing into it."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self.sink = PostgresSink(pool, CATALOGUE, worker_id="test")
        self._committer = Committer(self.sink, name="t", retry_for=0, stopping=asyncio.Event())

    async def write(self, *things: object) -> Written:
        return await self._committer.commit(batch(*things))  # type: ignore[arg-type]

    async def count(self, table: str) -> int:
        return int(await self.pool.fetchval(f"SELECT count(*) FROM {table}"))

    async def rows(self, table: str) -> list[str]:
        found = await self.pool.fetch(f'SELECT t::text FROM own."{table}" AS t ORDER BY 1')
        return [row[0] for row in found]


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    pool = await open_pool(database, size=2, statement_timeout=30, lock_timeout=5, name="")
    await pool.execute(TABLES)
    assert await misfits(pool, CATALOGUE) == []
    found = Store(pool)
    await found.sink.prepare()
    yield found
    await pool.close()


@pytest.mark.parametrize("count", [1, MANY])
@pytest.mark.parametrize("order", list(permutations(["top", "mid", "leaf"])), ids=" ".join)
async def test_parents_of_parents_are_made_before_their_children(
    store: Store, order: tuple[str, ...], count: int
) -> None:
    data: dict[str, Any] = {"mid": {"top_id": "t"}, "leaf": {"mid_id": "m"}, "top": {}}
    made = [thing(kind, f"{kind}-{n}", **data[kind]) for kind in order for n in range(count)]
    for written in (await store.write(*made), await store.write(*made)):
        assert written.letters == []
    assert await store.count('own."order" JOIN own."table" USING (mid_id)') == count
    assert await store.count('own."table" JOIN own."user" USING (top_id)') == count


def leaves(first: int, count: int, **data: Any) -> list[object]:
    return [
        thing("leaf", f"l-{n}", 0, **{"select": f"s-{n}", "order": f"o-{n}"} | data)
        for n in range(first, first + count)
    ]


WAYS = {"insert": 2, "copy": MANY, "staged": MANY}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", ['own."group" ("select")', 'own."order" ("order")'])
async def test_a_unique_of_the_users_own_swallows_nothing(
    store: Store, way: str, place: str
) -> None:
    """An event that it refuses is a letter that names it, not a duplicate of another event."""
    await store.pool.execute(f"CREATE UNIQUE INDEX mine ON {place}")
    await store.write(*leaves(0, 1))
    if way == "staged":
        await store.write(*leaves(0, MANY))  # some are there: the next batches are staged
    count = WAYS[way]
    same = leaves(900, 1, select="s-0", order="o-0")
    written = await store.write(*same, *leaves(1000, count))
    (letter,) = written.letters
    assert (letter.reason, written.new, written.duplicate) == ("row_rejected", count, 0)
    assert "23505" in letter.error
    assert '"mine"' in letter.error


async def test_nor_does_it_swallow_a_parent(store: Store) -> None:
    await store.pool.execute('CREATE UNIQUE INDEX mine ON own."table" (external_id)')
    await store.pool.execute("INSERT INTO own.\"table\" VALUES (gen_random_uuid(), 'm')")
    (letter,) = (await store.write(thing("leaf", "l", mid_id="m"))).letters
    assert "23505" in letter.error


async def test_history_takes_what_its_columns_hold_on_every_way(store: Store) -> None:
    """A cast would cut what COPY refuses."""
    await store.pool.execute('ALTER TABLE own."group" ALTER "select" TYPE varchar(8)')
    await store.sink.prepare()
    for count in (1, MANY):
        long = thing("leaf", f"long-{count}", select="123456789")
        written = await store.write(long, *leaves(count * 10, count))
        assert [letter.reason for letter in written.letters] == ["row_rejected"]


async def test_an_entity_is_completed_by_whoever_names_it_by_text(store: Store) -> None:
    """By its UUID or by the text that it is made from: the order leaves no trace."""
    (message, made) = thing("mid", "m", top_id="t")
    key = str(made.kind.states[0].key(made, None)[0])
    told = [
        thing("mid", key, 5, top_id="t"),
        thing("mid", "m", 3),
        thing("leaf", "l", 1, mid_id=key),
        thing("leaf", "l", 2, mid_id="m"),
    ]
    assert message.subject == "things.m.mid"
    ends = set()
    for order in permutations(told):
        for size in (1, 2, 4):
            await store.pool.execute('TRUNCATE own."user", own."table", own."order", own."group"')
            store.sink = PostgresSink(store.pool, CATALOGUE, worker_id="test")
            fresh = Store(store.pool)
            await fresh.sink.prepare()
            for start in range(0, 4, size):
                await fresh.write(*order[start : start + size])
            texts = await store.pool.fetch('SELECT external_id FROM own."table"')
            assert [row[0] for row in texts] == ["m"], (order, size)
            ends.add(str([await store.rows(name) for name in ("user", "table", "order")]))
    assert len(ends) == 1


async def test_the_greatest_text_is_the_same_in_a_batch_and_in_the_database(store: Store) -> None:
    """By code points, whatever the column's collation says."""
    words = ["a", "B", "Z", "ä", "z"]
    for order in (words, words[::-1]):
        await store.pool.execute('TRUNCATE own."order", own."group"')
        for number, word in enumerate(order):
            await store.write(thing("leaf", "l", number, end=word))
        assert await store.pool.fetchval('SELECT "end" FROM own."order"') == max(words)
