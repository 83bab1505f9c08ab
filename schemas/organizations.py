"""Events about organizations and projects, and who belongs to them. The key is one of these."""

from typing import Annotated

from msgspec import Meta

from penstock.schemas.event import EventData, Json, Text
from penstock.schemas.identity import AccountId, OrganizationId, ProjectId
from penstock.schemas.mapping import KEY_TEXT, OCCURRED_AT, AuditLog, Ref, Upsert, event
from penstock.schemas.vocabulary import AccountTier, LongText, MemberRole, Title

Permissions = Annotated[list[Text], Meta(max_length=1000)]

ORGANIZATION = ("slug", "name", "tier", "settings")
PROJECT = (
    "organization_id",
    "slug",
    "name",
    "description",
    "repository_url",
    "github_repo_id",
    "settings",
)
MEMBER = ("role", "permissions", "added_by", "removed_at")

IDENTITY = {"external_id": KEY_TEXT}
REMOVED = {"removed_at": OCCURRED_AT}
ORGANIZATION_KEY = ("organization_id",)
PROJECT_KEY = ("project_id",)

MEMBER_OF_ORGANIZATION = (
    Ref("organization_id", "identity.organization"),
    Ref("account_id", "identity.account"),
)
MEMBER_OF_PROJECT = (
    Ref("project_id", "identity.project"),
    Ref("account_id", "identity.account"),
)


@event(
    "orgs.upserted",
    key="organization_id",
    history=AuditLog("organization"),
    states=(
        Upsert(
            table="identity.organization",
            key=ORGANIZATION_KEY,
            last=ORGANIZATION,
            min=("registered_at",),
            once=("external_id",),
            values={**IDENTITY, "registered_at": OCCURRED_AT},
        ),
        Upsert(
            table="identity.organization",
            key=ORGANIZATION_KEY,
            last=("deleted_at",),
            guard="presence",
            once=("external_id",),
            values=IDENTITY,
        ),
    ),
)
class OrganizationUpserted(EventData, frozen=True, kw_only=True):
    """An organization, stated as a whole; one that was deleted is back."""

    organization_id: OrganizationId
    slug: Text
    name: Text
    tier: AccountTier = AccountTier.FREE
    settings: Json = None


@event(
    "orgs.deleted",
    key="organization_id",
    history=AuditLog("organization"),
    states=(
        Upsert(
            table="identity.organization",
            key=ORGANIZATION_KEY,
            last=("deleted_at",),
            guard="presence",
            once=("external_id",),
            values={**IDENTITY, "deleted_at": OCCURRED_AT},
        ),
    ),
)
class OrganizationDeleted(EventData, frozen=True, kw_only=True):
    """An organization is gone; its row stays."""

    organization_id: OrganizationId
    reason: LongText | None = None


@event(
    "orgs.member_set",
    key="organization_id",
    history=AuditLog("member"),
    states=(
        Upsert(
            table="identity.organization_member",
            key=("organization_id", "account_id"),
            last=MEMBER,
        ),
    ),
    refs=MEMBER_OF_ORGANIZATION,
)
class OrganizationMemberSet(EventData, frozen=True, kw_only=True):
    """An account belongs to an organization, or is something else there than before."""

    organization_id: OrganizationId
    account_id: AccountId
    role: MemberRole = MemberRole.MEMBER
    permissions: Permissions | None = None
    added_by: Text | None = None


@event(
    "orgs.member_removed",
    key="organization_id",
    history=AuditLog("member"),
    states=(
        Upsert(
            table="identity.organization_member",
            key=("organization_id", "account_id"),
            last=MEMBER,
            values=REMOVED,
        ),
    ),
    refs=MEMBER_OF_ORGANIZATION,
)
class OrganizationMemberRemoved(EventData, frozen=True, kw_only=True):
    """An account no longer belongs to an organization."""

    organization_id: OrganizationId
    account_id: AccountId


@event(
    "projects.upserted",
    key="project_id",
    history=AuditLog("project"),
    states=(
        Upsert(
            table="identity.project",
            key=PROJECT_KEY,
            first=("created_by",),
            last=PROJECT,
            once=("external_id",),
            values=IDENTITY,
        ),
        Upsert(
            table="identity.project",
            key=PROJECT_KEY,
            last=("archived_at",),
            guard="presence",
            once=("external_id",),
            values=IDENTITY,
        ),
    ),
    refs=(Ref("organization_id", "identity.organization"),),
)
class ProjectUpserted(EventData, frozen=True, kw_only=True):
    """A project, stated as a whole; one that was archived is back.

    It is what the attribute ``project`` of events names.
    """

    project_id: ProjectId
    slug: Text
    name: Text
    organization_id: OrganizationId | None = None
    description: LongText | None = None
    repository_url: Title | None = None
    github_repo_id: Text | None = None
    settings: Json = None
    created_by: Text | None = None


@event(
    "projects.archived",
    key="project_id",
    history=AuditLog("project"),
    states=(
        Upsert(
            table="identity.project",
            key=PROJECT_KEY,
            last=("archived_at",),
            guard="presence",
            once=("external_id",),
            values={**IDENTITY, "archived_at": OCCURRED_AT},
        ),
    ),
)
class ProjectArchived(EventData, frozen=True, kw_only=True):
    """A project is no longer worked on; its row stays."""

    project_id: ProjectId
    reason: LongText | None = None


@event(
    "projects.member_set",
    key="project_id",
    history=AuditLog("member"),
    states=(
        Upsert(table="identity.project_member", key=("project_id", "account_id"), last=MEMBER),
    ),
    refs=MEMBER_OF_PROJECT,
)
class ProjectMemberSet(EventData, frozen=True, kw_only=True):
    """An account works in a project, or is something else there than before."""

    project_id: ProjectId
    account_id: AccountId
    role: MemberRole = MemberRole.DEVELOPER
    permissions: Permissions | None = None
    added_by: Text | None = None


@event(
    "projects.member_removed",
    key="project_id",
    history=AuditLog("member"),
    states=(
        Upsert(
            table="identity.project_member",
            key=("project_id", "account_id"),
            last=MEMBER,
            values=REMOVED,
        ),
    ),
    refs=MEMBER_OF_PROJECT,
)
class ProjectMemberRemoved(EventData, frozen=True, kw_only=True):
    """An account no longer works in a project."""

    project_id: ProjectId
    account_id: AccountId
