"""The roles of deploy/postgres. Workers under test have the least rights, as their users should."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from penstock.worker import migrate

SCRIPT = Path(__file__).parents[2] / "deploy" / "postgres" / "roles.sql"
OWNER, INGEST, READER, OPERATOR = (
    f"penstock_{name}" for name in ("owner", "ingest", "reader", "operator")
)
_PASSWORD = "pw"


def logged_in(dsn: str, role: str) -> str:
    """The same database, as ``role``."""
    given = urlsplit(dsn)
    hosts = given.netloc.rpartition("@")[2]
    return given._replace(netloc=f"{role}:{_PASSWORD}@{hosts}").geturl()


def of_worker(dsn: str) -> str:
    """How workers under test log in."""
    return logged_in(dsn, INGEST)


async def migrated_by_its_owner(dsn: str, packages: Sequence[str] = ()) -> None:
    """As docs/operations.md says: roles, migrations, and roles once more."""
    await make_roles(dsn)
    await migrate.up(logged_in(dsn, OWNER), packages=packages)
    await make_roles(dsn)


async def make_roles(dsn: str) -> None:
    """Run the script as a superuser, and let the roles log in."""
    roles = (OWNER, INGEST, READER, OPERATOR)
    passwords = [f"ALTER ROLE {role} PASSWORD '{_PASSWORD}'" for role in roles]
    await execute(dsn, SCRIPT.read_text(), *passwords)


async def execute(dsn: str, *statements: str) -> None:
    """Run statements one after the other."""
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
