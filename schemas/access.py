"""Events about what accounts and agents may do. The key is the role, the grant, or the API key."""

from typing import Annotated

from msgspec import Meta

from penstock.schemas.event import Digest, Event, EventData, Moment, Text
from penstock.schemas.identity import AccountId, AgentId, ApiKeyId, GrantId, RoleId
from penstock.schemas.mapping import (
    KEY_TEXT,
    OCCURRED_AT,
    AuditLog,
    Computed,
    Ref,
    Upsert,
    event,
)
from penstock.schemas.rows import FIRST, LAST
from penstock.schemas.vocabulary import LongText

Permission = Annotated[
    str, Meta(pattern="^[A-Za-z0-9_.*/-]+:[A-Za-z0-9_.*/-]+$", min_length=3, max_length=255)
]
"""``resource:action``, such as ``tasks:delete``."""

Permissions = Annotated[list[Permission], Meta(max_length=1000)]
Scopes = Annotated[list[Text], Meta(max_length=1000)]

ROLE = ("name", "description", "parent_role_id", "permissions", "is_system")
GRANT = (
    "account_id",
    "agent_id",
    "role_id",
    "permission",
    "resource_type",
    "resource_id",
    "granted_by",
    "expires_at",
)
API_KEY = ("account_id", "agent_id", "name", "key_hash", "scopes", "expires_at")

IDENTITY = {"external_id": KEY_TEXT}
REVOKED = {**IDENTITY, "revoked_at": OCCURRED_AT}
HOLDER = (Ref("account_id", "identity.account"), Ref("agent_id", "agents.agent"))


def check_holder(account_id: str | None, agent_id: str | None) -> None:
    """Raise ValueError unless there is exactly one."""
    if (account_id is None) == (agent_id is None):
        raise ValueError(
            f"account_id is {account_id!r} and agent_id is {agent_id!r}; state one of them, whose "
            "it is"
        )


def at_or_time(e: Event) -> Moment:
    """When the key was used. The ends of the calendar say nothing."""
    said: Moment | None = e.data.at
    return said if said is not None and FIRST < said < LAST else e.time


@event(
    "access.role_defined",
    key="role_id",
    history=AuditLog("role"),
    states=(
        Upsert(
            table="identity.role",
            key=("role_id",),
            last=ROLE,
            min=("registered_at",),
            once=("external_id",),
            values={**IDENTITY, "registered_at": OCCURRED_AT},
        ),
    ),
    refs=(Ref("parent_role_id", "identity.role"),),
)
class RoleDefined(EventData, frozen=True, kw_only=True):
    """A role, stated as a whole; it also has the permissions of its parent and of the parent's.

    Roles that are each other's parents have the permissions of all of them.
    """

    role_id: RoleId
    name: Text
    permissions: Permissions
    description: LongText | None = None
    parent_role_id: RoleId | None = None
    is_system: bool = False


@event(
    "access.granted",
    key="grant_id",
    history=AuditLog("grant"),
    states=(
        Upsert(
            table="identity.grant",
            key=("grant_id",),
            first=GRANT,
            once=("external_id",),
            values=IDENTITY,
        ),
    ),
    refs=(*HOLDER, Ref("role_id", "identity.role")),
)
class AccessGranted(EventData, frozen=True, kw_only=True):
    """An account or an agent was given a role, or one permission.

    With ``resource_type`` and ``resource_id`` it is limited to that. What is to change is revoked,
    and granted anew under another id.
    """

    grant_id: GrantId
    account_id: AccountId | None = None
    agent_id: AgentId | None = None
    role_id: RoleId | None = None
    permission: Permission | None = None
    resource_type: Text | None = None
    resource_id: Text | None = None
    granted_by: Text | None = None
    expires_at: Moment | None = None

    def __post_init__(self) -> None:
        check_holder(self.account_id, self.agent_id)
        if (self.role_id is None) == (self.permission is None):
            raise ValueError(
                f"role_id is {self.role_id!r} and permission is {self.permission!r}; grant one"
            )


@event(
    "access.revoked",
    key="grant_id",
    history=AuditLog("grant"),
    states=(
        Upsert(
            table="identity.grant",
            key=("grant_id",),
            min=("revoked_at",),
            once=("external_id",),
            values=REVOKED,
        ),
    ),
)
class AccessRevoked(EventData, frozen=True, kw_only=True):
    """A grant holds no more, for good."""

    grant_id: GrantId
    reason: LongText | None = None


@event(
    "apikeys.issued",
    key="key_id",
    history=AuditLog("api_key"),
    states=(
        Upsert(
            table="identity.api_key",
            key=("key_id",),
            first=API_KEY,
            once=("external_id",),
            values=IDENTITY,
        ),
    ),
    refs=HOLDER,
)
class ApiKeyIssued(EventData, frozen=True, kw_only=True):
    """An account or an agent got an API key, of which only the SHA-256 travels."""

    key_id: ApiKeyId
    name: Text
    key_hash: Digest
    account_id: AccountId | None = None
    agent_id: AgentId | None = None
    scopes: Scopes | None = None
    expires_at: Moment | None = None

    def __post_init__(self) -> None:
        check_holder(self.account_id, self.agent_id)


@event(
    "apikeys.revoked",
    key="key_id",
    history=AuditLog("api_key"),
    states=(
        Upsert(
            table="identity.api_key",
            key=("key_id",),
            min=("revoked_at",),
            once=("external_id",),
            values=REVOKED,
        ),
    ),
)
class ApiKeyRevoked(EventData, frozen=True, kw_only=True):
    """An API key is good no more, for good."""

    key_id: ApiKeyId
    reason: LongText | None = None


@event(
    "apikeys.used",
    key="key_id",
    states=(
        Upsert(
            table="identity.api_key",
            key=("key_id",),
            max=("last_used",),
            once=("external_id",),
            values={**IDENTITY, "last_used": Computed(at_or_time)},
        ),
    ),
)
class ApiKeyUsed(EventData, frozen=True, kw_only=True):
    """An API key was used, at ``at`` or now; no history has each use."""

    key_id: ApiKeyId
    at: Moment | None = None
