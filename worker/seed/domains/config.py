"""Settings of agents and of all, and features that are switched on little by little."""

from collections.abc import Iterator
from datetime import timedelta

from penstock.schemas.config import ConfigDeleted, ConfigSet, FeatureFlagSet
from penstock.worker.seed.company import Company
from penstock.worker.seed.said import Said

_ROLLOUTS = (5, 25, 100)


def tell(company: Company) -> Iterator[Said]:
    """A budget for all, another for one; a flag that reaches everybody."""
    begun = company.since + timedelta(minutes=3)
    for agent, budget in (("global", 5.0), ("katherine", 20.0), ("dennis", 1.0)):
        setting = ConfigSet(agent_id=agent, config_key="usd_a_day", value=budget, reason="the plan")
        yield Said(begun, setting, "ada")
    step = (company.until - company.since) / (len(_ROLLOUTS) + 1)
    raised = ConfigSet(agent_id="global", config_key="usd_a_day", value=8.0, reason="too tight")
    yield Said(company.since + step, raised, "ada")
    dropped = ConfigDeleted(agent_id="dennis", config_key="usd_a_day", reason="as all others")
    yield Said(company.since + 2 * step, dropped, "ada")
    for number, rollout in enumerate(_ROLLOUTS, 1):
        flag = FeatureFlagSet(
            name="parallel_reviews", enabled=True, rollout=rollout, description="two reviewers"
        )
        yield Said(company.since + number * step, flag, "ada")
