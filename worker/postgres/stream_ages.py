"""How old an event may be that a stream still has, and whether tables keep rows for so long.

If a table lets go of a period sooner, an event that comes again from the stream finds no trace of
itself there.
"""

from datetime import timedelta

import asyncpg

from penstock.schemas.catalogue import Catalogue
from penstock.worker.brokers.registry import keeps_what_was_read
from penstock.worker.postgres.life import Ages
from penstock.worker.postgres.upkeep import PostgresUpkeep
from penstock.worker.settings.keys import Settings

_NONE = timedelta()


def stream_ages(settings: Settings, catalogue: Catalogue) -> Ages:
    """By table; none where messages go when they are read, or where no age is set, as then nothing
    can be compared. What differs on the server is for `penstock provision` and `doctor` to say.
    """
    if not settings.stream_max_age or not keeps_what_was_read(settings):
        return {}
    histories = [kind.history.relation for kind in catalogue.types.values() if kind.history]
    tables = [*catalogue.tables, *histories]
    return dict.fromkeys(tables, timedelta(seconds=settings.stream_max_age))


async def too_short(pool: asyncpg.Pool, ages: Ages) -> list[str]:
    """Each policy that would drop rows younger than the stream's age, and what to do. Raises
    SinkUnavailable.
    """
    policies = await PostgresUpkeep(pool).policies()
    return [
        f"partitions.policy keeps rows of {policy.table} for {_said(policy.retention)}, but "
        f"stream_max_age keeps messages for {_said(ages[policy.table])}; raise that retention, "
        "or lower stream_max_age"
        for policy in policies
        if policy.retention is not None and policy.retention < ages.get(policy.table, _NONE)
    ]


def _said(span: timedelta) -> str:
    return f"{span.days} days" if span == timedelta(days=span.days) else str(span)
