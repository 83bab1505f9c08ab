"""Sums computed again from the histories: what is wrong is found, and mended under traffic."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Annotated

import asyncpg
import pytest
from msgspec import Meta

from penstock.schemas import ITEM, EventData, Field, Log, Text, Upsert, event
from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.schemas.identity import AnyId, entity_uuid
from penstock.worker.errors import SinkUnavailable
from penstock.worker.pipeline.ports import Message
from penstock.worker.postgres import sums
from penstock.worker.postgres.pool import open_pool
from penstock.worker.postgres.sink import PostgresSink
from penstock.worker.postgres.sums import WrongSum, expected_sums, mend_sums
from tests.support.things import TABLES, Leaf, Mid, Top, batch, thing

MORE = """
CREATE TABLE own.tally (name text PRIMARY KEY, "all" numeric, ones bigint);
CREATE TABLE events.log_things PARTITION OF events.log FOR VALUES IN ('things')
    PARTITION BY RANGE (occurred_at);
ALTER TABLE events.log_things OWNER TO penstock_owner;
INSERT INTO partitions.policy (schema_name, table_name, column_name, "interval")
    VALUES ('events', 'log_things', 'occurred_at', 'month');
"""


@event(
    "things.counted",
    key="thing_id",
    stream="THINGS",
    history=Log("things"),
    states=(
        Upsert("own.tally", key=("name",), add=("all",), values={"all": Field("weight")}),
        Upsert(
            "own.tally",
            key=("name",),
            add=("ones",),
            each="marks",
            values={"name": ITEM, "ones": 1},
        ),
    ),
)
class Counted(EventData, frozen=True, kw_only=True):
    """Something weighed, and a list of marks that count one each."""

    thing_id: AnyId
    name: Text
    weight: int | None = None
    marks: Annotated[list[Text], Meta(max_length=9)] | None = None


Thing = tuple[Message, Event]
CATALOGUE = Catalogue([Top, Mid, Leaf, Counted])
"""Sums of a table of its own history, whose columns are words of SQL, and of a generic one."""


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    found = await open_pool(database, size=3, statement_timeout=30, lock_timeout=5, name="")
    await found.execute(TABLES + MORE)
    yield found
    await found.close()


@pytest.fixture
async def sink(pool: asyncpg.Pool) -> PostgresSink:
    found = PostgresSink(pool, CATALOGUE, worker_id="test")
    await found.prepare()
    return found


def leaf(entity: str, number: int, group: int) -> Thing:
    return thing("leaf", entity, number, CATALOGUE, group=group)


def counted(number: int, name: str, weight: int | None, *marks: str) -> Thing:
    return thing("counted", "c", number, CATALOGUE, name=name, weight=weight, marks=marks)


async def wrong(pool: asyncpg.Pool, table: str, *keys: tuple[str, ...]) -> list[WrongSum]:
    async with pool.acquire() as connection:
        return await expected_sums(connection, CATALOGUE, table, keys or None)


async def test_wrong_sums_are_found_and_mended(
    pool: asyncpg.Pool, sink: PostgresSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "_CHUNK", 3)
    leaves = [leaf(f"l-{n % 4}", n, n) for n in range(10)]
    tallies = [
        counted(1, "iron", 5, "a", "b", "a"),
        counted(2, "iron", 10**30, "b"),
        counted(3, "lead", None),
    ]
    await sink.write(batch(*leaves, *tallies))
    await sink.write(batch(*leaves, *tallies))
    assert await wrong(pool, "own.order") == await wrong(pool, "own.tally") == []
    assert await wrong(pool, "own.user") == []

    await pool.execute('UPDATE own."order" SET "group" = "group" + 7 WHERE "group" = 12')
    await pool.execute("UPDATE own.tally SET \"all\" = 3 WHERE name = 'lead'")
    await pool.execute("UPDATE own.tally SET ones = NULL WHERE name = 'a'")
    await pool.execute("DELETE FROM own.tally WHERE name = 'b'")
    key = (entity_uuid("any", "l-0"),)
    [found] = await wrong(pool, "own.order")
    assert found == WrongSum("own.order", key, {"group": Decimal(19)}, {"group": Decimal(12)})
    assert await wrong(pool, "own.order", (entity_uuid("any", "l-1"),)) == []
    assert await wrong(pool, "own.order", key) == [found]
    none = {"all": None, "ones": None}
    assert await wrong(pool, "own.tally") == [
        WrongSum("own.tally", ("a",), none, {**none, "ones": Decimal(2)}),
        WrongSum("own.tally", ("b",), none, {**none, "ones": Decimal(2)}, missing=True),
        WrongSum("own.tally", ("lead",), {**none, "all": Decimal(3)}, none),
    ]

    async with pool.acquire() as connection:
        for table in ("own.order", "own.tally"):
            await mend_sums(connection, CATALOGUE, table)
    assert await wrong(pool, "own.order") == []
    assert [one.key for one in await wrong(pool, "own.tally")] == [("b",)]
    rows = await pool.fetch("SELECT * FROM own.tally ORDER BY name")
    assert list(map(tuple, rows)) == [
        ("a", None, 2),
        ("iron", 10**30 + 5, None),
        ("lead", None, None),
    ]


async def test_events_that_come_while_sums_are_mended_count(
    pool: asyncpg.Pool, sink: PostgresSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sink.write(batch(leaf("l", 1, 5), leaf("l", 2, 6)))
    await pool.execute('UPDATE own."order" SET "group" = 3')

    async def meanwhile(*arguments: object) -> list[WrongSum]:
        found = await expected_sums(*arguments)  # type: ignore[arg-type]
        await sink.write(batch(leaf("l", 3, 100)))
        return found

    monkeypatch.setattr(sums, "expected_sums", meanwhile)
    async with pool.acquire() as one, pool.acquire() as other:
        await mend_sums(one, CATALOGUE, "own.order")
        assert await one.fetchval('SELECT "group" FROM own."order"') == 111
        async with sums._alone(one, "own.order"):
            with pytest.raises(SinkUnavailable, match="another process"):
                await mend_sums(other, CATALOGUE, "own.order")
    assert await wrong(pool, "own.order") == []


async def test_a_history_that_is_not_whole_tells_nothing(
    pool: asyncpg.Pool, sink: PostgresSink
) -> None:
    await sink.write(batch(counted(1, "iron", 5)))
    await pool.execute(
        "INSERT INTO partitions.detached "
        "VALUES ('events', 'log_things', '2020-01-01', '2020-02-01', 'log_things_y2020m01')"
    )
    with pytest.raises(SinkUnavailable, match=r"log_things_y2020m01 is no longer a part of events"):
        await wrong(pool, "own.tally")
