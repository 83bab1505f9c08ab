"""The sink by itself: big batches leave the same rows as small ones, and writers do not collide."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
import pytest

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.ports import Message
from penstock.worker.postgres.pool import open_pool
from penstock.worker.postgres.sink import PostgresSink
from penstock.worker.postgres.transaction import SAVEPOINT
from tests.support.batches import batch_of, message, stored_as
from tests.support.generated import EventMaker
from tests.support.rows import clear, snapshot

CATALOGUE = Catalogue.load()


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await open_pool(database, size=6, statement_timeout=30, lock_timeout=5, name="test")
    yield pool
    await pool.close()


async def opened(pool: asyncpg.Pool) -> PostgresSink:
    sink = PostgresSink(pool, CATALOGUE, worker_id="test")
    await sink.prepare()
    return sink


def events(rng: random.Random, kinds: Sequence[str], entities: int, count: int) -> list[Event]:
    """About ``entities`` that nobody has heard of."""
    life = rng.getrandbits(40)
    maker = EventMaker(rng, [f"entity-{life}-{n}" for n in range(entities)], 3000)
    decoder = Decoder(CATALOGUE, Window(CATALOGUE, {}, past="unlimited"), max_bytes=1 << 20)
    first = rng.getrandbits(60)
    chosen = [CATALOGUE.types[rng.choice(kinds)] for _ in range(count)]
    outcomes = decoder.decode([maker.message(kind, first + n) for n, kind in enumerate(chosen)])
    found = [outcome for outcome in outcomes if isinstance(outcome, Event)]
    assert len(found) == count
    return [e for e in found if getattr(e.data, "depends_on", None) != e.entity]


@pytest.mark.parametrize(
    "kinds",
    [
        ["messages.sent"],
        ["messages.sent", "messages.delivered", "messages.acked"],
        ["tasks.created"],
        ["tasks.created", "tasks.updated", "tasks.dependency_set"],
        ["agents.registered", "agents.heartbeat", "agents.state_set", "agents.dependency_set"],
        ["votes.opened", "votes.cast"],
    ],
    ids=" ".join,
)
async def test_one_big_batch_leaves_what_many_small_ones_leave(
    pool: asyncpg.Pool, kinds: list[str]
) -> None:
    rng = random.Random(7)
    made = events(rng, kinds, 500, 1000)
    sink = await opened(pool)
    for start in range(0, len(made), 50):
        await sink.write(stored_as(made[start : start + 50]))
    expected = await snapshot(pool)
    await clear(pool)
    sink = await opened(pool)
    await sink.write(stored_as(made))
    assert await snapshot(pool) == expected
    for _ in range(2):  # some again, others for the first time
        rng.shuffle(made)
        await sink.write(stored_as(made[:600]))
        assert await snapshot(pool) == expected


async def test_rows_that_begin_again_are_folded_into_those_that_are_there(
    pool: asyncpg.Pool,
) -> None:
    made = events(random.Random(8), ["messages.sent"], 5000, 1200)
    sink = await opened(pool)
    await sink.write(stored_as(made[:400]))
    written = await sink.write(stored_as(made[300:700]))
    assert written.new == 400, "messages have no history that could tell"
    await sink.write(stored_as(made))
    assert await pool.fetchval("SELECT count(*) FROM messages.message") == len(
        {(e.data.message_id, e.time) for e in made}
    )


async def test_writers_that_meet_in_the_same_rows_never_wait_in_a_circle(
    pool: asyncpg.Pool,
) -> None:
    sink = await opened(pool)
    rng = random.Random(9)
    kinds = [
        ["agents.state_set", "agents.heartbeat", "agents.registered"],
        ["tasks.updated", "tasks.created", "tasks.dependency_set"],
        ["agents.heartbeat", "agents.dependency_set"],
        ["votes.cast", "votes.opened"],
    ]
    for number in range(15):
        same = rng.getrandbits(32) + number
        batches = [events(random.Random(same), chosen, 60, 120) for chosen in kinds]
        await asyncio.gather(*(sink.write(stored_as(batch)) for batch in batches))


@pytest.mark.parametrize(("count", "expected"), [(1, 4), (300, 3)])
async def test_a_batch_takes_as_few_round_trips_as_it_can(
    database: str, count: int, expected: int
) -> None:
    """Where it stood, and the savepoint, travel with BEGIN, and the commit releases it. COPY, the
    way of many rows, does not show here.
    """
    pool = await open_pool(database, size=1, statement_timeout=30, lock_timeout=5, name="test")
    sink = await opened(pool)
    said: list[str] = []
    for seed in (10, 11):  # the first batch is the one whose connection learns types
        made = events(random.Random(seed), ["agents.heartbeat"], 20, count)
        messages = [message(number, place=number) for number in range(count)]
        said.clear()
        await sink.write(batch_of(messages, made))
        async with pool.acquire() as connection:
            connection._con.add_query_logger(  # type: ignore[attr-defined]
                lambda record: said.append(record.query)
            )
    await pool.close()
    assert said[0].startswith("BEGIN; INSERT INTO bus.position")
    assert said[0].endswith(SAVEPOINT) is (count > 100)
    assert said[-1] == "COMMIT"
    assert len(said) == expected, [one[:60] for one in said]


async def test_partitions_are_made_of_days_in_utc_whatever_zone_a_producer_is_in(
    pool: asyncpg.Pool,
) -> None:
    body = {
        "specversion": "1.0",
        "source": "/test",
        "type": "metrics.recorded",
        "subject": "e",
        "data": {"scope": "system", "samples": [{"name": "m", "value": 1.0}]},
    }
    day = (datetime.now(UTC) - timedelta(days=45)).date()
    sent = [
        Message(
            subject="metrics.e.recorded",
            body=msgspec.json.encode({**body, "id": hour, "time": f"{day}T{hour}:00:00+05:00"}),
        )
        for hour in ("01", "10")
    ]
    window = Window(CATALOGUE, {}, past="unlimited")
    found = Decoder(CATALOGUE, window, max_bytes=1 << 20).decode(sent)
    made = [one for one in found if isinstance(one, Event)]
    assert len(made) == 2, found
    await (await opened(pool)).write(stored_as(made))
    assert await pool.fetchval("SELECT count(*) FROM telemetry.metric") == 2
