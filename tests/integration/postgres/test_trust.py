"""EigenTrust against the linear equations that its scores solve, and what is made of it."""

import random
from collections.abc import AsyncIterator, Mapping
from fractions import Fraction
from uuid import UUID

import asyncpg
import pytest

Edges = Mapping[tuple[int, int], tuple[int, int]]
"""What was good and bad between two agents."""

DAMPING = Fraction(15, 100)


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    found = await asyncpg.connect(database)
    await found.execute("UPDATE config.parameter SET value = 1e-12 WHERE name = 'trust.epsilon'")
    await found.execute("UPDATE config.parameter SET value = 500 WHERE name = 'trust.rounds'")
    yield found
    await found.close()


def solved(agents: int, edges: Edges, chosen: frozenset[int]) -> list[float]:
    """T = (1 - a) C^T t + a p, by elimination in fractions; agents count from 1."""
    trusted = chosen or frozenset(range(1, agents + 1))
    p = [Fraction(int(n in trusted), len(trusted)) for n in range(1, agents + 1)]
    rows = []
    for n in range(1, agents + 1):
        given = [max(Fraction(0), Fraction(good - bad)) for good, bad in _from(n, agents, edges)]
        total = sum(given)
        rows.append([share / total for share in given] if total else p)
    matrix = [
        [Fraction(int(i == j)) - (1 - DAMPING) * rows[j][i] for j in range(agents)]
        + [DAMPING * p[i]]
        for i in range(agents)
    ]
    for i in range(agents):
        pivot = next(r for r in range(i, agents) if matrix[r][i])
        matrix[i], matrix[pivot] = matrix[pivot], matrix[i]
        matrix[i] = [cell / matrix[i][i] for cell in matrix[i]]
        for r in range(agents):
            if r != i and matrix[r][i]:
                factor = matrix[r][i]
                matrix[r] = [a - factor * b for a, b in zip(matrix[r], matrix[i], strict=True)]
    return [float(row[-1]) for row in matrix]


def _from(agent: int, agents: int, edges: Edges) -> list[tuple[int, int]]:
    return [edges.get((agent, other), (0, 0)) for other in range(1, agents + 1)]


async def store(
    connection: asyncpg.Connection, agents: int, edges: Edges, chosen: frozenset[int]
) -> None:
    await connection.execute("TRUNCATE agents.agent, trust.edge, trust.pretrusted CASCADE")
    await connection.executemany(
        "INSERT INTO agents.agent (agent_id, external_id, registered_at) VALUES ($1, $2, now())",
        [(UUID(int=n), f"a-{n}") for n in range(1, agents + 1)],
    )
    await connection.executemany(
        "INSERT INTO trust.edge (from_agent, to_agent, positive, negative) VALUES ($1, $2, $3, $4)",
        [(UUID(int=a), UUID(int=b), good, bad) for (a, b), (good, bad) in edges.items()],
    )
    await connection.executemany(
        "INSERT INTO trust.pretrusted (agent_id) VALUES ($1)", [(UUID(int=n),) for n in chosen]
    )


