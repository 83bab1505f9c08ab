"""Events about accounts: people and services that log in. The key is the account.

Passwords, second factors and tokens do not travel: see ``identity.credential``.
"""

from typing import Annotated

from msgspec import Meta

from penstock.schemas.event import Address, Event, EventData, Json, Moment, Name, Text
from penstock.schemas.identity import AccountId
from penstock.schemas.mapping import (
    KEY_TEXT,
    OCCURRED_AT,
    AuditLog,
    Computed,
    Field,
    Upsert,
    event,
)
from penstock.schemas.vocabulary import AccountStatus, AccountTier, LongText, Title

Failures = Annotated[int, Meta(ge=0, le=1)]

ACCOUNT = (
    "username",
    "email",
    "email_verified",
    "name",
    "status",
    "tier",
    "auth_provider",
    "github_id",
    "avatar_url",
    "metadata",
)
KEY = ("account_id",)
IDENTITY = {"external_id": KEY_TEXT}


def one_if_failed(e: Event) -> Failures:
    """Failed logins are counted; a success takes none back."""
    return 0 if e.data.success else 1


def time_if_success(e: Event) -> Moment | None:
    """When the account logged in."""
    return e.time if e.data.success else None


def time_if_failed(e: Event) -> Moment | None:
    """When somebody failed to log in."""
    return None if e.data.success else e.time


@event(
    "users.upserted",
    key="account_id",
    history=AuditLog("account"),
    states=(
        Upsert(
            table="identity.account",
            key=KEY,
            last=ACCOUNT,
            min=("registered_at",),
            once=("external_id",),
            values={**IDENTITY, "registered_at": OCCURRED_AT},
        ),
        Upsert(
            table="identity.account",
            key=KEY,
            last=("deleted_at",),
            guard="presence",
            once=("external_id",),
            values=IDENTITY,
        ),
    ),
)
class UserUpserted(EventData, frozen=True, kw_only=True):
    """An account, stated as a whole; one that was deleted is back."""

    account_id: AccountId
    email: Name
    email_verified: bool = False
    username: Text | None = None
    name: Text | None = None
    status: AccountStatus = AccountStatus.ACTIVE
    tier: AccountTier = AccountTier.FREE
    auth_provider: Text = "local"
    github_id: Text | None = None
    avatar_url: Title | None = None
    metadata: Json = None


@event(
    "users.deleted",
    key="account_id",
    history=AuditLog("account"),
    states=(
        Upsert(
            table="identity.account",
            key=KEY,
            last=("deleted_at",),
            guard="presence",
            once=("external_id",),
            values={**IDENTITY, "deleted_at": OCCURRED_AT},
        ),
    ),
)
class UserDeleted(EventData, frozen=True, kw_only=True):
    """An account is gone, and its grants with it; its row stays."""

    account_id: AccountId
    reason: LongText | None = None


@event(
    "users.login_recorded",
    key="account_id",
    history=AuditLog("account", {"ip": Field("ip")}),
    states=(
        Upsert(
            table="identity.account",
            key=KEY,
            add=("failed_logins",),
            max=("last_login", "last_failed_login"),
            once=("external_id",),
            values={
                **IDENTITY,
                "failed_logins": Computed(one_if_failed),
                "last_login": Computed(time_if_success),
                "last_failed_login": Computed(time_if_failed),
            },
        ),
    ),
)
class UserLoginRecorded(EventData, frozen=True, kw_only=True):
    """Somebody logged in, or failed to."""

    account_id: AccountId
    success: bool
    ip: Address | None = None


@event(
    "users.lock_set",
    key="account_id",
    history=AuditLog("account"),
    states=(
        Upsert(
            table="identity.account",
            key=KEY,
            last=("locked", "lock_reason"),
            guard="lock",
            once=("external_id",),
            values={**IDENTITY, "lock_reason": Field("reason")},
        ),
    ),
)
class UserLockSet(EventData, frozen=True, kw_only=True):
    """An account may no longer log in, or may again."""

    account_id: AccountId
    locked: bool
    reason: LongText | None = None
