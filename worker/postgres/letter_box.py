"""The dead letters that are kept, for whoever looks at them and settles them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from penstock.worker.finding import Finding, Verdict
from penstock.worker.postgres.errors import translated

OPEN = ("kept", "requeued", "rejected")
"""Statuses of letters that wait for somebody."""

STATUSES = (*OPEN, "stored", "discarded")

_COLUMNS = """
letter_id, reason, error, status, transport, stream, subject, event_type, event_id::text,
recorded_at, seq, epoch, attempts, worker, changed_at, changed_by, octet_length(body) AS size
"""
_WHERE = """
WHERE ($1::bigint[] IS NULL OR letter_id = ANY ($1))
  AND ($2::text[] IS NULL OR status = ANY ($2))
  AND ($3::text IS NULL OR reason = $3)
  AND ($4::text IS NULL OR event_type = $4)
  AND ($5::text IS NULL OR subject ~ $5)
  AND ($6::text IS NULL OR stream = $6)
  AND ($7::text IS NULL OR strpos(lower(error), lower($7)) > 0)
  AND ($8::timestamptz IS NULL OR recorded_at >= $8)
  AND ($9::timestamptz IS NULL OR recorded_at < $9)
  AND letter_id > $10
"""
_LIST = f"SELECT {_COLUMNS} FROM bus.dead_letter {_WHERE} ORDER BY letter_id LIMIT $11"
_IDS = f"SELECT letter_id, status FROM bus.dead_letter {_WHERE} ORDER BY letter_id"
_TRANSPORTS = """
SELECT transport, min(letter_id) FROM bus.dead_letter
WHERE letter_id = ANY ($1::bigint[]) GROUP BY transport
"""
_WHOLE = f"""
SELECT {_COLUMNS}, headers, coalesce(raw_headers, '') AS raw_headers, coalesce(body, '') AS body,
       sent_subject, sent_headers, sent_body
FROM bus.dead_letter WHERE letter_id = ANY ($1::bigint[]) ORDER BY letter_id
"""
_CHANGES = """
SELECT before, after, reason, error, changed_by, role, recorded_at
FROM bus.dead_letter_change WHERE letter_id = $1 ORDER BY change_id
"""
_REQUEUED = """
UPDATE bus.dead_letter
SET status = 'requeued', requeue_id = gen_random_uuid(), sent_subject = $3, sent_headers = $4,
    sent_body = $5, changed_at = clock_timestamp(), changed_by = $6
WHERE letter_id = $1 AND status = $2
RETURNING requeue_id::text
"""
_RETURNED = """
UPDATE bus.dead_letter
SET status = $3, changed_at = clock_timestamp(), changed_by = $4
WHERE letter_id = $1 AND status = 'requeued' AND requeue_id = $2::uuid
"""
_DISCARDED = """
UPDATE bus.dead_letter
SET status = 'discarded', changed_at = clock_timestamp(), changed_by = $2
WHERE letter_id = ANY ($1::bigint[]) AND status IN ('kept', 'requeued', 'rejected')
RETURNING letter_id
"""
_COUNTS = """
SELECT s.status, count(d.letter_id)
FROM unnest($1::text[]) AS s (status)
LEFT JOIN bus.dead_letter AS d
    ON d.status = s.status AND d.status IN ('kept', 'requeued', 'rejected')
GROUP BY s.status
"""
_LATE = """
SELECT count(*) FROM bus.dead_letter
WHERE status = 'requeued' AND changed_at < now() - interval '10 minutes'
"""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters are meant; what is None says nothing. ``subject`` is a regular expression,
    ``after`` a letter's id.
    """

    ids: Sequence[int] | None = None
    statuses: Sequence[str] | None = None
    reason: str | None = None
    event_type: str | None = None
    subject: str | None = None
    stream: str | None = None
    error: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    after: int = 0

    @property
    def cells(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__struct_fields__)


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A letter without its content. ``size`` is that of the body."""

    letter_id: int
    reason: str
    error: str | None
    status: str
    transport: str
    stream: str
    subject: str | None
    event_type: str | None
    event_id: str | None
    recorded_at: datetime
    seq: int | None
    epoch: str
    attempts: int | None
    worker: str | None
    changed_at: datetime | None
    changed_by: str | None
    size: int | None


class WholeLetter(Letter, frozen=True, kw_only=True):
    """A letter with its content; what was ``sent`` last is None where that is as it came."""

    headers: bytes | None
    raw_headers: bytes
    body: bytes
    sent_subject: str | None
    sent_headers: bytes | None
    sent_body: bytes | None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """How a letter's status was changed; ``reason`` and ``error`` are those that it had before."""

    before: str
    after: str
    reason: str
    error: str | None
    changed_by: str | None
    role: str
    recorded_at: datetime


