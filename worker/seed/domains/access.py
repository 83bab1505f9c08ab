"""Roles, who has them, and keys for programs."""

from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256

from penstock.schemas.access import (
    AccessGranted,
    AccessRevoked,
    ApiKeyIssued,
    ApiKeyRevoked,
    ApiKeyUsed,
    RoleDefined,
)
from penstock.worker.seed.company import Company
from penstock.worker.seed.said import Said


def tell(company: Company) -> Iterator[Said]:
    """Two roles, of which one builds on the other; grants and keys, some taken back."""
    begun = company.since + timedelta(minutes=2)
    reader = RoleDefined(role_id="reader", name="reader", permissions=["tasks:read", "agents:read"])
    operator = RoleDefined(
        role_id="operator", name="operator", permissions=["tasks:write"], parent_role_id="reader"
    )
    for role in (reader, operator):
        yield Said(begun, role, "olga")
    for number, (person, role_id) in enumerate((("pavel", "operator"), ("quinn", "reader"))):
        grant = company.name("grant", number)
        granted = AccessGranted(
            grant_id=grant, account_id=person, role_id=role_id, granted_by="olga"
        )
        yield Said(begun + timedelta(seconds=10), granted, "olga")
    later = company.since + timedelta(days=company.days / 2)
    revoked = AccessRevoked(grant_id=company.name("grant", 1), reason="left the project")
    yield Said(later, revoked, "olga")
    for number, agent in enumerate(("radia", "ada")):
        yield from _key(company, number, agent)
    lost = ApiKeyRevoked(key_id=company.name("key", 1), reason="it was in a log")
    yield Said(later, lost, "olga")


def _key(company: Company, number: int, agent: str) -> Iterator[Said]:
    key, begun = company.name("key", number), company.since + timedelta(minutes=3)
    issued = ApiKeyIssued(
        key_id=key,
        agent_id=agent,
        name=f"key of {agent}",
        key_hash=sha256(key.encode()).hexdigest(),
        scopes=["events:publish"],
    )
    yield Said(begun, issued, "olga")
    for at in company.every(timedelta(hours=12)):
        yield Said(at + timedelta(minutes=5), ApiKeyUsed(key_id=key), agent)
