"""The company: who works there, on what, and which tasks there were. The domains share it."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from random import Random

import msgspec

from penstock.schemas.vocabulary import TaskStatus

TASKS_A_DAY = 36
FRESH = 12
"""Tasks of the last hour: most of them wait, or have just begun."""


class Agent(msgspec.Struct, frozen=True):
    """One who works there. ``reliability``, 0 to 1, is how often its work succeeds."""

    id: str
    name: str
    kind: str
    skills: tuple[str, ...]
    pattern: str
    reliability: float


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One task, planned from beginning to end; what lies after now has not happened yet.

    ``attempts`` that failed come before the last one. ``usd`` is what the model calls cost.
    """

    id: str
    kind: str
    title: str
    project: str
    agent: Agent
    priority: int
    created: datetime
    started: datetime
    ended: datetime
    status: TaskStatus
    attempts: int
    quality: float | None
    usd: float


AGENTS: Sequence[Agent] = (
    Agent("ada", "Ada", "team-leader", ("planning", "python"), "systems", 0.97),
    Agent("linus", "Linus", "engineer", ("python", "sql"), "convergent", 0.93),
    Agent("grace", "Grace", "engineer", ("python", "compilers"), "critical", 0.96),
    Agent("alan", "Alan", "engineer", ("rust", "algorithms"), "lateral", 0.85),
    Agent("barbara", "Barbara", "engineer", ("sql", "operations"), "systems", 0.94),
    Agent("edsger", "Edsger", "reviewer", ("review", "algorithms"), "critical", 0.98),
    Agent("margaret", "Margaret", "tester", ("testing", "python"), "critical", 0.95),
    Agent("donald", "Donald", "writer", ("writing", "review"), "convergent", 0.92),
    Agent("katherine", "Katherine", "researcher", ("search", "statistics"), "divergent", 0.9),
    Agent("dennis", "Dennis", "engineer", ("c", "operations"), "adaptive", 0.72),
    Agent("radia", "Radia", "operator", ("operations", "networks"), "adaptive", 0.95),
    Agent("ken", "Ken", "engineer", ("go", "testing"), "adaptive", 0.88),
)

PROJECTS: Sequence[str] = ("checkout", "search", "billing", "mobile")

WORK: Sequence[tuple[str, int, Sequence[str]]] = (
    ("implement", 55, ("add the retry", "write the endpoint", "port the parser", "add an index")),
    ("review", 20, ("review the change", "read the migration", "check the error paths")),
    ("test", 25, ("fix the flaky test", "cover the new branch", "run the load test")),
    ("research", 70, ("compare the brokers", "find the slow query", "read the paper")),
    ("document", 30, ("write the runbook", "describe the release", "answer the question")),
    ("deploy", 12, ("roll out the release", "rotate the certificates", "resize the pool")),
)
"""Kinds of task with their usual length in minutes, and what they are called."""


class Company:
    """For a given ``seed`` and ``until`` always the same. It is told for ``days`` until then."""

    def __init__(self, seed: int, until: datetime, days: int) -> None:
        self.seed = seed
        self.until = until
        self.days = days
        self.agents = AGENTS
        self.projects = PROJECTS
        self.stamp = f"{seed}-{until:%Y%m%dT%H%M%S}"
        """Part of the ids of what happened in this telling, and in no other."""
        self.tasks = list(self._planned(self.random("plan")))

    @property
    def since(self) -> datetime:
        """When the telling begins."""
        return self.until - timedelta(days=self.days)

    def random(self, domain: str) -> Random:
        """Chance for one domain, so that what it says does not depend on the others."""
        return Random(f"{self.seed}/{domain}")

    def name(self, kind: str, number: int) -> str:
        """The id of the ``number``-th thing of a kind in this telling."""
        return f"{kind}-{self.stamp}-{number:03}"

    def agent(self, name: str) -> Agent:
        """The agent of that id."""
        return next(agent for agent in self.agents if agent.id == name)

    def moment(self, random: Random) -> datetime:
        """Any time between the beginning and now."""
        return self.since + random.random() * (self.until - self.since)

    def every(self, step: timedelta) -> Iterator[datetime]:
        """Times at that distance, from the beginning on."""
        at = self.since
        while at <= self.until:
            yield at
            at += step

    def _planned(self, random: Random) -> Iterator[Task]:
        workers = [agent for agent in self.agents if agent.kind != "team-leader"]
        for number in range(TASKS_A_DAY * self.days):
            kind, minutes, titles = random.choice(WORK)
            agent, project = random.choice(workers), random.choice(self.projects)
            created = self.moment(random)
            started = created + minutes_of(random.expovariate(1 / 20))
            if number < FRESH:
                created = self.until - minutes_of(random.uniform(5, 50))
                started = self.until + minutes_of(random.uniform(-4, 30))
            lasted = minutes * random.lognormvariate(0, 0.5)
            succeeded = happens(random, agent.reliability)
            yield Task(
                id=self.name("task", number),
                kind=kind,
                title=f"{random.choice(titles)} of {project}",
                project=project,
                agent=agent,
                priority=random.choices((1, 4, 6, 8), (20, 50, 20, 10))[0],
                created=created,
                started=started,
                ended=started + minutes_of(lasted),
                status=TaskStatus.COMPLETED if succeeded else TaskStatus.FAILED,
                attempts=random.choices((1, 2, 3), (90, 8, 2) if succeeded else (10, 30, 60))[0],
                quality=round(random.betavariate(9, 2) * 100, 1) if succeeded else None,
                usd=round(lasted * random.uniform(0.01, 0.04), 4),
            )


def minutes_of(minutes: float) -> timedelta:
    """A duration in whole milliseconds, as times are stored."""
    return timedelta(milliseconds=int(minutes * 60_000))


def happens(random: Random, share: float) -> bool:
    """True in that share of the cases, 0 to 1."""
    return random.random() < share
