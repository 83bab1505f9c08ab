"""The organization, its projects, and who works in them; one project is archived."""

from collections.abc import Iterator
from datetime import timedelta

from penstock.schemas.organizations import (
    OrganizationDeleted,
    OrganizationMemberRemoved,
    OrganizationMemberSet,
    OrganizationUpserted,
    ProjectArchived,
    ProjectMemberRemoved,
    ProjectMemberSet,
    ProjectUpserted,
)
from penstock.schemas.vocabulary import AccountTier, MemberRole
from penstock.worker.seed.company import Company
from penstock.worker.seed.said import Said

_PEOPLE = (("olga", MemberRole.OWNER), ("pavel", MemberRole.ADMIN), ("quinn", MemberRole.DEVELOPER))


def tell(company: Company) -> Iterator[Said]:
    """It is set up on the first day; later somebody leaves, and what was tried is given up."""
    begun = company.since + timedelta(minutes=1)
    for name in ("acme", "skunkworks"):
        upserted = OrganizationUpserted(
            organization_id=name, slug=name, name=name.title(), tier=AccountTier.PRO
        )
        yield Said(begun, upserted, "olga")
    for person, role in _PEOPLE:
        joined = OrganizationMemberSet(organization_id="acme", account_id=person, role=role)
        yield Said(begun + timedelta(seconds=10), joined, "olga")
    for project in (*company.projects, "prototype"):
        yield from _project(company, project)
    later = company.since + timedelta(days=company.days / 2)
    left = ProjectMemberRemoved(project_id="billing", account_id="quinn")
    yield Said(later, left, "olga", "billing")
    archived = ProjectArchived(project_id="prototype", reason="nobody wanted it")
    yield Said(later, archived, "olga", "prototype")
    gone = OrganizationMemberRemoved(organization_id="acme", account_id="quinn")
    yield Said(later + timedelta(hours=1), gone, "olga")
    closed = OrganizationDeleted(organization_id="skunkworks", reason="merged into acme")
    yield Said(later + timedelta(hours=2), closed, "olga")


def _project(company: Company, project: str) -> Iterator[Said]:
    at = company.since + timedelta(minutes=1, seconds=20)
    upserted = ProjectUpserted(
        project_id=project,
        organization_id="acme",
        slug=project,
        name=project.title(),
        description=f"The {project} of Acme",
        repository_url=f"https://example.com/acme/{project}",
        created_by="olga",
    )
    yield Said(at, upserted, "olga", project)
    for person, role in _PEOPLE:
        works = ProjectMemberSet(project_id=project, account_id=person, role=role)
        yield Said(at + timedelta(seconds=5), works, "olga", project)
