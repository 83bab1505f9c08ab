"""Events about sessions. The key is the SHA-256 of the token, so one token is one session.

Open ones are mirrored into the bucket SESSION_DATA, so that whoever is shown a token finds what it
stands for without a query.
"""

from typing import Annotated

from msgspec import Meta

from penstock.schemas.access import HOLDER, check_holder
from penstock.schemas.event import Address, Digest, EventData, Json, Moment, Text
from penstock.schemas.identity import AccountId, AgentId
from penstock.schemas.mapping import OCCURRED_AT, AuditLog, Field, Hydrate, Upsert, event
from penstock.schemas.vocabulary import LongText, SessionKind, Title

SESSION = (
    "account_id",
    "agent_id",
    "kind",
    "data",
    "preferences",
    "permissions",
    "ip",
    "user_agent",
    "expires_at",
)
KEY = ("token_hash",)
BUCKET = (Hydrate("identity.kv", KEY, bucket="SESSION_DATA"),)


@event(
    "sessions.opened",
    key="token_hash",
    history=AuditLog("session", {"ip": Field("ip"), "user_agent": Field("user_agent")}),
    states=(
        Upsert(
            table="identity.session",
            key=KEY,
            last=SESSION,
            min=("opened_at",),
            max=("last_activity",),
            values={"opened_at": OCCURRED_AT, "last_activity": OCCURRED_AT},
        ),
    ),
    refs=HOLDER,
    kv=BUCKET,
)
class SessionOpened(EventData, frozen=True, kw_only=True):
    """A session of an account or an agent began, or its data changed; it is stated as a whole.

    ``data`` and ``permissions`` are for whoever is shown the token. A session that was closed stays
    closed.
    """

    token_hash: Digest
    expires_at: Moment
    account_id: AccountId | None = None
    agent_id: AgentId | None = None
    kind: SessionKind = SessionKind.INTERACTIVE
    data: Json = None
    preferences: Json = None
    permissions: Annotated[list[Text], Meta(max_length=1000)] | None = None
    ip: Address | None = None
    user_agent: Title | None = None

    def __post_init__(self) -> None:
        check_holder(self.account_id, self.agent_id)


@event(
    "sessions.touched",
    key="token_hash",
    states=(
        Upsert(
            table="identity.session",
            key=KEY,
            max=("last_activity",),
            values={"last_activity": OCCURRED_AT},
        ),
    ),
)
class SessionTouched(EventData, frozen=True, kw_only=True):
    """A session was used; no history has each use."""

    token_hash: Digest


@event(
    "sessions.closed",
    key="token_hash",
    history=AuditLog("session"),
    states=(
        Upsert(
            table="identity.session",
            key=KEY,
            min=("closed_at",),
            values={"closed_at": OCCURRED_AT},
        ),
    ),
    kv=BUCKET,
)
class SessionClosed(EventData, frozen=True, kw_only=True):
    """A session ended, for good."""

    token_hash: Digest
    reason: LongText | None = None
