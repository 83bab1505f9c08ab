"""What people did that is to be on record."""

from collections.abc import Iterator
from datetime import timedelta

from penstock.schemas.audit import AuditRecorded
from penstock.worker.seed.company import Company
from penstock.worker.seed.said import Said


def tell(company: Company) -> Iterator[Said]:
    """An export every day, and one change of a rule."""
    for at in company.every(timedelta(days=1)):
        exported = AuditRecorded(
            resource_id="tasks", resource_type="report", action="export", ip="192.0.2.10"
        )
        yield Said(at + timedelta(hours=7), exported, "olga")
    changed = AuditRecorded(
        resource_id="retention",
        resource_type="policy",
        action="update",
        old={"days": 90},
        new={"days": 120},
        ip="192.0.2.11",
    )
    yield Said(company.since + timedelta(hours=30), changed, "pavel")
