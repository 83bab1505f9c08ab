"""Why PostgreSQL lets nobody in, and what helps against just that; by SQLSTATE."""

import asyncpg

from penstock.worker.errors import Cause, SinkUnavailable
from penstock.worker.wording import redacted, unreachable

NO_RIGHT = "42501"
CAUSES = {
    NO_RIGHT: Cause.RIGHT,
    "28000": Cause.LOGIN,
    "28P01": Cause.LOGIN,
    "3D000": Cause.MISSING,
    "3F000": Cause.MISSING,
    "42P01": Cause.MISSING,
    "42883": Cause.MISSING,
    "53300": Cause.BUSY,
    "57014": Cause.SLOW,
}
_REMEDIES = {
    "28000": "let this role log in from here: pg_hba.conf, and TLS if that demands it",
    "28P01": "give the role's password in postgres_dsn or postgres_dsn_file",
    "3D000": "create the database, then run `penstock migrate up`",
    "42501": "GRANT CONNECT ON DATABASE to the role",
    "53300": "raise max_connections, or the role's limit, or lower pool_size",
    "57P03": "wait: it is starting, or recovering",
}
"""For a connection that the server refuses."""


def not_connected(dsn: str, error: BaseException) -> SinkUnavailable:
    """That no connection could be made, why, and what to do about just that."""
    code = str(error.sqlstate or "") if isinstance(error, asyncpg.PostgresError) else ""
    text = unreachable(f"PostgreSQL at {redacted(dsn)}", error, _REMEDIES.get(code))
    return SinkUnavailable(text, cause=CAUSES.get(code, Cause.OTHER) if code else Cause.AWAY)
