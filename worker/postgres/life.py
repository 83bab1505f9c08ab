"""The life of a partition: attached, taken out, put away, exported, dropped; what is due when."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from enum import StrEnum

import asyncpg
import msgspec

from penstock.worker.postgres.errors import translated

_LIFE = """
SELECT schema_name AS schema, table_name AS table, partition_name AS name,
       nullif(lower_bound, '-infinity') AS lower, upper_bound AS upper, place,
       quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS relation, rows, bytes, archive,
       export, exported_at, file, expires_at, drops_at
FROM partitions.life
LEFT JOIN pg_class AS c ON c.oid = relation
LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE place <> 'gone' OR $1
ORDER BY schema_name, table_name, lower_bound
"""


class Place(StrEnum):
    """Where the rows of a period are."""

    ATTACHED = "attached"
    DETACHING = "detaching"
    DETACHED = "detached"
    ARCHIVED = "archived"
    GONE = "gone"


class Action(StrEnum):
    """A step of retention, in the order in which a partition takes them."""

    DETACH = "detach"
    FINISH = "finish detaching"
    PUT_AWAY = "move to archive"
    EXPORT = "export"
    DROP = "drop"


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """One partition. ``relation`` is its table now, ``name`` its name as a partition; ``rows`` is
    an estimate until it is exported. ``expires_at`` and ``drops_at`` are when its table's policy
    lets it go, None for never.
    """

    schema: str
    table: str
    name: str
    lower: datetime | None
    upper: datetime | None
    place: Place
    relation: str | None
    rows: int
    bytes: int | None
    archive: bool
    export: bool
    exported_at: datetime | None
    file: str | None
    expires_at: datetime | None
    drops_at: datetime | None

    @property
    def of(self) -> str:
        """The table that it is, or was, a partition of."""
        return f"{self.schema}.{self.table}"

    @property
    def title(self) -> str:
        """What people call it, wherever it is."""
        return f"{self.schema}.{self.name}"


Ages = Mapping[str, timedelta]
"""How old an event may be that a stream still holds, by the table that it would be written to."""


async def lives(connection: asyncpg.Connection | asyncpg.Pool, *, gone: bool = False) -> list[Life]:
    """All partitions that there are, and with ``gone`` those that were dropped too. Raises
    SinkUnavailable.
    """
    with translated():
        found = await connection.fetch(_LIFE, gone)
    return [msgspec.convert(dict(row), Life) for row in found]


def leaves_at(life: Life, ages: Ages) -> datetime | None:
    """When an attached partition is detached: not before its streams have dropped its events."""
    if life.expires_at is None or life.upper is None:
        return None
    return max(life.expires_at, life.upper + ages.get(life.of, timedelta()))


def due(life: Life, now: datetime, ages: Ages, *, asked: bool = False) -> Iterator[Action]:
    """What to do with a partition now, in order. ``asked``: a person wants it out of its table."""
    if life.place is Place.ATTACHED:
        leaves = leaves_at(life, ages)
        if not asked and (leaves is None or leaves > now):
            return
        yield Action.DETACH
    elif life.place is Place.DETACHING:
        yield Action.FINISH
    elif life.place is Place.GONE:
        return
    if life.place is not Place.ARCHIVED:
        yield Action.PUT_AWAY
    if life.export and (life.exported_at is None or life.place is Place.ATTACHED):
        yield Action.EXPORT
    if life.drops_at is not None and life.drops_at <= now:
        yield Action.DROP


def upcoming(life: Life, now: datetime, ages: Ages) -> tuple[Action, datetime] | None:
    """The next thing that happens to a partition, and when; None if nothing ever does."""
    first = next(due(life, now, ages), None)
    if first is not None:
        return first, now
    if life.place is Place.ATTACHED:
        leaves = leaves_at(life, ages)
        return None if leaves is None else (Action.DETACH, leaves)
    if life.place is Place.GONE or life.drops_at is None:
        return None
    return Action.DROP, life.drops_at
