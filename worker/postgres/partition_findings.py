"""What `penstock doctor` says of partitions: policies that nobody keeps, and why."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec

import asyncpg

from penstock.schemas.catalogue import Catalogue
from penstock.worker.finding import Finding, Verdict
from penstock.worker.postgres.life import Life, due, lives
from penstock.worker.postgres.pool import connection_apart
from penstock.worker.postgres.retention import NO_OWNER, not_ours
from penstock.worker.postgres.stream_ages import stream_ages, too_short
from penstock.worker.settings.keys import Settings

_LATE = timedelta(days=2)
"""Due for so long: nobody does it. Whoever does it once a day is never so late."""


async def partition_findings(
    pool: asyncpg.Pool, settings: Settings, catalogue: Catalogue
) -> AsyncIterator[Finding]:
    """All there is. Raises SinkUnavailable."""
    ages = stream_ages(settings, catalogue)
    for wrong in await too_short(pool, ages):
        text, _, remedy = wrong.partition("; ")
        yield Finding(Verdict.BAD, text, remedy)
    found = await lives(pool)
    foreign = await _foreign(settings)
    if foreign and settings.retention:
        text, _, remedy = NO_OWNER.format(", ".join(foreign)).partition("; ")
        yield Finding(Verdict.NOTE, f"PostgreSQL: {text}, so it detaches nothing", remedy)
    now = datetime.now(UTC)
    late = [life for life in found if any(due(life, now - _LATE, ages))]
    if late:
        yield _late(late)
    if any(life.export for life in found):
        for finding in _exports(settings):
            yield finding


async def _foreign(settings: Settings) -> list[str]:
    """The tables that whoever keeps partitions, by these settings, may not touch."""
    dsn = settings.postgres_owner_dsn or settings.postgres_dsn
    async with connection_apart(settings, dsn=dsn) as connection:
        return await not_ours(connection)


def _late(late: list[Life]) -> Finding:
    names = ", ".join(life.title for life in late[:3])
    more = f" and {len(late) - 3} more" if len(late) > 3 else ""  # noqa: PLR2004
    return Finding(
        Verdict.BAD,
        f"{len(late)} partitions are due for more than {_LATE.days} days: {names}{more}",
        "run `penstock partitions maintain --dry-run`, then with --yes; it says what is in the way",
    )


def _exports(settings: Settings) -> list[Finding]:
    """What an export needs, where this runs; another machine may do it."""
    found = []
    if not settings.archive_folder:
        text = "partitions are to be exported, and archive_folder is not set here"
        found.append(Finding(Verdict.NOTE, text, "set it for whoever keeps the partitions"))
    if find_spec("pyarrow") is None:
        text = "partitions are to be exported, and pyarrow is not installed here"
        found.append(Finding(Verdict.NOTE, text, "pip install 'penstock[archive]'"))
    return found
