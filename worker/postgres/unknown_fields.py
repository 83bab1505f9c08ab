"""Fields that producers send and nobody stores, seen in the histories."""

from collections.abc import AsyncIterator, Collection, Sequence
from difflib import get_close_matches

from penstock.schemas.catalogue import Catalogue
from penstock.worker.finding import Finding, Verdict
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.pool import database
from penstock.worker.settings.keys import Settings

_SENT_FIELDS = """
SELECT event_type, array_agg(DISTINCT field) AS sent
FROM (SELECT event_type, data FROM events.log
      WHERE occurred_at > now() - interval '1 hour' AND jsonb_typeof(data) = 'object'
      LIMIT 1000) AS sample, jsonb_object_keys(data) AS field
GROUP BY event_type ORDER BY event_type
"""
_OMITTED = "omitted"
"""What stands for fields that a history leaves out."""


async def unknown_fields(settings: Settings) -> AsyncIterator[Finding]:
    """Fields that events have beside those of their types: in 1,000 rows of the last hour."""
    types = Catalogue.load(settings.event_packages).types
    async with database(settings) as pool:
        with translated():
            if await pool.fetchval("SELECT to_regclass('events.log')") is None:
                return
            found = await pool.fetch(_SENT_FIELDS)
    for name, sent in found:
        known = types[name].fields | {_OMITTED} if name in types else frozenset(sent)
        if unknown := sorted(set(sent) - known):
            text = f"{name} comes with fields that it does not have: {', '.join(unknown)}"
            yield Finding(Verdict.NOTE, text, _meant(unknown, known))


def _meant(unknown: Sequence[str], known: Collection[str]) -> str:
    near = [one for field in unknown for one in get_close_matches(field, known, 1)]
    meant = f"did you mean {', '.join(near)}?" if near else "`penstock events` lists the fields"
    return f"they go into no column; {meant}"
