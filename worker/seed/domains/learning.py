"""Patterns that agents learn and apply, and what they take from one domain to another."""

from collections.abc import Iterator
from datetime import timedelta

from penstock.schemas.learning import (
    LearningFinished,
    LearningStarted,
    PatternApplied,
    PatternLearned,
)
from penstock.schemas.vocabulary import CognitivePattern, TransferMode
from penstock.worker.seed.company import Company, happens
from penstock.worker.seed.said import Said

_PATTERNS = (
    ("bisect", CognitivePattern.CONVERGENT, 0.9),
    ("ask-twice", CognitivePattern.CRITICAL, 0.8),
    ("draw-it", CognitivePattern.SYSTEMS, 0.7),
    ("start-over", CognitivePattern.LATERAL, 0.45),
)
_USES_A_DAY = 5


def tell(company: Company) -> Iterator[Said]:
    """Each pattern with its uses, of which as many succeed as its accuracy says; then lessons."""
    random = company.random("learning")
    for name, kind, accuracy in _PATTERNS:
        learned = PatternLearned(
            pattern_id=name, kind=kind, name=name, data={"steps": 3}, accuracy=accuracy
        )
        yield Said(company.since + timedelta(minutes=30), learned, "katherine")
        for _ in range(_USES_A_DAY * company.days):
            agent = random.choice(company.agents)
            worked = happens(random, accuracy)
            applied = PatternApplied(
                pattern_id=name,
                agent_id=agent.id,
                success=worked,
                duration_ms=int(random.lognormvariate(7, 0.8)),
                error_type=None if worked else "no_progress",
            )
            yield Said(company.moment(random), applied, agent.id)
    for number, agent in enumerate(company.agents[1:7]):
        session = company.name("lesson", number)
        started = LearningStarted(
            session_id=session,
            agent_id=agent.id,
            source_domain=agent.skills[0],
            target_domain=agent.skills[1],
            transfer_mode=TransferMode.GRADUAL,
        )
        at = company.since + timedelta(hours=8 * number + 2)
        yield Said(at, started, agent.id)
        gain = round(random.uniform(-0.05, 0.3), 3)
        finished = LearningFinished(session_id=session, metrics={"runs": 12}, improvement=gain)
        yield Said(at + timedelta(hours=2), finished, agent.id)
