"""Agents vote, by every algorithm; some votes are close, one is called off, one is still open."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from penstock.schemas.vocabulary import VotingAlgorithm
from penstock.schemas.votes import (
    VoteCancelled,
    VoteCast,
    VoteClosed,
    VoteOpened,
    VoteRetracted,
)
from penstock.worker.seed.company import Company, happens
from penstock.worker.seed.said import Said

_VOTES = 15
_CALLED_OFF = 3
_TOPICS = ("ship the release?", "which broker?", "name of the service", "move to weekly releases?")
_OPTIONS = ("yes", "no", "later")


def tell(company: Company) -> Iterator[Said]:
    """Votes spread over the days; the last one began a moment ago."""
    random = company.random("votes")
    algorithms = list(VotingAlgorithm)
    step = (company.until - company.since) / _VOTES
    for number in range(_VOTES):
        opened = company.since + (number + 0.5) * step
        if number == _VOTES - 1:
            opened = company.until - timedelta(minutes=20)
        yield from _vote(company, number, algorithms[number % len(algorithms)], opened, random)


def _vote(
    company: Company, number: int, algorithm: VotingAlgorithm, at: datetime, random: Random
) -> Iterator[Said]:
    session = company.name("vote", number)
    opened = VoteOpened(
        session_id=session,
        topic=_TOPICS[number % len(_TOPICS)],
        algorithm=algorithm,
        options=list(_OPTIONS),
        eligible=len(company.agents),
        quorum=0.5,
        token_budget=100 if algorithm is VotingAlgorithm.QUADRATIC else None,
        opened_by="ada",
    )
    yield Said(at, opened, "ada")
    for agent in company.agents:
        if happens(random, 0.9):
            cast = _ballot(session, agent.id, algorithm, random)
            yield Said(at + timedelta(seconds=random.randint(10, 3000)), cast, agent.id)
    retracted = VoteRetracted(session_id=session, agent_id="dennis")
    yield Said(at + timedelta(seconds=3100), retracted, "dennis")
    ended = at + timedelta(hours=1)
    if number == _CALLED_OFF:
        cancelled = VoteCancelled(session_id=session, by="ada", reason="the question was unclear")
        yield Said(ended, cancelled, "ada")
    else:
        yield Said(ended, VoteClosed(session_id=session, by="ada", reason="time is up"), "ada")


def _ballot(session: str, agent: str, algorithm: VotingAlgorithm, random: Random) -> VoteCast:
    ranking = random.sample(_OPTIONS, len(_OPTIONS))
    return VoteCast(
        session_id=session,
        agent_id=agent,
        option=ranking[0],
        ranking=ranking if algorithm is VotingAlgorithm.RANKED_CHOICE else None,
        confidence=round(random.uniform(0.3, 1.0), 2),
        tokens=random.randint(1, 100) if algorithm is VotingAlgorithm.QUADRATIC else None,
        reasoning="by what the last release taught us",
    )
