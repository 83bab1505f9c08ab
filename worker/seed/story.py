"""Everything that the company says, in the order of time."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from penstock.worker.errors import PenstockError
from penstock.worker.seed.company import Company
from penstock.worker.seed.domains import (
    access,
    accounts,
    agents,
    audit,
    battles,
    config,
    ideas,
    knowledge,
    learning,
    mentorships,
    merit,
    messages,
    monitoring,
    organizations,
    penalties,
    recovery,
    sdlc,
    sessions,
    tasks,
    telemetry,
    trust,
    votes,
    workflows,
)
from penstock.worker.seed.said import Said

Teller = Callable[[Company], Iterator[Said]]

DOMAINS: Mapping[str, Teller] = {
    "agents": agents.tell,
    "tasks": tasks.tell,
    "messages": messages.tell,
    "votes": votes.tell,
    "workflows": workflows.tell,
    "ideas": ideas.tell,
    "mentorships": mentorships.tell,
    "knowledge": knowledge.tell,
    "learning": learning.tell,
    "merit": merit.tell,
    "battles": battles.tell,
    "trust": trust.tell,
    "penalties": penalties.tell,
    "organizations": organizations.tell,
    "accounts": accounts.tell,
    "access": access.tell,
    "sessions": sessions.tell,
    "config": config.tell,
    "audit": audit.tell,
    "sdlc": sdlc.tell,
    "telemetry": telemetry.tell,
    "monitoring": monitoring.tell,
    "recovery": recovery.tell,
}
"""What can be told. A new domain is a module with one function, and a line here."""


def story(company: Company, domains: Sequence[str] = ()) -> list[tuple[str, Said]]:
    """What was said until now, each with the id of its event; without ``domains``, all of them.

    The same company says the same under the same ids, so publishing it again changes nothing. What
    one domain says does not depend on which others are told. Raises PenstockError for a domain that
    nobody can tell.
    """
    told = [
        (f"{company.stamp}-{name}-{number}", said)
        for name in chosen(domains)
        for number, said in enumerate(DOMAINS[name](company))
        if said.at <= company.until  # the rest has not happened yet
    ]
    return sorted(told, key=lambda one: one[1].at)


def chosen(domains: Iterable[str]) -> Sequence[str]:
    """The domains to tell, without repetitions; ``all`` and none at all are all of them."""
    named = list(dict.fromkeys(name.strip() for name in domains if name.strip()))
    for name in named:
        if name not in DOMAINS and name != "all":
            known = ", ".join(DOMAINS)
            raise PenstockError(f"nothing can be told of {name!r}; choose of: all, {known}")
    return list(DOMAINS) if not named or "all" in named else named
