"""Workflows that run on a schedule: most runs succeed, the last one is still on its way."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from penstock.schemas.vocabulary import TaskStatus, WorkflowStatus
from penstock.schemas.workflows import (
    WorkflowDefined,
    WorkflowExecutionStarted,
    WorkflowExecutionUpdated,
)
from penstock.worker.seed.company import Company, happens
from penstock.worker.seed.said import Said

_WORKFLOWS = (
    ("release", "checkout", 9, 40),
    ("reindex", "search", 5, 25),
    ("invoice", "billing", 24, 90),
)
"""Name, project, hours between runs, minutes that a run takes."""


def tell(company: Company) -> Iterator[Said]:
    """The definitions, then every run."""
    random = company.random("workflows")
    for name, project, hours, minutes in _WORKFLOWS:
        defined = WorkflowDefined(
            workflow_id=name,
            name=name,
            kind="pipeline",
            definition={"steps": ["prepare", "run", "check"]},
            dependencies={"run": ["prepare"], "check": ["run"]},
            status=WorkflowStatus.ACTIVE,
            project_id=project,
            created_by="ada",
        )
        yield Said(company.since + timedelta(minutes=6), defined, "ada", project)
        for number, begun in enumerate(company.every(timedelta(hours=hours))):
            at = begun + timedelta(minutes=15)
            ended = at + timedelta(minutes=minutes * random.lognormvariate(0, 0.3))
            failed = happens(random, 0.12)
            for said in _run(company.name(name, number), name, number, at, ended, failed=failed):
                yield Said(said.at, said.event, said.actor, project)


def _run(
    execution: str, name: str, number: int, at: datetime, ended: datetime, *, failed: bool
) -> Iterator[Said]:
    started = WorkflowExecutionStarted(
        workflow_id=name,
        execution_id=execution,
        started_at=at,
        agent_id="radia",
        number=number + 1,
        context={"trigger": "schedule"},
        variables={"step": "prepare"},
        started_by="radia",
    )
    yield Said(at, started, "radia")
    status = TaskStatus.FAILED if failed else TaskStatus.COMPLETED
    updated = WorkflowExecutionUpdated(
        workflow_id=name,
        execution_id=execution,
        started_at=at,
        status=status,
        variables={"step": "check"},
        completed_at=ended,
        result=None if failed else {"artifacts": 3},
        error="the step `check` failed" if failed else None,
    )
    yield Said(ended, updated, "radia")
