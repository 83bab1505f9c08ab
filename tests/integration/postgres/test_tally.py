"""Results of votes, against a program that knows only the rules."""

import os
import random
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from uuid import UUID

import asyncpg
import msgspec
import pytest

from tests.support.tallies import ALGORITHMS, Vote, at, random_vote, tally

VOTES = int(os.environ.get("PENSTOCK_TEST_TALLIES", "400"))
"""Of each algorithm. 10,000 take a minute."""

_VOTE = """
INSERT INTO collab.vote_session (session_id, algorithm, options, eligible, quorum, threshold,
    token_budget, deadline, status, closed_at, status_at, status_event, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $1, $11)
"""
_BALLOT = """
INSERT INTO collab.ballot (ballot_id, session_id, agent_id, option, ranking, confidence, weight,
    tokens, retracted, version, version_at, version_event)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $1)
"""


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    found = await asyncpg.connect(database)
    await found.execute(
        "INSERT INTO agents.agent (agent_id, is_stub)"
        " SELECT lpad(n::text, 32, '0')::uuid, true FROM generate_series(0, 9) AS n"
    )
    yield found
    await found.close()


async def store(connection: asyncpg.Connection, votes: Sequence[Vote]) -> None:
    await connection.executemany(_VOTE, [_vote_row(*pair) for pair in enumerate(votes)])
    await connection.executemany(
        _BALLOT, [row for pair in enumerate(votes) for row in _ballot_rows(*pair)]
    )


def _vote_row(number: int, vote: Vote) -> tuple[object, ...]:
    closed = None if vote.closed is None else at(vote.closed)
    return (
        UUID(int=number),
        vote.algorithm,
        msgspec.json.encode(vote.options).decode(),
        vote.eligible,
        vote.quorum,
        vote.threshold,
        vote.budget,
        None if vote.deadline is None else at(vote.deadline),
        vote.status,
        closed,
        at(0),
    )


def _ballot_rows(number: int, vote: Vote) -> list[tuple[object, ...]]:
    return [
        (
            UUID(int=(number + 1 << 64) + n),
            UUID(int=number),
            UUID(f"{ballot.agent:032d}"),
            ballot.option,
            None if ballot.ranking is None else msgspec.json.encode(ballot.ranking).decode(),
            ballot.confidence,
            ballot.weight,
            ballot.tokens,
            ballot.retracted,
            ballot.sequence,
            at(ballot.minute),
        )
        for n, ballot in enumerate(vote.ballots)
    ]


async def test_every_result_is_that_of_the_rules(connection: asyncpg.Connection) -> None:
    rng = random.Random(12)
    votes = [random_vote(rng, algorithm) for algorithm in ALGORITHMS for _ in range(VOTES)]
    await store(connection, votes)
    await connection.fetch("SELECT * FROM collab.settle()")
    rows = await connection.fetch(
        "SELECT results::text, winner FROM collab.vote_session ORDER BY session_id"
    )
    outcomes = set()
    for vote, (text, winner) in zip(votes, rows, strict=True):
        found = text and _compared(msgspec.json.decode(text, type=Result))
        assert found == tally(vote), vote
        assert winner == (found and found["winner"])
        outcomes.add((vote.algorithm, found and found["outcome"]))
    assert len(outcomes) > 20, "every outcome of every algorithm has come up"
    assert await connection.fetch("SELECT * FROM collab.settle()") == []


class Round(msgspec.Struct):
    leaves: str


class Result(msgspec.Struct):
    outcome: str
    winner: str | None
    ballots: int
    invalid: int
    scores: dict[str, Decimal]
    rounds: list[Round]


def _compared(found: Result) -> dict[str, object]:
    return {
        **msgspec.structs.asdict(found),
        "scores": {name: score for name, score in found.scores.items() if score},
        "rounds": [one.leaves for one in found.rounds],
    }