async def test_global_trust_solves_its_equations(connection: asyncpg.Connection) -> None:
    """Agents that trust nobody, that are trusted by nobody, and a ring that praises itself."""
    rng = random.Random(2003)
    for _ in range(12):
        agents = rng.randint(1, 9)
        pairs = [(a, b) for a in range(1, agents + 1) for b in range(1, agents + 1) if a != b]
        edges = {
            pair: (rng.randrange(5) * 1_000_000, rng.randrange(4) * 700_001)
            for pair in rng.sample(pairs, len(pairs) // 2)
        }
        chosen = frozenset(rng.sample(range(1, agents + 1), rng.randint(0, min(2, agents))))
        await store(connection, agents, edges, chosen)
        [(found,)] = await connection.fetch("SELECT scores FROM trust.eigentrust()")
        assert found == pytest.approx(solved(agents, edges, chosen), abs=1e-9)
        assert sum(found) == pytest.approx(1)


async def scores(connection: asyncpg.Connection) -> list[float]:
    found: list[float] = await connection.fetchval("SELECT scores FROM trust.eigentrust()")
    return found


async def test_it_is_what_another_implementation_publishes(connection: asyncpg.Connection) -> None:
    """The paper (Kamvar, Schlosser, Garcia-Molina 2003) has simulations and no example in numbers.
    These are of the README of github.com/Karma3Labs/go-eigentrust: ek, sd and vm; alpha 0.5; ek is
    trusted beforehand half as much as vm. Here all those are trusted alike, so vm are two, who
    share what vm gets, and say the same.
    """
    ek, sd, vm, other_vm = 1, 2, 3, 4
    edges = {
        (ek, sd): (200, 0), (vm, sd): (100, 0), (other_vm, sd): (100, 0),
        (ek, vm): (75, 0), (ek, other_vm): (75, 0),
    }  # fmt: skip
    await connection.execute("UPDATE config.parameter SET value = 0.5 WHERE name = 'trust.damping'")
    await store(connection, 4, edges, frozenset({ek, vm, other_vm}))
    found = await scores(connection)
    published = [0.21705427907166472, 0.3023255429103218, 0.4806201780180134]
    assert [*found[:2], sum(found[2:])] == pytest.approx(published, abs=1e-7)


async def test_with_nobody_trusted_beforehand_it_is_the_best_known_page_rank(
    connection: asyncpg.Connection,
) -> None:
    """The example of Wikipedia's article on PageRank, with 0.85: EigenTrust is the same sum there.
    A links to nothing, and G to K are linked to by nobody.
    """
    names = "ABCDEFGHIJK"
    links = "DA DB BC CB EB ED EF FB FE GB GE HB HE IB IE JE KE"
    pairs = [(names.index(link[0]) + 1, names.index(link[1]) + 1) for link in links.split()]
    edges = dict.fromkeys(pairs, (1, 0))
    await store(connection, len(names), edges, frozenset())
    percent = [round(100 * score, 1) for score in await scores(connection)]
    assert percent == [3.3, 38.4, 34.3, 3.9, 8.1, 3.9, 1.6, 1.6, 1.6, 1.6, 1.6]


async def test_scores_are_written_once_an_hour_and_told(connection: asyncpg.Connection) -> None:
    await store(connection, 3, {(1, 2): (5, 0), (3, 2): (5, 1), (2, 1): (1, 0)}, frozenset())
    await connection.execute(
        "INSERT INTO agents.stats (agent_id, tasks_completed, tasks_failed, quality_sum, quality_n)"
        " VALUES ($1, 3, 1, 160, 2)",
        UUID(int=2),
    )
    changed = await connection.fetch("SELECT * FROM trust.score_all()")
    assert [name for (name,) in changed] == ["a-1", "a-2", "a-3"]
    assert await connection.fetch("SELECT * FROM trust.score_all()") == []
    rows = await connection.fetch("SELECT * FROM trust.score ORDER BY agent_id")
    best = rows[1]
    assert best["competence"] == pytest.approx(0.5 * 0.75 + 0.5 * 0.8)
    assert best["composite"] == pytest.approx(0.5 * 1 + 0.3 * 0.775)
    assert best["level"] == "good"
    assert best["trend"] is None
    sent = await connection.fetch("SELECT key, time FROM bus.outbox ORDER BY key")
    assert [key for key, _ in sent] == ["a-1", "a-2", "a-3"]
    assert {at for _, at in sent} == {best["as_of"]}
    await connection.execute("UPDATE agents.agent SET is_stub = true WHERE external_id = 'a-3'")
    await connection.fetch("SELECT * FROM trust.score_all()")
    assert await connection.fetchval("SELECT count(*) FROM trust.score") == 2


async def test_trust_that_fades_along_a_chain_comes_to_nothing(
    connection: asyncpg.Connection,
) -> None:
    """Not to a product that is no double any more."""
    little, much = (1, 0), (10**6, 0)
    agents = 2 * (links := 70) + 1
    edges: dict[tuple[int, int], tuple[int, int]] = {}
    for n in range(links):
        here, back, further = 2 * n + 1, 2 * n + 2, 2 * n + 3
        edges |= {(here, further): little, (here, back): much, (back, 1): much}
    await store(connection, agents, edges, frozenset({1}))
    found = await scores(connection)
    assert sum(found) == pytest.approx(1)
    assert min(found) == 0
