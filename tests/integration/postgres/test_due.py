"""What is due is worked out, whoever dies or fails, and whoever else is at it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import asyncpg
import msgspec
import pytest

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.schemas.identity import entity_uuid
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.derive import Deriver
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.ports import Message
from penstock.worker.postgres.due import PostgresDue
from penstock.worker.postgres.jobs import PostgresJobs, derive_problems
from penstock.worker.postgres.pool import open_pool
from penstock.worker.postgres.sink import PostgresSink
from tests.support.batches import stored_as
from tests.support.roles import OWNER, execute, logged_in, of_worker
from tests.support.running import settings_for
from tests.support.waiting import until

CATALOGUE = Catalogue.load()
WINDOW = Window(CATALOGUE, {}, past="unlimited")
SETTLE = "collab.settle"


@cache
def began() -> datetime:
    """When the first event of these tests was made."""
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    found = await open_pool(
        of_worker(database), size=5, statement_timeout=30, lock_timeout=5, name="test"
    )
    yield found
    await found.close()


def events(kind: str, session: str, second: int = 0, **data: Any) -> list[Event]:
    body = {
        "specversion": "1.0",
        "id": f"{kind} {session} {data} {second}",
        "source": "/tests",
        "type": kind,
        "subject": session,
        "time": began() + timedelta(seconds=second),
        "data": data,
    }
    domain, verb = kind.split(".")
    message = Message(subject=f"{domain}.{session}.{verb}", body=msgspec.json.encode(body))
    (found,) = Decoder(CATALOGUE, WINDOW, max_bytes=1 << 20).decode([message])
    assert isinstance(found, Event), found
    return [found]


def vote(session: str, options: Sequence[str] = ("a", "b")) -> list[Event]:
    """A vote that is closed, with one ballot."""
    question: dict[str, Any] = {"topic": "t", "algorithm": "simple_majority", "options": options}
    return [
        *events("votes.opened", session, **question),
        *events("votes.cast", session, 1, agent_id="a-1", option="a"),
        *events("votes.closed", session, 2),
    ]


async def stored(pool: asyncpg.Pool, found: Sequence[Event]) -> None:
    """As a worker does that is killed right after the commit."""
    sink = PostgresSink(pool, CATALOGUE, worker_id="test")
    await sink.prepare()
    await sink.write(stored_as(found))


def deriver(pool: asyncpg.Pool) -> Deriver:
    return Deriver(PostgresDue(pool), CATALOGUE.derived, Metrics())


async def winners(pool: asyncpg.Pool) -> dict[str, str | None]:
    return dict(map(tuple, await pool.fetch("SELECT external_id, winner FROM collab.vote_session")))


async def due(pool: asyncpg.Pool) -> int:
    return int(await pool.fetchval("SELECT count(*) FROM bus.due"))


async def test_who_comes_after_a_killed_worker_works_out_what_it_left(pool: asyncpg.Pool) -> None:
    await stored(pool, vote("v-1"))
    assert (await winners(pool), await due(pool)) == ({"v-1": None}, 1)
    sweeping = asyncio.create_task(deriver(pool).sweep())

    async def swept() -> bool:
        return not await due(pool)

    await until(swept)
    sweeping.cancel()
    assert await winners(pool) == {"v-1": "a"}
    [(kind, key, data)] = await pool.fetch("SELECT type, key, data FROM bus.outbox")
    assert (kind, key) == ("votes.tallied", "v-1")
    told = events(kind, key, **msgspec.json.decode(data))[0]
    assert told.data.winner == "a", "it is an event that workers know"
    await stored(pool, vote("v-1"))  # the same once more
    await deriver(pool).derive(CATALOGUE.derived)
    assert await pool.fetchval("SELECT count(*) FROM bus.outbox") == 1


async def test_events_of_types_without_derived_values_cost_nothing(pool: asyncpg.Pool) -> None:
    batch = stored_as(events("tasks.deleted", "t-1"))
    assert batch.plan.due == {}
    await stored(pool, events("tasks.deleted", "t-1"))
    assert await due(pool) == 0


async def test_a_key_that_fails_is_put_off_alone_and_told(
    pool: asyncpg.Pool, database: str
) -> None:
    owner = logged_in(database, OWNER)
    bad = entity_uuid("vote_session", "v-3")
    refusing = (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF NEW.session_id = '{bad}' AND NEW.results IS NOT NULL THEN"
        " RAISE EXCEPTION 'kaputt'; END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER refuse BEFORE UPDATE ON collab.vote_session FOR EACH ROW"
        " EXECUTE FUNCTION refuse()"
    )
    await execute(owner, refusing)
    await stored(pool, [event for n in range(9) for event in vote(f"v-{n}")])
    await deriver(pool).derive([SETTLE])
    assert {name: won for name, won in (await winners(pool)).items() if won != "a"} == {"v-3": None}
    [(text, _)] = await derive_problems(pool)
    assert all(word in text for word in (bad, "kaputt", SETTLE))
    await execute(owner, "DROP TRIGGER refuse ON collab.vote_session")
    await deriver(pool).derive([SETTLE])
    assert await due(pool) == 1, "not at once again"
    await stored(pool, events("votes.cast", "v-3", 3, agent_id="a-2", option="b"))
    await deriver(pool).derive([SETTLE])
    assert (await winners(pool))["v-3"] == "a", "another event of its own has it tried at once"
    assert await due(pool) == 0
    assert await derive_problems(pool) == []


async def test_two_workers_at_the_same_keys_wait_for_no_circle(pool: asyncpg.Pool) -> None:
    names = [f"v-{n}" for n in range(20)]
    for n in range(4):
        ballots = [
            event
            for name in names
            for event in events("votes.cast", name, 1, agent_id=f"a-{n}", option="a")
        ]
        closed = [event for name in names for event in vote(name)] if n == 2 else []
        await asyncio.gather(
            stored(pool, [*ballots, *closed]), *(deriver(pool).derive([SETTLE]) for _ in range(3))
        )
    await asyncio.gather(*(deriver(pool).derive([SETTLE]) for _ in range(4)))
    assert await due(pool) == 0
    rows = await pool.fetch("SELECT (results ->> 'ballots')::int FROM collab.vote_session")
    assert [count for (count,) in rows] == [4] * 20
    assert await pool.fetch("SELECT * FROM collab.settle()") == []


async def test_a_job_runs_when_it_is_due_by_one_worker_and_its_errors_are_kept(
    pool: asyncpg.Pool, database: str
) -> None:
    owner = logged_in(database, OWNER)
    await execute(
        owner,
        "UPDATE bus.job SET enabled = false",
        "CREATE TABLE bus.ran (n integer)",
        "CREATE FUNCTION bus.note_run(keys uuid[] DEFAULT NULL) RETURNS SETOF text LANGUAGE sql"
        " SECURITY DEFINER AS $$ INSERT INTO bus.ran VALUES (1) RETURNING 'x' $$",
        "CREATE FUNCTION bus.fail_run(keys uuid[] DEFAULT NULL) RETURNS SETOF text"
        " LANGUAGE sql AS $$ SELECT (1 / 0)::text $$",
        "UPDATE bus.job SET enabled = false",
        "INSERT INTO bus.job (name, call, about, every) VALUES"
        " ('noting', 'bus.note_run', '', '1 hour'), ('failing', 'bus.fail_run', '', '1 hour')",
    )
    settings = settings_for("nats://127.0.0.1:1", of_worker(database))
    jobs = PostgresJobs(pool, settings)
    assert list(await jobs.due()) == ["failing", "noting"]
    done = await asyncio.gather(*(jobs.run("noting") for _ in range(4)))
    assert [one["changed"] for one in done if one] == [1]
    with pytest.raises(Exception, match="22012"):
        await jobs.run("failing")
    assert await jobs.due() == []
    assert await jobs.run("noting") is None
    [(text, remedy)] = await derive_problems(pool)
    assert "the job failing fails: 22012" in text
    assert "penstock derive failing" in remedy
    await execute(owner, "UPDATE bus.job SET last_run = now() + interval '1 year'")
    assert list(await jobs.due()) == ["failing", "noting"], "the clock was ahead"
    assert [text for text, _ in await derive_problems(pool) if "the job noting has not run" in text]
    assert await jobs.run("noting")
