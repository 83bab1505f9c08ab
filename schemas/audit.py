"""What others did and want to have on record. The key is what it was done to."""

from penstock.schemas.event import Address, Big, Digest, EventData, Json, Name, Text
from penstock.schemas.mapping import AuditLog, Field, event
from penstock.schemas.vocabulary import Title


@event(
    "audit.recorded",
    key="resource_id",
    history=AuditLog(
        Field("resource_type"),
        {
            "action": Field("action"),
            "old_values": Field("old"),
            "new_values": Field("new"),
            "ip": Field("ip"),
            "user_agent": Field("user_agent"),
            "session_id": Field("session_id"),
        },
    ),
)
class AuditRecorded(EventData, frozen=True, kw_only=True):
    """Somebody did something to a resource that is to be on record.

    The attribute ``actor`` says who. What was done to nothing in particular has the resource ``-``.
    """

    resource_id: Name
    action: Name
    resource_type: Name
    old: Json = None
    new: Json = None
    ip: Address | None = None
    user_agent: Title | None = None
    session_id: Text | None = None


@event("audit.sealed", key="partition", history=AuditLog("seal"))
class AuditSealed(EventData, frozen=True, kw_only=True):
    """Penstock sealed rows of the audit history, which are in ``partition`` of it.

    Whoever keeps the digest can tell later whether the history up to there has been changed:
    ``penstock audit verify --expect SEAL:DIGEST``.
    """

    partition: Name
    seal_id: Big
    rows: Big
    digest: Digest
