"""Agents look for ideas together, combine and judge them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from penstock.schemas.ideas import (
    BrainstormClosed,
    BrainstormJoined,
    BrainstormOpened,
    IdeasCombined,
    IdeaScored,
    IdeaSubmitted,
    IdeaVoted,
)
from penstock.schemas.vocabulary import IdeaTarget
from penstock.worker.seed.company import Agent, Company
from penstock.worker.seed.said import Said

_TOPICS = ("how to shorten the build", "what to do about flaky tests", "the next product")
_IDEAS = ("cache it", "run it in parallel", "delete half of it", "ask the users", "measure first")
_SECONDS = timedelta(seconds=1)


def tell(company: Company) -> Iterator[Said]:
    """Three sessions; the last one goes on."""
    random = company.random("ideas")
    step = (company.until - company.since) / len(_TOPICS)
    for number, topic in enumerate(_TOPICS):
        begun = company.until - timedelta(minutes=50) - (len(_TOPICS) - 1 - number) * step
        present = random.sample(company.agents, 6)
        session = company.name("brainstorm", number)
        opened = BrainstormOpened(
            session_id=session, topic=topic, facilitator_id="ada", limits={"minutes": 60}
        )
        yield Said(begun, opened, "ada")
        for agent in present:
            joined = BrainstormJoined(session_id=session, agent_id=agent.id)
            yield Said(begun + random.randint(5, 200) * _SECONDS, joined, agent.id)
        yield from _ideas(session, present, begun, random)
        closed = BrainstormClosed(session_id=session, by="ada", reason="the hour is over")
        yield Said(begun + timedelta(hours=1), closed, "ada")


def _ideas(session: str, present: list[Agent], begun: datetime, random: Random) -> Iterator[Said]:
    ids = [f"{session}-{number}" for number in range(10)]
    for number, idea in enumerate(ids):
        agent, at = random.choice(present), begun + (300 + 120 * number) * _SECONDS
        submitted = IdeaSubmitted(
            session_id=session,
            idea_id=idea,
            agent_id=agent.id,
            content=random.choice(_IDEAS),
            category=random.choice(("process", "code", "product")),
            tags=["quick"] if number % 3 == 0 else None,
        )
        yield Said(at, submitted, agent.id)
        scored = IdeaScored(
            session_id=session,
            idea_id=idea,
            quality=round(random.random(), 2),
            novelty=round(random.random(), 2),
            feasibility=round(random.random(), 2),
        )
        yield Said(at + 60 * _SECONDS, scored, "ada")
        yield from _votes(session, idea, IdeaTarget.IDEA, at, present, random)
    combined = IdeasCombined(
        session_id=session,
        combination_id=f"{session}-combined",
        agent_id=present[0].id,
        idea_ids=random.sample(ids, 2),
        content="both together",
        synergy=0.7,
    )
    at = begun + 1700 * _SECONDS
    yield Said(at, combined, present[0].id)
    yield from _votes(session, f"{session}-combined", IdeaTarget.COMBINATION, at, present, random)


def _votes(
    session: str,
    target: str,
    kind: IdeaTarget,
    at: datetime,
    present: list[Agent],
    random: Random,
) -> Iterator[Said]:
    for agent in random.sample(present, 3):
        voted = IdeaVoted(
            session_id=session,
            target_id=target,
            target_kind=kind,
            agent_id=agent.id,
            value=random.choice((-1.0, 0.5, 1.0)),
        )
        yield Said(at + random.randint(61, 90) * _SECONDS, voted, agent.id)
