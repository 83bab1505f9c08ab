"""Queries that the sources of the data model name, some with a time, on a database of their size.

Each is asked cold, after PostgreSQL was restarted and the system has let go of its files, and warm,
each time for other rows. The plan says which indexes it took.
"""

import asyncio
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import asyncpg
import msgspec

from benchmarks.company import DAYS, SKILLS, Size, fill, id_of, scaled
from penstock.worker.embedded import EmbeddedPostgres
from penstock.worker.migrate import up

_WARM = 30
"""How often each is asked warm, after as many times that are not counted."""
_PAGE = 50
_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "max_wal_size": "8GB"}
"""For making the rows. Nothing is written while queries are asked."""

_period = re.compile(r"_y\d{4}\w\d+(?=_|$)")

Draw = Callable[[random.Random, Size], tuple[Any, ...]]


class Query(msgspec.Struct, frozen=True):
    """What is asked, how long that may take if the sources say so, and its parameters, drawn anew
    each time.
    """

    text: str
    target_ms: float | None
    draw: Draw


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A query, and what came of it: the median times until the client had all rows.

    ``pages`` of 8 KB were looked at, which does not depend on what else the machine does. ``plan``
    names the indexes that were taken, and tables that were read whole; of a partition, the name
    without its period.
    """

    name: str
    target_ms: float | None
    cold_ms: float
    warm_ms: float
    rows: int
    pages: int
    plan: list[str]


class Plan(NamedTuple):
    """What PostgreSQL did for a query: see `Asked`."""

    rows: int
    pages: int
    reads: list[str]


class Queries(msgspec.Struct, frozen=True, kw_only=True):
    """All of them, and what the database held."""

    size: Size
    gigabytes: float
    asked: list[Asked]


def _key(kind: str, count: str) -> Draw:
    return lambda rng, size: (id_of(f"{kind}-{_number(rng, size, count)}"),)


def _text(kind: str, count: str) -> Draw:
    return lambda rng, size: (f"{kind}-{_number(rng, size, count)}",)


def _number(rng: random.Random, size: Size, count: str) -> int:
    return rng.randint(1, getattr(size, count))


QUERIES: Mapping[str, Query] = {
    "agent by its id": Query(
        "SELECT * FROM agents.agent WHERE agent_id = $1", 50, _key("agent", "agents")
    ),
    "agent by its text": Query(
        "SELECT * FROM agents.agent WHERE external_id = $1", 50, _text("agent", "agents")
    ),
    "status of a task": Query(
        "SELECT status, assigned_to, completed_at, result, error FROM tasks.task"
        " WHERE task_id = $1",
        50,
        _key("task", "tasks"),
    ),
    "tasks of an agent": Query(
        "SELECT task_id, title, status FROM tasks.task WHERE assigned_to = $1",
        None,
        _key("agent", "agents"),
    ),
    "100 tasks to take": Query("SELECT * FROM tasks.ready LIMIT 100", None, lambda *_: ()),
    "workflow with its last executions": Query(
        "SELECT w.*, e.execution_id, e.started_at, e.status FROM workflows.workflow AS w,"
        " LATERAL (SELECT * FROM workflows.execution AS x WHERE x.workflow_id = w.workflow_id"
        " ORDER BY x.started_at DESC LIMIT 20) AS e WHERE w.workflow_id = $1",
        50,
        _key("workflow", "workflows"),
    ),
    "unread notifications of a user": Query(
        "SELECT message_id, sent_at, from_id, subject, payload FROM messages.message"
        " WHERE recipient = $1 AND to_kind = 'user' AND read_at IS NULL"
        f" ORDER BY sent_at DESC LIMIT {_PAGE}",
        100,
        _text("user", "users"),
    ),
    "who can do this best": Query(
        "SELECT a.agent_id, a.name, a.status, c.proficiency FROM agents.capability AS c"
        " JOIN agents.agent AS a USING (agent_id)"
        " WHERE c.name = $1 AND c.deleted_at IS NULL AND c.enabled"
        " ORDER BY c.proficiency DESC NULLS LAST LIMIT 20",
        None,
        lambda rng, _: (f"skill-{rng.randrange(SKILLS)}",),
    ),
    "page of a leaderboard": Query(
        "SELECT l.rank, a.name, l.score, l.rank_change FROM merit.v_current_leaderboard AS l"
        " JOIN agents.agent AS a USING (agent_id)"
        f" WHERE l.category = 'overall' AND l.rank > $1 ORDER BY l.rank LIMIT {_PAGE}",
        100,
        lambda rng, size: (rng.randrange(size.agents - _PAGE),),
    ),
    "history of a task": Query(
        "SELECT occurred_at, event_type, status, source, data FROM tasks.history"
        f" WHERE task = $1 ORDER BY occurred_at DESC LIMIT {_PAGE}",
        None,
        _text("task", "tasks"),
    ),
    "page of what happened in an hour": Query(
        "SELECT occurred_at, task, event_type, status FROM tasks.history"
        " WHERE occurred_at > now() - ($1 + 1) * interval '1 hour'"
        " AND occurred_at <= now() - $1 * interval '1 hour'"
        f" ORDER BY occurred_at DESC LIMIT {_PAGE}",
        None,
        lambda rng, _: (rng.random() * 24 * (DAYS - 1),),
    ),
}


async def queries(factor: float, rounds: int, say: Callable[[str], None]) -> Queries:
    """Make the rows, ask each query cold ``rounds`` times, then warm; on a server of its own."""
    size = scaled(factor)
    async with EmbeddedPostgres(settings=_SETTINGS) as server:
        dsn = await server.create_database("company")
        await up(dsn)
        await fill(dsn, size, say)
        cold: dict[str, list[float]] = {name: [] for name in QUERIES}
        for number in range(rounds):
            say(f"queries: cold, round {number + 1}")
            await _let_go(server)
            rng = random.Random(number)
            for name, query in _in_turn(number):
                cold[name].append(await _once(dsn, query, query.draw(rng, size)))
        say("queries: warm")
        return await _warm(dsn, size, cold)


def _in_turn(number: int) -> Iterator[tuple[str, Query]]:
    """All queries, another one first each time: the first pays for what all need."""
    every = list(QUERIES.items())
    for at in range(len(every)):
        yield every[(at + number) % len(every)]


async def _let_go(server: EmbeddedPostgres) -> None:
    """Restart the server, and have the system forget its files, so that they are read from disk.

    That takes no right but to read them. A cache below the file system may have them still.
    """
    await server.restart()
    for path in (server.folder / "data" / "base").rglob("*"):
        if path.is_file():
            await asyncio.to_thread(_forget, path)


def _forget(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)  # what is not yet on disk would stay
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


async def _once(dsn: str, query: Query, parameters: tuple[Any, ...]) -> float:
    """Milliseconds on a new connection, which knows nothing of the tables yet."""
    connection = await asyncpg.connect(dsn)
    found = await _timed(connection, query, parameters)
    await connection.close()
    return found


async def _timed(connection: Any, query: Query, parameters: tuple[Any, ...]) -> float:
    begun = time.perf_counter()
    await connection.fetch(query.text, *parameters)
    return (time.perf_counter() - begun) * 1000


async def _warm(dsn: str, size: Size, cold: Mapping[str, list[float]]) -> Queries:
    connection = await asyncpg.connect(dsn)
    asked = [
        await _asked(connection, size, name, query, cold[name]) for name, query in QUERIES.items()
    ]
    held = await connection.fetchval("SELECT pg_database_size(current_database())")
    await connection.close()
    return Queries(size=size, gigabytes=round(held / 2**30, 2), asked=asked)


async def _asked(connection: Any, size: Size, name: str, query: Query, cold: list[float]) -> Asked:
    rng = random.Random(name)
    drawn = [query.draw(rng, size) for _ in range(2 * _WARM)]
    times = [await _timed(connection, query, parameters) for parameters in drawn]
    plan = await explained(connection, query, drawn[-1])
    return Asked(
        name=name,
        target_ms=query.target_ms,
        cold_ms=round(median(cold), 2),
        warm_ms=round(median(times[_WARM:]), 2),
        rows=plan.rows,
        pages=plan.pages,
        plan=plan.reads,
    )


async def explained(connection: Any, query: Query, parameters: tuple[Any, ...]) -> Plan:
    """How the server goes about a query."""
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query.text}"
    root = msgspec.json.decode(await connection.fetchval(explain, *parameters))[0]["Plan"]
    pages = root["Shared Hit Blocks"] + root["Shared Read Blocks"]
    return Plan(round(root["Actual Rows"]), pages, list(dict.fromkeys(_reads(root))))


def _reads(node: Mapping[str, Any]) -> Iterator[str]:
    """How each table of a plan is read, where it was looked at at all and is not empty."""
    if not node["Actual Loops"]:
        return
    if "Index Name" in node:
        yield _period.sub("", node["Index Name"])
    elif node["Node Type"] == "Seq Scan" and node["Actual Rows"]:
        yield f"all of {_period.sub('', node['Relation Name'])}"
    for child in node.get("Plans", ()):
        yield from _reads(child)
