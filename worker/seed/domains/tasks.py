"""Tasks are put up, tried, ended, and wait for each other."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from random import Random

from penstock.schemas.tasks import (
    TaskCreated,
    TaskDeleted,
    TaskDependencyRemoved,
    TaskDependencySet,
    TaskExecutionFinished,
    TaskExecutionStarted,
    TaskUpdated,
)
from penstock.schemas.vocabulary import TaskStatus, TddPhase
from penstock.worker.seed.company import Company, Task, happens
from penstock.worker.seed.said import Said

_SECOND = timedelta(seconds=1)


def tell(company: Company) -> Iterator[Said]:
    """Every task, and which wait for which."""
    random = company.random("tasks")
    for task in company.tasks:
        yield from _ordered(task, random)
        yield from _worked(task, random)
    yield from _waiting(company, random)
    withdrawn = company.tasks[-1]
    deleted = TaskDeleted(task_id=withdrawn.id, reason="no longer wanted")
    yield Said(withdrawn.ended + timedelta(hours=1), deleted, "ada", withdrawn.project)


def _ordered(task: Task, random: Random) -> Iterator[Said]:
    created = TaskCreated(
        task_id=task.id,
        task_type=task.kind,
        title=task.title,
        project_id=task.project,
        created_by="ada",
        payload={"repository": f"example/{task.project}"},
        tags=[task.kind, task.project],
        priority=task.priority,
        deadline=task.created + timedelta(hours=random.choice((1, 4, 8, 24))),
        max_retries=3,
    )
    yield Said(task.created, created, "ada", task.project)


def _worked(task: Task, random: Random) -> Iterator[Said]:
    """Attempts of equal length, of which all but the last failed."""
    length = (task.ended - task.started) / task.attempts
    running = TaskUpdated(
        task_id=task.id,
        status=TaskStatus.RUNNING,
        priority=task.priority,
        assigned_to=task.agent.id,
        started_at=task.started,
        tdd_phase=TddPhase.RED if task.kind == "implement" else None,
    )
    yield Said(task.started, running, task.agent.id, task.project)
    for attempt in range(1, task.attempts + 1):
        yield from _attempted(task, attempt, length, random)
    completed = task.status is TaskStatus.COMPLETED
    done = TaskUpdated(
        task_id=task.id,
        status=task.status,
        priority=task.priority,
        assigned_to=task.agent.id,
        completed_at=task.ended,
        retry_count=task.attempts - 1,
        result={"usd": task.usd, "files": random.randint(1, 9)} if completed else {"usd": task.usd},
        error=None if completed else "the tests did not pass",
        quality_score=task.quality,
        tdd_phase=TddPhase.GREEN if task.kind == "implement" and completed else None,
    )
    yield Said(task.ended, done, task.agent.id, task.project)


def _attempted(task: Task, attempt: int, length: timedelta, random: Random) -> Iterator[Said]:
    begun = task.started + (attempt - 1) * length
    started = TaskExecutionStarted(
        task_id=task.id,
        execution_id=f"{task.id}-{attempt}",
        started_at=begun,
        agent_id=task.agent.id,
        attempt=attempt,
    )
    yield Said(begun, started, task.agent.id, task.project)
    status = task.status if attempt == task.attempts else TaskStatus.FAILED
    finished = TaskExecutionFinished(
        task_id=task.id,
        execution_id=f"{task.id}-{attempt}",
        started_at=begun,
        status=status,
        completed_at=begun + length,
        error=None if status is TaskStatus.COMPLETED else random.choice(_ERRORS),
        cpu_ms=int(length.total_seconds() * random.uniform(80, 400)),
        mem_peak_mb=random.randint(120, 1900),
        io_ops=random.randint(200, 90_000),
    )
    yield Said(begun + length, finished, task.agent.id, task.project)


_ERRORS = ("the tests did not pass", "timeout", "the tool gave no answer", "out of context")


def _waiting(company: Company, random: Random) -> Iterator[Said]:
    """Some tasks of a project wait for the one before them; one of these no longer."""
    for project in company.projects:
        own = sorted((t for t in company.tasks if t.project == project), key=lambda t: t.created)
        for number, (before, after) in enumerate(pairwise(own)):
            if after.started > company.until or happens(random, 0.35):
                waits = TaskDependencySet(task_id=after.id, depends_on=before.id)
                yield Said(after.created + _SECOND, waits, "ada", project)
                if number % 10 == 0 and after.started < company.until:
                    free = TaskDependencyRemoved(task_id=after.id, depends_on=before.id)
                    yield Said(after.created + 60 * _SECOND, free, "ada", project)
