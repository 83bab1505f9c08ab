"""What is measured: samples, errors with a storm of them, health, and requests."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from penstock.schemas.telemetry import (
    ErrorRaised,
    ErrorResolved,
    HealthChecked,
    MetricsRecorded,
    RequestLogged,
    Sample,
)
from penstock.schemas.vocabulary import HealthStatus, MetricKind, MetricScope, Severity
from penstock.worker.seed.company import Company, happens
from penstock.worker.seed.said import Said

_STORM = 40
_ERRORS_A_DAY = 6
_REQUESTS_A_DAY = 60
_KINDS = ("TimeoutError", "ConnectionResetError", "ValidationError")


def tell(company: Company) -> Iterator[Said]:
    """Samples each hour, requests, errors now and then, and one bad hour two days ago."""
    random = company.random("telemetry")
    for at in company.every(timedelta(hours=1)):
        yield from _measured(company, at + timedelta(minutes=2), random)
    for _ in range(_REQUESTS_A_DAY * company.days):
        yield _request(company.moment(random), random)
    for number in range(_ERRORS_A_DAY * company.days):
        yield from _error(company, number, company.moment(random), random.choice(_KINDS))
    storm = company.until - timedelta(days=company.days / 4)
    for number in range(_STORM):
        at = storm + timedelta(seconds=20 * number)
        yield from _error(company, 10_000 + number, at, "ConnectionResetError")


def _measured(company: Company, at: datetime, random: Random) -> Iterator[Said]:
    for project in company.projects:
        samples = [
            Sample(name="cpu", value=round(random.betavariate(2, 3), 3), unit="cores"),
            Sample(name="usd", value=round(random.uniform(0.1, 2), 3), kind=MetricKind.COUNTER),
            Sample(name="queue", value=float(random.randint(0, 30)), tags={"zone": "a"}),
        ]
        recorded = MetricsRecorded(entity=project, scope=MetricScope.SYSTEM, samples=samples)
        yield Said(at, recorded, "radia", project)
        slow = happens(random, 0.04)
        checked = HealthChecked(
            subject=project,
            name="http",
            status=HealthStatus.DEGRADED if slow else HealthStatus.HEALTHY,
            response_ms=random.randint(900, 3000) if slow else random.randint(3, 90),
        )
        yield Said(at + timedelta(seconds=1), checked, "radia", project)


def _request(at: datetime, random: Random) -> Said:
    logged = RequestLogged(
        service="api",
        method="GET",
        path=random.choice(("/tasks", "/agents", "/search")),
        status=random.choices((200, 404, 500), (93, 5, 2))[0],
        duration_ms=int(random.lognormvariate(3, 0.9)),
        account_id=random.choice(("olga", "pavel")),
        ip="192.0.2.10",
    )
    return Said(at, logged, "radia")


def _error(company: Company, number: int, at: datetime, kind: str) -> Iterator[Said]:
    source = company.projects[number % len(company.projects)]
    error = company.name("error", number)
    raised = ErrorRaised(
        source=source,
        error_id=error,
        raised_at=at,
        kind=kind,
        message=f"{kind} in {source}",
        severity=Severity.HIGH if kind == "ConnectionResetError" else Severity.MEDIUM,
    )
    yield Said(at, raised, "radia", source)
    if number % 3:
        over = at + timedelta(minutes=40)
        resolved = ErrorResolved(
            source=source, error_id=error, raised_at=at, resolved_by="radia", resolution="restarted"
        )
        yield Said(over, resolved, "radia", source)
