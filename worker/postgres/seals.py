"""`audit.seal` against the rows that it covers, wherever these are by now, in one snapshot.

How a leaf is made stands here once more, beside `audit.leaves_of`: whoever can change the history
may have changed the database's own functions too, so none of them is asked.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

import asyncpg

from penstock.worker.checks.seals import Seal
from penstock.worker.errors import PenstockError
from penstock.worker.postgres.errors import translated
from penstock.worker.postgres.life import Life, lives
from penstock.worker.postgres.pool import connection_apart
from penstock.worker.settings.keys import Settings

_FORMATS = {
    1: """
timestamptz_send(r.recorded_at) || uuid_send(r.event_id) || timestamptz_send(r.occurred_at)
|| sha256(convert_to(jsonb_build_array(
    r.event_type, r.entity_id, r.version, r.actor, r.source, r.project_id, r.corr, r.cause, r.data,
    r.origin, r.action, r.resource_type, r.resource_id, r.old_values, r.new_values, r.changed, r.ip,
    r.user_agent, r.session_id, r.db_user, r.txid
)::text, 'UTF8'))
"""
}
"""How a leaf is made, by the format that the seal names: a column that is added later is in none of
the earlier ones.
"""

NEWEST = max(_FORMATS)
"""For rows that no seal has."""


def _text(name: str) -> str:
    return f"""to_char({name} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


def _microseconds(name: str) -> str:
    return f"('x' || encode(timestamptz_send({name}), 'hex'))::bit(64)::bigint"


_CHAIN = f"""
SELECT s.seal_id, s.partition, {_text("s.from_at")}, {_text("s.to_at")},
       {_microseconds("s.from_at")}, {_microseconds("s.to_at")},
       s.rows, s.format, sha256(s.leaves), s.prev_digest, s.digest, {_text("s.sealed_at")}
FROM audit.seal AS s
WHERE s.sealed_at >= coalesce($1::timestamptz, '-infinity')
ORDER BY s.seal_id
"""
_BEFORE = "SELECT max(s.seal_id) FROM audit.seal AS s WHERE s.seal_id < $1"
_LEAVES = "SELECT s.seal_id, s.leaves FROM audit.seal AS s WHERE s.seal_id = ANY ($1)"
_DIGESTS = (
    "SELECT s.seal_id, encode(s.digest, 'hex') FROM audit.seal AS s WHERE s.seal_id = ANY ($1)"
)
_END = "(SELECT s.to_at FROM audit.seal AS s WHERE s.seal_id = {place}::bigint)"
_STORED = f"""
SELECT {{leaf}} FROM {{relation}} AS r
WHERE r.recorded_at >= coalesce({_END.format(place="$1")}, '-infinity')
  AND r.recorded_at < {_END.format(place="$2")}
ORDER BY 1 LIMIT $3
"""
_LATER = f"""
SELECT {{leaf}} FROM {{relation}} AS r
WHERE r.event_id = ANY ($2) AND r.recorded_at >= {_END.format(place="$1")}
"""
_WAITING = """
SELECT count(*) FROM audit.log AS r
WHERE r.recorded_at >= coalesce(
    (SELECT s.to_at FROM audit.seal AS s ORDER BY s.seal_id DESC LIMIT 1), '-infinity'
)
"""
_TOLD = f"""
SELECT CASE WHEN l.data ->> 'seal_id' ~ '^[0-9]{{1,18}}$' THEN (l.data ->> 'seal_id')::bigint
            ELSE 0 END,
       coalesce(l.data ->> 'digest', ''), {_text("l.occurred_at")}
FROM audit.log AS l
WHERE l.resource_type = 'seal' AND l.event_type = 'audit.sealed'
  AND l.occurred_at >= coalesce($1::timestamptz, '-infinity')
  AND NOT EXISTS (
      SELECT FROM audit.seal AS s WHERE encode(s.digest, 'hex') = l.data ->> 'digest'
  )
"""


def _leaf(form: int) -> str:
    """The newest for a seal that was changed to have a format that nobody knows."""
    return _FORMATS.get(form, _FORMATS[NEWEST])


class SealedHistory:
    """What one snapshot has of the audit history and its seals. All raise SinkUnavailable."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def chain(self, since: datetime | None) -> list[Seal]:
        """The seals in their order, or those made since then."""
        with translated():
            found = await self._connection.fetch(_CHAIN, since)
        seals = [Seal(*row) for row in found]
        for seal in seals:
            if seal.format not in _FORMATS and seal.digest == seal.true_digest:
                raise PenstockError(
                    f"seal {seal.seal_id} has the format {seal.format}, which this version of "
                    "Penstock does not know; use the version that made it, or a later one"
                )
        return seals

    async def before(self, seal: Seal) -> int | None:
        """The seal before another one."""
        with translated():
            found: int | None = await self._connection.fetchval(_BEFORE, seal.seal_id)
        return found

    async def leaves(self, seals: Sequence[Seal]) -> Mapping[int, bytes]:
        """What seals keep of their rows."""
        with translated():
            found = await self._connection.fetch(_LEAVES, [seal.seal_id for seal in seals])
        return dict(map(tuple, found))

    async def digests(self, numbers: Sequence[int]) -> Mapping[int, str]:
        """The digests of some seals, in hexadecimal."""
        with translated():
            found = await self._connection.fetch(_DIGESTS, numbers)
        return dict(map(tuple, found))

    async def partitions(self) -> Mapping[str, Life]:
        """The partitions of the history by their names, also those that retention has dropped."""
        return {
            life.name: life
            for life in await lives(self._connection, gone=True)
            if life.of == "audit.log"
        }

    async def stored(
        self, relation: str, form: int, after: int | None, upto: int, most: int
    ) -> list[bytes]:
        """The leaves that the rows would have now that were recorded from the end of the seal
        ``after`` to that of ``upto``, in order, at ``most`` so many. ``form`` is their format.
        """
        query = _STORED.format(leaf=_leaf(form), relation=relation)
        with translated():
            found = await self._connection.fetch(query, after, upto, most)
        return [leaf for (leaf,) in found]

    async def later(
        self, relation: str, form: int, last: Seal, events: Sequence[UUID]
    ) -> list[bytes]:
        """Likewise of these events, if they were recorded after the ``last`` seal."""
        query = _LATER.format(leaf=_leaf(form), relation=relation)
        with translated():
            return [leaf for (leaf,) in await self._connection.fetch(query, last.seal_id, events)]

    async def waiting(self) -> int:
        """How many rows came after the last seal."""
        with translated():
            return int(await self._connection.fetchval(_WAITING))

    async def unknown(self, since: datetime | None) -> list[tuple[int, str, str]]:
        """Seals that the history itself tells of and that are not there: number, digest, when."""
        with translated():
            return [tuple(row) for row in await self._connection.fetch(_TOLD, since)]


@asynccontextmanager
async def sealed_history(settings: Settings) -> AsyncIterator[SealedHistory]:
    """The history as it is at this moment, for as long as it takes. Raises SinkUnavailable."""
    async with connection_apart(settings, hurried=False) as connection:
        with translated():
            await connection.execute("SET search_path = pg_catalog, pg_temp")
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                yield SealedHistory(connection)
