"""The roles of deploy/postgres; workers under test use them where PENSTOCK_TEST_ROLES is set."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from penstock.worker import migrate

_SWITCH = "PENSTOCK_TEST_ROLES"
SCRIPT = Path(__file__).parents[2] / "deploy" / "postgres" / "roles.sql"
OWNER, INGEST, READER, OPERATOR = (
    f"penstock_{name}" for name in ("owner", "ingest", "reader", "operator")
)
_PASSWORD = "pw"


def logged_in(dsn: str, role: str) -> str:
    """The same database, as ``role``."""
    given = urlsplit(dsn)
    return given._replace(netloc=f"{role}:{_PASSWORD}@{given.hostname}:{given.port}").geturl()


def of_worker(dsn: str) -> str:
    """How workers under test log in: with the rights of the address that is given, or, where
    PENSTOCK_TEST_ROLES is set, with the least that a worker needs. Tables of a package of events
    belong to whoever migrated it, so its tests need the first.
    """
    return logged_in(dsn, INGEST) if os.environ.get(_SWITCH) else dsn


async def migrated_by_its_owner(dsn: str) -> None:
    """As docs/operations.md says: roles, migrations, and roles once more. Unless
    PENSTOCK_TEST_ROLES is set, the owner may also partition what a test makes as another role.
    """
    await make_roles(dsn)
    await migrate.up(logged_in(dsn, OWNER))
    await make_roles(dsn)


async def make_roles(dsn: str) -> None:
    """Run the script as a superuser, and let the roles log in."""
    passwords = [f"ALTER ROLE {role} PASSWORD '{_PASSWORD}'" for role in (OWNER, INGEST, READER)]
    owner = [] if os.environ.get(_SWITCH) else [f"ALTER ROLE {OWNER} SUPERUSER"]
    await execute(dsn, SCRIPT.read_text(), *passwords, *owner)


async def execute(dsn: str, *statements: str) -> None:
    """Run statements one after the other."""
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
