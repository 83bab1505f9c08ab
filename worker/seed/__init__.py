"""A believable small company of agents, told as events: for a first look, and for queries."""

from penstock.worker.seed.company import Company
from penstock.worker.seed.said import Said
from penstock.worker.seed.story import DOMAINS, chosen, story

__all__ = ["DOMAINS", "Company", "Said", "chosen", "story"]
