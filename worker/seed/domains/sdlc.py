"""Repositories as GitHub shows them, and what the tests say: one of them is flaky."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from penstock.schemas.sdlc import (
    CoverageReported,
    IssueSynced,
    PullRequestSynced,
    RepositorySynced,
    ResultsReported,
    SuiteFinished,
    TestResult,
)
from penstock.schemas.vocabulary import TaskStatus, TestStatus
from penstock.worker.seed.company import Company, Task, happens
from penstock.worker.seed.said import Said

_TESTS = ("test_pays_once", "test_refunds", "test_survives_a_restart", "test_speaks_german")
_FLAKY = "test_survives_a_restart"


def tell(company: Company) -> Iterator[Said]:
    """A repository a project, a pull request and a run of the tests for what was implemented."""
    random = company.random("sdlc")
    for number, project in enumerate(company.projects):
        repository = RepositorySynced(
            repository_id=f"acme/{project}",
            github_id=f"{1000 + number}",
            owner="acme",
            name=project,
            full_name=f"acme/{project}",
            project_id=project,
        )
        yield Said(company.since + timedelta(minutes=7), repository, "radia", project)
    done = [task for task in company.tasks if task.kind == "implement"]
    for number, task in enumerate(sorted(done, key=lambda task: task.created), 1):
        yield from _reviewed(task, number)
        yield from _tested(company, task, number, random)


def _reviewed(task: Task, number: int) -> Iterator[Said]:
    """An issue when it was put up, a pull request, and both closed at the end."""
    repository, merged = f"acme/{task.project}", task.status is TaskStatus.COMPLETED
    for at, ended in ((task.started, None), (task.ended, task.ended)):
        issue = IssueSynced(
            repository_id=repository,
            number=2 * number,
            github_id=f"{20_000 + number}",
            title=task.title,
            state="open" if ended is None else "closed",
            source_updated_at=at,
            opened_at=task.created,
            closed_at=ended,
        )
        yield Said(at + timedelta(seconds=30), issue, "radia", task.project)
        request = PullRequestSynced(
            repository_id=repository,
            number=2 * number + 1,
            github_id=f"{30_000 + number}",
            title=task.title,
            state="open" if ended is None else "closed",
            source_updated_at=at,
            head_ref=f"task-{number}",
            base_ref="main",
            merged=merged and ended is not None,
            created_by=task.agent.id,
            opened_at=task.started,
            merged_at=ended if merged else None,
            closed_at=ended,
        )
        yield Said(at + timedelta(seconds=40), request, "radia", task.project)


def _tested(company: Company, task: Task, number: int, random: Random) -> Iterator[Said]:
    suite, at = company.name("suite", number), task.ended
    results = [_result(name, task, random) for name in _TESTS]
    failed = sum(result.status is TestStatus.FAILED for result in results)
    finished = SuiteFinished(
        suite_id=suite,
        name="unit",
        framework="pytest",
        executed_at=at,
        duration_ms=sum(result.duration_ms or 0 for result in results),
        total=len(results),
        passed=len(results) - failed,
        failed=failed,
        project_id=task.project,
        task_id=task.id,
    )
    yield Said(at + timedelta(seconds=1), finished, task.agent.id, task.project)
    reported = ResultsReported(suite_id=suite, executed_at=at, results=results)
    yield Said(at + timedelta(seconds=2), reported, task.agent.id, task.project)
    yield Said(at + timedelta(seconds=3), _coverage(company, task, number, at), task.agent.id)


def _result(name: str, task: Task, random: Random) -> TestResult:
    broken = task.status is TaskStatus.FAILED and name == _TESTS[0]
    failed = broken or (name == _FLAKY and happens(random, 0.3))
    return TestResult(
        path=f"tests/test_{task.project}.py",
        name=name,
        status=TestStatus.FAILED if failed else TestStatus.PASSED,
        duration_ms=random.randint(5, 900),
        error="AssertionError" if failed else None,
    )


def _coverage(company: Company, task: Task, number: int, at: datetime) -> CoverageReported:
    grown = (at - company.since) / (company.until - company.since)
    return CoverageReported(
        coverage_id=company.name("coverage", number),
        project_id=task.project,
        suite_id=company.name("suite", number),
        commit_sha=f"{number:040x}",
        line_pct=round(70 + 10 * grown, 2),
        branch_pct=round(60 + 10 * grown, 2),
    )
