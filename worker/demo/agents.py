"""Simulated agents: what a hundred agents might publish, including mistakes."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any

import msgspec

from penstock.schemas.agents import (
    AgentActivity,
    AgentCapabilitySet,
    AgentHeartbeat,
    AgentOutput,
    AgentRegistered,
    AgentStateSet,
    AgentStatusChanged,
)
from penstock.schemas.event import EventData
from penstock.schemas.messages import MessageDelivered, MessageSent
from penstock.schemas.tasks import TaskCreated, TaskUpdated
from penstock.schemas.vocabulary import (
    AgentStatus,
    MessageKind,
    OutputKind,
    RecipientKind,
    TaskStatus,
    VotingAlgorithm,
)
from penstock.schemas.votes import VoteCast, VoteOpened
from penstock.worker.publisher import uuid7

_KINDS = ("engineer", "reviewer", "tester", "researcher", "coordinator")
_WORK = ("fix the flaky test", "review the change", "write the report", "search the archive")
_OPTIONS = ["ship", "wait", "rework"]
_PER_VOTE = 25


class Said(msgspec.Struct, frozen=True):
    """An event of an agent. ``sequence`` 0: not counted. ``time`` None: now."""

    agent: str
    event: EventData
    sequence: int = 0
    time: datetime | None = None


class Crowd:
    """Agents that run concurrently. For a given seed, all but ids and times is deterministic."""

    def __init__(self, count: int, seed: int = 7) -> None:
        self._random = Random(seed)
        self._names = [f"agent-{number:03}" for number in range(count)]
        self._lives = [self._life(number) for number in range(count)]
        self._started = 0
        self._vote = ""
        self._ballots = _PER_VOTE

    def next(self) -> Said:
        """The next event: first each agent registers, then a random agent continues."""
        if self._started < len(self._lives):
            self._started += 1
            return next(self._lives[self._started - 1])
        return next(self._random.choice(self._lives))

    def _life(self, number: int) -> Iterator[Said]:
        name, random = self._names[number], self._random
        yield Said(
            name,
            AgentRegistered(
                agent_id=name,
                name=f"Agent {number}",
                agent_type=random.choice(_KINDS),
                software_version="1.4.2",
                configuration={"temperature": 0.2, "tools": ["shell", "search"]},
                capabilities=["python", "sql"],
            ),
            sequence=1,
        )
        yield Said(name, AgentStatusChanged(agent_id=name, status=AgentStatus.ACTIVE), sequence=1)
        yield Said(name, AgentCapabilitySet(agent_id=name, name="python", proficiency=0.8))
        turn = 0
        while True:
            turn += 1
            yield from self._task(name, turn)

    def _task(self, name: str, turn: int) -> Iterator[Said]:
        """One task from creation to end, with other events in between."""
        random, task = self._random, f"{name}-task-{turn}"
        created = TaskCreated(
            task_id=task,
            task_type="swe",
            title=random.choice(_WORK),
            created_by=name,
            priority=random.randint(0, 9),
            payload={"repository": "example/service", "turn": turn},
            tags=["demo"],
        )
        yield Said(name, created, sequence=1)
        running = TaskUpdated(task_id=task, status=TaskStatus.RUNNING, assigned_to=name)
        yield Said(name, running, sequence=2)
        for step in range(random.randint(2, 6)):
            yield Said(name, self._heartbeat(name))
            yield from self._aside(name, step)
        position = {"task": task, "line": random.randint(1, 5000)}
        yield Said(name, AgentStateSet(agent_id=name, state_key="cursor", value=position), turn)
        ended = random.choices([TaskStatus.COMPLETED, TaskStatus.FAILED], [9, 1])[0]
        result = {"files": random.randint(1, 9), "tests": "passed"}
        done = TaskUpdated(task_id=task, status=ended, assigned_to=name, result=result)
        yield Said(name, done, sequence=3)

    def _heartbeat(self, name: str) -> AgentHeartbeat:
        random = self._random
        return AgentHeartbeat(
            agent_id=name,
            status=AgentStatus.BUSY,
            load=round(random.random(), 3),
            metrics={"cpu": round(random.random(), 3), "memory_mb": float(random.randint(90, 900))},
        )

    def _aside(self, name: str, step: int) -> Iterator[Said]:
        asides = (self._message, self._note, self._output, self._ballot)
        return self._random.choices(asides, [4, 3, 2, 1])[0](name, step)

    def _message(self, name: str, step: int) -> Iterator[Said]:
        recipient, message = self._random.choice(self._names), uuid7()
        sent = MessageSent(
            to=recipient,
            message_id=message,
            to_kind=RecipientKind.AGENT,
            kind=MessageKind.QUERY,
            from_id=name,
            subject="a question",
            payload={"text": "can you look at this?", "step": step},
        )
        at = datetime.now(UTC)
        yield Said(name, sent, time=at)
        delivered = MessageDelivered(
            to=recipient, message_id=message, sent_at=at, at=datetime.now(UTC)
        )
        yield Said(recipient, delivered)

    def _note(self, name: str, step: int) -> Iterator[Said]:
        details = {"tool": "search", "hits": self._random.randint(0, 50), "step": step}
        yield Said(name, AgentActivity(agent_id=name, activity_type="tool_used", details=details))

    def _output(self, name: str, step: int) -> Iterator[Said]:
        line = f"step {step}: {self._random.choice(_WORK)}"
        yield Said(name, AgentOutput(agent_id=name, output_type=OutputKind.LOG, content=line))

    def _ballot(self, name: str, _step: int) -> Iterator[Said]:
        if self._ballots >= _PER_VOTE:
            self._vote, self._ballots = uuid7(), 0
            opened = VoteOpened(
                session_id=self._vote,
                topic="ship it?",
                algorithm=VotingAlgorithm.CONFIDENCE_WEIGHTED,
                options=_OPTIONS,
                opened_by=name,
            )
            yield Said(name, opened, sequence=1)
        self._ballots += 1
        option = self._random.choice(_OPTIONS)
        confidence = round(self._random.random(), 2)
        cast = VoteCast(session_id=self._vote, agent_id=name, option=option, confidence=confidence)
        yield Said(name, cast)


def _envelope(kind: str, subject: str, data: Any, **changed: Any) -> bytes:
    event = {
        "specversion": "1.0",
        "id": uuid7(),
        "source": f"/agents/{subject}",
        "type": kind,
        "subject": subject,
        "time": datetime.now(UTC).isoformat(),
        "data": data,
    }
    return json.dumps({**event, **changed}).encode()


_BROKEN: tuple[tuple[str, Callable[[], bytes]], ...] = (
    ("tasks.torn.updated", lambda: _envelope("tasks.updated", "torn", {})[:70]),
    ("tasks.odd.exploded", lambda: _envelope("tasks.exploded", "odd", {})),
    ("tasks.odd.updated", lambda: _envelope("tasks.updated", "odd", {"status": 7})),
    ("agents.odd.heartbeat", lambda: _envelope("agents.heartbeat", "odd", {"load": -1})),
    (
        "agents.odd.heartbeat",
        lambda: _envelope("agents.heartbeat", "odd", {}, time="2026-01-01T12:00:00"),
    ),
    ("agents.odd.heartbeat", lambda: _envelope("agents.heartbeat", "another", {})),
    (
        "agents.odd.state_set",
        lambda: _envelope("agents.state_set", "odd", {"state_key": "k", "value": 1}),
    ),
    (
        "agents.odd.activity",
        lambda: _envelope("agents.activity", "odd", {"activity_type": "a\0b"}),
    ),
)


def broken(number: int) -> tuple[str, bytes]:
    """Subject and body of a message that cannot become rows; the kinds take turns."""
    subject, body = _BROKEN[number % len(_BROKEN)]
    return subject, body()
