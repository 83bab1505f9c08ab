"""Which errors of PostgreSQL and asyncpg are the data's fault, and which pass by themselves.

By SQLSTATE and fields alone: the server's words may be of any language. SQLSTATE classes:
https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from penstock.worker.errors import (
    Cause,
    PartitionMissing,
    PenstockError,
    RowRejected,
    SinkUnavailable,
)
from penstock.worker.migrate.connecting import CAUSES
from penstock.worker.wording import why

_DATA = ("21", "22", "23", "54")
"""Two rows for one (keys that are equal to the column's type alone), data exception, integrity
violation, program limit exceeded (too deep, key too long).
"""

PERIOD_DETACHED = "PK001"
"""What `partitions.ensure_for` says of a period that retention has taken out."""

_REASONS = {
    "22003": "out_of_range",
    "22021": "nul_character",
    "22P05": "nul_character",
    "OverflowError": "out_of_range",
    "54001": "too_deep",
    PERIOD_DETACHED: "period_detached",
}
"""Codes that name a fault of the event more closely than ``row_rejected`` does. The two of NUL mean
a letter that the encoding lacks, and of UTF8, which `penstock.worker.migrate` asks for, it lacks no
other.
"""

DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    asyncio.TimeoutError,
    OverflowError,
)


def classify(error: BaseException) -> PenstockError:
    """What the caller must do about a driver's error: create a partition, reject, or retry.

    Everything that does not clearly blame a row counts as transient: a revoked right or a missing
    table must stop the worker from acknowledging, never fill the dead letters with good events.
    """
    if isinstance(error, asyncpg.DataError | OverflowError) and not isinstance(
        error, asyncpg.PostgresError
    ):
        return _rejected(type(error).__name__, error)
    if isinstance(error, asyncpg.PostgresError):
        code = str(error.sqlstate or "")
        if code == "23514" and not error.constraint_name and error.table_name:
            return PartitionMissing(str(error))  # every other check has a name
        if code[:2] in _DATA or code == PERIOD_DETACHED:
            return _rejected(code, error)
        return SinkUnavailable(
            f"PostgreSQL answers {code} {type(error).__name__}: {error}",
            cause=CAUSES.get(code, Cause.OTHER),
        )
    return SinkUnavailable(f"PostgreSQL is away: {why(error)}", cause=Cause.AWAY)


def _rejected(code: str, error: BaseException) -> RowRejected:
    return RowRejected(code, str(error), _REASONS.get(code, "row_rejected"))


@contextmanager
def translated() -> Iterator[None]:
    """Raise a driver's error as what it means here."""
    try:
        yield
    except DRIVER_ERRORS as error:
        raise classify(error) from error
