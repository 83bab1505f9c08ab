"""Keeping messages that cannot become rows, with their bytes and the reason."""

import json
from typing import Any

from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.plan import Plan
from penstock.worker.pipeline.ports import DeadLetter
from penstock.worker.postgres import statements
from penstock.worker.postgres.parts import Part
from penstock.worker.postgres.transaction import Connection


class LetterPart(Part):
    """The dead letters of a batch."""

    def __init__(self, batch: Batch, worker_id: str) -> None:
        self._batch = batch
        self._worker_id = worker_id

    async def write(self, connection: Connection, fresh: Plan) -> Plan:
        letters, origin = self._batch.letters, self._batch.origin
        if letters:
            cells = zip(*map(_cells, letters), strict=True)
            where = (origin.transport, origin.stream, origin.epoch, self._worker_id)
            await connection.execute(statements.DEAD_LETTERS, *where, *cells)
        return fresh


def _cells(letter: DeadLetter) -> tuple[Any, ...]:
    message = letter.message
    headers = json.dumps(dict(message.headers), ensure_ascii=False)
    return (
        message.offset,
        _storable(message.subject),
        _storable(headers).replace("\\u0000", "\\ufffd"),
        message.body,
        letter.reason,
        _storable(letter.error),
        letter.event_id,
        message.deliveries,
    )


def _storable(text: str) -> str:
    """Text that PostgreSQL takes: what it cannot hold is shown as the replacement character."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
