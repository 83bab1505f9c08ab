"""The audit history is sealed as it grows, and whatever is done to it afterwards is named."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from penstock.worker.postgres.sealed import Examined
from tests.conftest import fresh_database
from tests.support.seals import digests, examined, sealed_in_rounds

ROW = "event_id = md5('{}')::uuid"
TWO = "IN (md5('this 0 1')::uuid, md5('this 0 3')::uuid)"
SWAP = f"""
UPDATE audit.log AS l SET {{0}} = o.{{0}} FROM audit.log AS o
WHERE l.event_id {TWO} AND o.event_id {TWO} AND o.event_id <> l.event_id
"""
FORGED = f"""
INSERT INTO audit.log (event_id, occurred_at, actor, recorded_at)
SELECT md5('forged')::uuid, occurred_at, 'nobody', recorded_at + interval '1 microsecond'
FROM audit.log WHERE {ROW.format("late 1 2")}
"""


REMADE = "UPDATE audit.seal AS s SET digest = audit.digest_of(s) WHERE seal_id = 3"


def update(row: str, change: str) -> str:
    return f"UPDATE audit.log SET {change} WHERE {ROW.format(row)}"


def remake(seal: int, change: str) -> str:
    return f"UPDATE audit.seal SET {change} WHERE seal_id = {seal}"


ROWS = {
    "another actor": (update("late 0 2", "actor = 'me'"), "1 changed", 0),
    "a field less": (update("this 1 2", "data = data - 'a'"), "4 changed", 0),
    "a digit less": (update("this 2 4", "data = jsonb_set(data, '{b,0}', '1.1')"), "6 changed", 0),
    "one removed": (f"DELETE FROM audit.log WHERE {ROW.format('late 2 1')}", "5 removed", 0),
    "all removed": ("TRUNCATE audit.log", "1 removed", 23),
    "one inserted": (FORGED, "3 inserted", 0),
    "in another order": (SWAP.format("recorded_at"), "2 reordered", 1),
    "at each other's time": (SWAP.format("occurred_at"), "2 reordered", 1),
    "as if it were new": (update("late 1 1", "recorded_at = now()"), "3 reordered", 0),
    "a month before": (
        update("this 1 1", "occurred_at = occurred_at - interval '28 d'"),
        "4 reordered",
        0,
    ),
}
"""What is done, the seal that tells it first and how, and how many other rows it names."""

SEALS = {
    "a row less": (remake(2, "rows = 3, leaves = substr(leaves, 65)"), "2 changed"),
    "made later": (remake(6, "sealed_at = now()"), "6 changed"),
    "made anew": (f"{remake(3, 'sealed_at = now()')}; {REMADE}", "3 changed"),
    "of a format that nobody knows": (remake(1, "format = 9"), "1 changed"),
    "one removed": ("DELETE FROM audit.seal WHERE seal_id = 4", "4 removed"),
    "the first ones removed": ("DELETE FROM audit.seal WHERE seal_id < 4", "1 removed"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def sealed(postgres_address: str, migrated: str) -> AsyncIterator[str]:
    """A history with six seals, and a copy of it."""
    async with fresh_database(postgres_address, migrated) as dsn:
        connection = await asyncpg.connect(dsn)
        await sealed_in_rounds(connection)
        await connection.execute(
            "CREATE TABLE kept AS TABLE audit.log; CREATE TABLE kept_seals AS TABLE audit.seal"
        )
        await connection.close()
        yield dsn


@pytest_asyncio.fixture(loop_scope="session")
async def owner(sealed: str) -> AsyncIterator[asyncpg.Connection]:
    """Who may do everything to the history, which is itself again afterwards, row by row."""
    connection = await asyncpg.connect(sealed)
    yield connection
    await connection.execute(
        "TRUNCATE audit.log, audit.seal;"
        "INSERT INTO audit.log SELECT * FROM kept ORDER BY random();"
        "INSERT INTO audit.seal SELECT * FROM kept_seals"
    )
    await connection.close()


def told(found: Examined) -> list[str]:
    return [f"{one.seal_id} {one}" for one in found.broken]


async def test_what_nobody_changed_is_intact_and_another_program_says_so(
    owner: asyncpg.Connection, sealed: str
) -> None:
    found = await examined(sealed)
    assert (found.intact, found.seals, found.rows, found.waiting) == (True, 6, 24, 0)
    assert told(found) == []
    assert [one == other for one, other in await digests(owner)] == [True] * 6


@pytest.mark.parametrize(("done", "first", "others"), ROWS.values(), ids=ROWS)
async def test_what_was_done_to_a_row_is_named(
    owner: asyncpg.Connection, sealed: str, done: str, first: str, others: int
) -> None:
    await owner.execute(done)
    found = await examined(sealed)
    assert not found.intact
    assert (len(found.broken) - 1, found.more) == (others, False), told(found)
    broken = found.broken[0]
    assert (f"{broken.seal_id} {broken.kind}", broken.what) == (first, "row"), told(found)
    assert str(broken.event_id) in str(broken)


@pytest.mark.parametrize(("done", "first"), SEALS.values(), ids=SEALS)
async def test_what_was_done_to_a_seal_is_named(
    owner: asyncpg.Connection, sealed: str, done: str, first: str
) -> None:
    """Rows that it covered are not taken for inserted ones."""
    await owner.execute(done)
    found = await examined(sealed)
    broken = found.broken[0]
    assert (f"{broken.seal_id} {broken.kind}", broken.what) == (first, "seal"), told(found)
    assert len(found.broken) == (2 if "leaves" in done else 1), told(found)
