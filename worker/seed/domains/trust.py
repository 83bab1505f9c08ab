"""Whom agents trust: what they saw in each other's work, and what they think of each other."""

from collections.abc import Iterator
from datetime import timedelta

from penstock.schemas.trust import TrustInteracted, TrustRated
from penstock.schemas.vocabulary import TaskStatus, TrustOutcome
from penstock.worker.seed.company import Company
from penstock.worker.seed.said import Said


def tell(company: Company) -> Iterator[Said]:
    """For half of the tasks, what somebody who saw it makes of it; ratings now and then."""
    random = company.random("trust")
    for task in company.tasks[::2]:
        witness = random.choice([one for one in company.agents if one is not task.agent])
        good = task.status is TaskStatus.COMPLETED
        saw = TrustInteracted(
            from_agent=witness.id,
            to_agent=task.agent.id,
            outcome=TrustOutcome.POSITIVE if good else TrustOutcome.NEGATIVE,
            task_id=task.id,
        )
        yield Said(task.ended + timedelta(minutes=1), saw, witness.id, task.project)
    for _ in range(6 * company.days):
        one, other = random.sample(company.agents, 2)
        rating = round(min(1.0, max(0.0, random.gauss(other.reliability - 0.1, 0.1))), 2)
        rated = TrustRated(from_agent=one.id, to_agent=other.id, rating=rating)
        yield Said(company.moment(random), rated, one.id)
