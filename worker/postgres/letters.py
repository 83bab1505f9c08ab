"""Keeping messages that cannot become rows, with their bytes and the reason."""

import json
from typing import Any

import msgspec

from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.plan import Plan
from penstock.worker.pipeline.ports import DeadLetter
from penstock.worker.postgres import statements
from penstock.worker.postgres.parts import Part
from penstock.worker.postgres.transaction import Connection

_MOST_ATTEMPTS = 2**31 - 1
"""What the column holds. Nothing about a message may be the reason that it cannot be kept."""


class LetterPart(Part):
    """The dead letters of a batch. What is kept already is taken out, as a duplicate event is."""

    def __init__(self, batch: Batch, worker_id: str) -> None:
        self._batch = batch
        self._worker_id = worker_id

    async def write(self, connection: Connection, fresh: Plan) -> Plan:
        if not fresh.letters:
            return fresh
        origin = self._batch.origin
        cells = zip(*map(letter_cells, fresh.letters), strict=True)
        where = (origin.transport, origin.stream, origin.epoch, self._worker_id)
        kept = {
            tuple(row) for row in await connection.fetch(statements.DEAD_LETTERS, *where, *cells)
        }
        named = {(one.message.offset, one.message.digest): one for one in fresh.letters}
        new = [one for key, one in named.items() if key in kept]
        return msgspec.structs.replace(fresh, letters=new)


def letter_cells(letter: DeadLetter) -> tuple[Any, ...]:
    """A letter in the order of the statement's columns; nothing about it can be refused."""
    message, text = letter.message, _ascii if letter.plain else _storable
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
        min(message.deliveries, _MOST_ATTEMPTS),
    )


def _storable(text: str) -> str:
    """Text that PostgreSQL takes: what it cannot hold is shown as the replacement character."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _ascii(text: str) -> str:
    """Text that any database takes."""
    return text.encode("ascii", "backslashreplace").decode().replace("\0", "\\x00")
