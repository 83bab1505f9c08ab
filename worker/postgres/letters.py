"""Keeping messages that cannot become rows, with their bytes and the reason; and noting what became
of letters that were sent again.
"""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from penstock.worker.errors import NoRoomForLetters
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.plan import Plan
from penstock.worker.pipeline.ports import DeadLetter
from penstock.worker.postgres import statements
from penstock.worker.postgres.parts import Part
from penstock.worker.postgres.transaction import Connection

_MOST_ATTEMPTS = 2**31 - 1
"""What the column holds. Nothing about a message may be the reason that it cannot be kept."""

_COUNTED_SECONDS = 1.0

_KEEP = """
INSERT INTO bus.dead_letter (transport, stream, epoch, seq, subject, headers, raw_headers, body,
                             digest, reason, error, event_id, event_type, attempts, worker)
SELECT $1, $2, $3, g.seq, g.subject, g.headers::jsonb, g.raw_headers, g.body, g.digest, g.reason,
       g.error, g.event_id, g.event_type, g.attempts, $4
FROM unnest($5::bigint[], $6::text[], $7::text[], $8::bytea[], $9::bytea[], $10::bytea[],
            $11::text[], $12::text[], $13::uuid[], $14::text[], $15::int[])
     AS g(seq, subject, headers, raw_headers, body, digest, reason, error, event_id, event_type,
          attempts)
ON CONFLICT (transport, stream, epoch, seq, digest) DO NOTHING
RETURNING seq, digest
"""
"""Tells which of them were not kept yet."""

Answers = dict[str, DeadLetter | None]
"""What became of requeues, by their ids: None if the event is stored."""


class LetterQuota:
    """How many letters may be open, all workers together; 0 is no limit.

    They are counted once a second, so several workers may exceed it by what they keep in that time,
    and batches that are written at the same time by what they keep then.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._room = 0
        self._until = 0.0

    async def check(self, connection: Connection, new: Sequence[DeadLetter]) -> None:
        """Raise NoRoomForLetters if some of ``new``, just inserted, are too many."""
        if not self._most:
            return
        now = time.monotonic()
        if now > self._until or len(new) > self._room:
            count = await connection.fetchval(statements.OPEN_LETTERS, self._most + len(new))
            if (over := count - self._most) > 0:
                raise NoRoomForLetters([one.message for one in new[-over:]], self._most)
            self._room, self._until = self._most - count, now + _COUNTED_SECONDS
        else:
            self._room -= len(new)


class LetterPart(Part):
    """The dead letters of a batch, and its answers to requeues. What is kept or answered already is
    taken out, as a duplicate event is.
    """

    def __init__(self, batch: Batch, worker_id: str, quota: LetterQuota) -> None:
        self._batch = batch
        self._worker_id = worker_id
        self._quota = quota

    async def write(self, connection: Connection, fresh: Plan) -> Plan:
        answers = answers_of(self._batch)
        if not fresh.letters and not answers:
            return fresh
        known = await self._answer(connection, answers) if answers else {}
        again = [one for key, one in answers.items() if one is not None and known.get(key)]
        others = [one for one in fresh.letters if one.message.requeue_id not in known]
        new = await self._keep(connection, others) if others else []
        return msgspec.structs.replace(fresh, letters=[*again, *new])

    async def _answer(self, connection: Connection, answers: Answers) -> dict[str, bool]:
        """Which of the requeues are known here, and whether that changed a letter."""
        reasons = [one and one.reason for one in answers.values()]
        errors = [one and _text_of(one)(one.error) for one in answers.values()]
        rows = await connection.fetch(
            statements.SETTLE_REQUEUES, list(answers), reasons, errors, self._worker_id
        )
        return {requeue_id: changed for requeue_id, changed in rows}  # noqa: C416  (records)

    async def _keep(
        self, connection: Connection, letters: Sequence[DeadLetter]
    ) -> list[DeadLetter]:
        """Those that were not kept yet."""
        origin = self._batch.origin
        cells = zip(*map(letter_cells, letters), strict=True)
        where = (origin.transport, origin.stream, origin.epoch, self._worker_id)
        kept = {tuple(row) for row in await connection.fetch(_KEEP, *where, *cells)}
        named = {(one.message.offset, one.message.digest): one for one in letters}
        new = [one for key, one in named.items() if key in kept]
        if new:
            await self._quota.check(connection, new)
        return new


def answers_of(batch: Batch) -> Answers:
    """What became of the requeued letters in a batch; none if it is not decoded and only moves the
    position.
    """
    marked = [
        (key, batch.outcomes[place])
        for place in sorted(batch.messages.special)
        if batch.outcomes and (key := batch.messages[place].requeue_id) is not None
    ]
    return {key: one if isinstance(one, DeadLetter) else None for key, one in marked}


def letter_cells(letter: DeadLetter) -> tuple[Any, ...]:
    """A letter in the order of the statement's columns; nothing about it can be refused."""
    message, text = letter.message, _text_of(letter)
    headers = json.dumps(dict(message.headers), ensure_ascii=False)
    return (
        message.offset,
        text(message.subject),
        None if letter.plain else text(headers).replace("\\u0000", "\\ufffd"),
        message.raw_headers,
        message.body,
        message.digest,
        letter.reason,
        text(letter.error),
        letter.event_id,
        letter.event_type and text(letter.event_type),
        min(message.deliveries, _MOST_ATTEMPTS),
    )


def _text_of(letter: DeadLetter) -> Callable[[str], str]:
    return _ascii if letter.plain else _storable


def _storable(text: str) -> str:
    """Text that PostgreSQL takes: what it cannot hold is shown as the replacement character."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _ascii(text: str) -> str:
    """Text that any database takes."""
    return text.encode("ascii", "backslashreplace").decode().replace("\0", "\\x00")
