"""Sessions of people: one a day each, closed in the evening; the last ones are open."""

from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256

from penstock.schemas.sessions import SessionClosed, SessionOpened, SessionTouched
from penstock.worker.seed.company import Company
from penstock.worker.seed.said import Said

_PEOPLE = ("olga", "pavel")
_LASTS = timedelta(hours=9)


def tell(company: Company) -> Iterator[Said]:
    """Opened, used, closed."""
    for day, begun in enumerate(company.every(timedelta(days=1))):
        for number, person in enumerate(_PEOPLE):
            token = sha256(company.name(f"session-{person}", day).encode()).hexdigest()
            at = begun - timedelta(minutes=30) if day else begun + timedelta(minutes=5)
            opened = SessionOpened(
                token_hash=token,
                account_id=person,
                expires_at=at + timedelta(hours=12),
                data={"theme": "dark"},
                ip=f"192.0.2.{10 + number}",
                user_agent="Example/1.0",
            )
            yield Said(at, opened, person)
            used = SessionTouched(token_hash=token)
            yield Said(at + timedelta(minutes=20), used, person)
            closed = SessionClosed(token_hash=token, reason="logged out")
            yield Said(at + _LASTS, closed, person)
