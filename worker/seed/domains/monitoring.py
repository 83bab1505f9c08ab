"""What the disks say, and an alert that came of it and is over."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from penstock.schemas.monitoring import AlertRaised, AlertResolved
from penstock.schemas.telemetry import MetricsRecorded, Sample
from penstock.schemas.vocabulary import MetricScope
from penstock.worker.seed.company import Company
from penstock.worker.seed.said import Said

METRIC = "disk_usage_percent"
_WARNING = 80.0


def tell(company: Company) -> Iterator[Said]:
    """Samples of two hosts each hour. One was full on the first day, the other is now."""
    hours = company.days * 24
    for number, at in enumerate(company.every(timedelta(hours=1))):
        yield _disk(at, "db-1", 60 + 32 * number / hours)
        yield _disk(at, "db-2", 84.0 if number in {5, 6} else 41.0)
    raised = company.since + timedelta(hours=5, minutes=4)
    thing = 'db-2 {"disk": "/"}'
    alert = AlertRaised(metric=METRIC, level="warning", value=84.0, threshold=_WARNING, thing=thing)
    yield Said(raised, alert, "penstock")
    resolved = AlertResolved(metric=METRIC, value=41.0, thing=thing)
    yield Said(raised + timedelta(hours=3), resolved, "penstock")


def _disk(at: datetime, host: str, used: float) -> Said:
    samples = [Sample(name=METRIC, value=round(used, 1), unit="percent", tags={"disk": "/"})]
    recorded = MetricsRecorded(entity=host, scope=MetricScope.SYSTEM, samples=samples)
    return Said(at, recorded, "radia")
