"""Agents register, beat, change their status, keep state, and one retires."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from penstock.schemas.agents import (
    AgentActivity,
    AgentCapabilityRemoved,
    AgentCapabilitySet,
    AgentCheckpointed,
    AgentConnectionSet,
    AgentDependencyRemoved,
    AgentDependencySet,
    AgentHeartbeat,
    AgentInstanceChanged,
    AgentOutput,
    AgentRegistered,
    AgentRetired,
    AgentStateDeleted,
    AgentStateSet,
    AgentStatusChanged,
    AgentUpdated,
)
from penstock.schemas.vocabulary import (
    AgentDependencyKind,
    AgentStatus,
    CognitivePattern,
    InstanceStatus,
    OutputKind,
)
from penstock.worker.seed.company import Agent, Company, happens
from penstock.worker.seed.said import Said

_BEAT = timedelta(hours=2)
_FORMER = Agent("charles", "Charles", "engineer", ("engines",), "divergent", 0.6)
_NEEDS = (("linus", "edsger"), ("grace", "edsger"), ("alan", "margaret"), ("dennis", "radia"))


def tell(company: Company) -> Iterator[Said]:
    """The life of each agent, of one who has left, and who needs whom."""
    random = company.random("agents")
    for number, agent in enumerate(company.agents):
        yield from _begins(company, agent, number)
        yield from _lives(company, agent, random)
        yield from _remembers(company, agent, random)
    yield from _leaves(company)
    for one, needed in _NEEDS:
        kind = AgentDependencyKind.REQUIRED
        needs = AgentDependencySet(agent_id=one, depends_on=needed, kind=kind)
        yield Said(company.since + timedelta(minutes=8), needs, one)
    ended = AgentDependencyRemoved(agent_id="alan", depends_on="margaret")
    yield Said(company.since + timedelta(hours=30), ended, "alan")


def _profile(company: Company, agent: Agent, version: str) -> dict[str, object]:
    return {
        "agent_id": agent.id,
        "name": agent.name,
        "agent_type": agent.kind,
        "software_version": version,
        "project_id": company.projects[len(agent.id) % len(company.projects)],
        "cognitive_pattern": CognitivePattern(agent.pattern),
        "configuration": {"temperature": 0.2, "tools": ["shell", "search"]},
    }


def _begins(company: Company, agent: Agent, number: int) -> Iterator[Said]:
    at = company.since + timedelta(minutes=number / 4)
    skills = list(agent.skills)
    profile = _profile(company, agent, "2.3.0")
    registered = AgentRegistered(**profile, capabilities=skills, created_by="ada")  # type: ignore[arg-type]
    yield Said(at, registered, agent.id)
    for skill in skills:
        level = round(agent.reliability - 0.05 * skills.index(skill), 2)
        able = AgentCapabilitySet(agent_id=agent.id, name=skill, proficiency=level, experience=40)
        yield Said(at + timedelta(seconds=20), able, agent.id)
    instance = AgentInstanceChanged(
        agent_id=agent.id,
        instance_id=f"{agent.id}-1",
        host=f"node-{number % 3}",
        status=InstanceStatus.RUNNING,
        port=8000 + number,
        started_at=at,
    )
    yield Said(at + timedelta(seconds=30), instance, agent.id)
    yield Said(at + timedelta(seconds=40), _connection(agent), agent.id)
    updated = AgentUpdated(**_profile(company, agent, "2.4.0"))  # type: ignore[arg-type]
    yield Said(company.since + timedelta(hours=20 + number), updated, agent.id)


def _connection(agent: Agent) -> AgentConnectionSet:
    return AgentConnectionSet(
        agent_id=agent.id,
        connection_id=f"{agent.id}-main",
        host="db.internal",
        port=5432,
        database="work",
        pool_size=5,
        max_connections=10,
        is_active=True,
    )


def _lives(company: Company, agent: Agent, random: Random) -> Iterator[Said]:
    """Heartbeats, each with a change of status now and then, something done, something written."""
    status = AgentStatus.INITIALIZING
    for begun in company.every(_BEAT):
        at = begun + timedelta(seconds=60 + random.randint(0, 600))
        now = random.choices((AgentStatus.BUSY, AgentStatus.IDLE, AgentStatus.ERROR), (70, 27, 3))[
            0
        ]
        if now is not status:
            changed = AgentStatusChanged(agent_id=agent.id, status=now, previous=status)
            yield Said(at, changed, agent.id)
            status = now
        load = round(random.betavariate(2, 4) * (1.5 if now is AgentStatus.BUSY else 0.3), 3)
        beat = AgentHeartbeat(
            agent_id=agent.id,
            instance_id=f"{agent.id}-1",
            status=now,
            load=load,
            metrics={"cpu": round(load * 0.6, 3), "memory_mb": float(random.randint(200, 900))},
        )
        yield Said(at + timedelta(seconds=1), beat, agent.id)
        if happens(random, 0.25):
            yield Said(at + timedelta(seconds=30), _output(agent, now), agent.id)
        if happens(random, 0.4):
            yield Said(at + timedelta(seconds=45), _activity(agent, random), agent.id)


def _activity(agent: Agent, random: Random) -> AgentActivity:
    tool = random.choice(("search", "shell", "browser", "editor"))
    details = {"tool": tool, "calls": random.randint(1, 20)}
    return AgentActivity(agent_id=agent.id, activity_type="tool_used", details=details)


def _output(agent: Agent, status: AgentStatus) -> AgentOutput:
    text = f"{agent.name} is {status}"
    return AgentOutput(agent_id=agent.id, output_type=OutputKind.LOG, content=text)


def _remembers(company: Company, agent: Agent, random: Random) -> Iterator[Said]:
    """Its place in the work as state, a checkpoint each day, and a note that it drops again."""
    mine = [task for task in company.tasks if task.agent is agent]
    for task in mine:
        value = {"task": task.id, "line": random.randint(1, 5000)}
        kept = AgentStateSet(agent_id=agent.id, state_key="cursor", value=value)
        yield Said(task.started + timedelta(seconds=5), kept, agent.id)
    for day, at in enumerate(company.every(timedelta(days=1))):
        checkpoint = AgentCheckpointed(
            agent_id=agent.id,
            checkpoint_id=company.name(f"checkpoint-{agent.id}", day),
            name="nightly",
            trigger="schedule",
            snapshot={"cursor": day},
        )
        yield Said(at + timedelta(hours=3), checkpoint, agent.id)
    begun = company.since + timedelta(hours=5)
    note = AgentStateSet(agent_id=agent.id, state_key="scratch", value={"try": 1})
    yield Said(begun, note, agent.id)
    dropped = AgentStateDeleted(agent_id=agent.id, state_key="scratch")
    yield Said(begun + timedelta(hours=1), dropped, agent.id)


def _leaves(company: Company) -> Iterator[Said]:
    begun: datetime = company.since + timedelta(minutes=4)
    profile = _profile(company, _FORMER, "1.9.3")
    yield Said(begun, AgentRegistered(**profile, capabilities=["engines"]), _FORMER.id)  # type: ignore[arg-type]
    forgot = AgentCapabilityRemoved(agent_id=_FORMER.id, name="engines")
    yield Said(begun + timedelta(hours=10), forgot, _FORMER.id)
    retired = AgentRetired(agent_id=_FORMER.id, reason="replaced by a newer model")
    yield Said(begun + timedelta(hours=11), retired, "ada")
