"""People who log in, one who cannot any more, and one who is gone."""

from collections.abc import Iterator
from datetime import timedelta

from penstock.schemas.accounts import UserDeleted, UserLockSet, UserLoginRecorded, UserUpserted
from penstock.schemas.vocabulary import AccountTier
from penstock.worker.seed.company import Company, happens
from penstock.worker.seed.said import Said

_PEOPLE = ("olga", "pavel", "quinn", "rosa")


def tell(company: Company) -> Iterator[Said]:
    """Accounts, and a login of each every eight hours, of which some fail."""
    random = company.random("accounts")
    for number, person in enumerate(_PEOPLE):
        upserted = UserUpserted(
            account_id=person,
            username=person,
            email=f"{person}@example.com",
            email_verified=True,
            name=person.title(),
            tier=AccountTier.PRO,
        )
        yield Said(company.since, upserted, person)
        for at in company.every(timedelta(hours=8)):
            login = UserLoginRecorded(
                account_id=person, success=not happens(random, 0.1), ip=f"192.0.2.{10 + number}"
            )
            yield Said(at + timedelta(minutes=random.uniform(1, 90)), login, person)
    later = company.since + timedelta(days=company.days / 2)
    locked = UserLockSet(account_id="quinn", locked=True, reason="too many failures")
    yield Said(later, locked, "olga")
    deleted = UserDeleted(account_id="rosa", reason="left the company")
    yield Said(later + timedelta(hours=3), deleted, "olga")