class PostgresLetters:
    """`bus.dead_letter`. Everything raises SinkUnavailable."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def first(self, wanted: Filter, limit: int) -> list[Letter]:
        """The first letters, in order of their ids."""
        with translated():
            rows = await self._pool.fetch(_LIST, *wanted.cells, limit)
        return [Letter(**row) for row in rows]

    async def ids(self, wanted: Filter) -> dict[int, str]:
        """The ids of all letters that are meant, each with its status."""
        with translated():
            rows = await self._pool.fetch(_IDS, *wanted.cells)
        return dict(map(tuple, rows))

    async def transports(self, ids: Sequence[int]) -> dict[str, int]:
        """The brokers that letters came from, each with the first of them."""
        with translated():
            rows = await self._pool.fetch(_TRANSPORTS, ids)
        return dict(map(tuple, rows))

    async def whole(self, ids: Sequence[int]) -> list[WholeLetter]:
        """Letters with their content, as far as they are there."""
        with translated():
            rows = await self._pool.fetch(_WHOLE, ids)
        return [WholeLetter(**row) for row in rows]

    async def changes(self, letter_id: int) -> list[Change]:
        """The history of a letter's status."""
        with translated():
            rows = await self._pool.fetch(_CHANGES, letter_id)
        return [Change(**row) for row in rows]

    async def requeue(
        self,
        letter: Letter,
        by: str,
        *,
        subject: str | None,
        headers: bytes | None,
        body: bytes | None,
    ) -> str | None:
        """Mark it as sent, before it is: a worker may answer at once. Returns the requeue's id, or
        None if somebody else has changed its status meanwhile.
        """
        with translated():
            found: str | None = await self._pool.fetchval(
                _REQUEUED, letter.letter_id, letter.status, subject, headers, body, by
            )
        return found

    async def not_sent(self, letter: Letter, requeue_id: str, by: str) -> str:
        """The broker has not taken it: it is what it was before. Returns that status."""
        before = "kept" if letter.status == "requeued" else letter.status
        with translated():
            await self._pool.execute(_RETURNED, letter.letter_id, requeue_id, before, by)
        return before

    async def discard(self, ids: Sequence[int], by: str) -> list[int]:
        """Give up open letters. Returns those that were."""
        with translated():
            return [found for (found,) in await self._pool.fetch(_DISCARDED, ids, by)]

    async def open(self) -> Mapping[str, int]:
        """How many letters wait for somebody, by status."""
        with translated():
            rows = await self._pool.fetch(_COUNTS, OPEN)
        return dict(map(tuple, rows))

    async def unanswered(self) -> int:
        """How many were requeued long ago, and no worker has answered."""
        with translated():
            return int(await self._pool.fetchval(_LATE))


async def letter_findings(pool: asyncpg.Pool, most: int) -> AsyncIterator[Finding]:
    """Letters that wait for somebody, of which there may be ``most`` (0: any number). Raises
    SinkUnavailable.
    """
    box = PostgresLetters(pool)
    counts = {status: count for status, count in (await box.open()).items() if count}
    said = ", ".join(f"{count} {status}" for status, count in counts.items())
    if most and sum(counts.values()) >= most:
        text = f"open dead letters reach letters_max = {most} ({said}): wrong messages wait"
        remedy = "requeue or discard some with `penstock dlq`, or raise letters_max"
        yield Finding(Verdict.BAD, text, remedy)
    elif counts:
        yield Finding(Verdict.NOTE, f"dead letters are open: {said}", "`penstock dlq list`")
    if late := await box.unanswered():
        text = f"{late} dead letters were requeued 10 minutes ago or longer, without an answer"
        remedy = "if a worker runs, send them again: `penstock dlq requeue --status requeued`"
        yield Finding(Verdict.NOTE, text, remedy)
