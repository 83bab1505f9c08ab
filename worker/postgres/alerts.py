"""Alerts that are open, as they are told to a person."""

from collections.abc import Iterator, Sequence

import asyncpg

from penstock.worker.finding import Finding, Verdict
from penstock.worker.postgres.errors import translated

_OPEN = """
SELECT metric, thing, level, value, threshold, raised_at FROM monitoring.alert
WHERE resolved_at IS NULL ORDER BY raised_at, metric, thing
"""
REMEDY = "see docs/operations.md, An alert is raised"


async def open_alerts(pool: asyncpg.Pool) -> Sequence[str]:
    """One line for each. Raises SinkUnavailable."""
    with translated():
        rows = await pool.fetch(_OPEN)
    return [
        f"{level} alert: {' '.join(filter(None, (metric, thing)))} is {value:g}, "
        f"the limit is {threshold:g}, since {raised_at:%Y-%m-%d %H:%M} UTC"
        for metric, thing, level, value, threshold, raised_at in rows
    ]


def alert_findings(alerts: Sequence[str]) -> Iterator[Finding]:
    """What doctor says of them."""
    if not alerts:
        yield Finding(Verdict.GOOD, "no alert is open")
    for alert in alerts:
        yield Finding(Verdict.BAD, alert, REMEDY)
