"""From a row to a message, checked by what will read it: the decoder of the worker."""

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.schemas.identity import escape
from penstock.worker.outbox.ports import OutboxRow, Refused
from penstock.worker.pipeline.decode import Decoder
from penstock.worker.pipeline.ports import Message

_OPTIONAL = ("actor", "project", "correlationid", "causationid")


class Draft(msgspec.Struct, frozen=True):
    """A row as it is sent."""

    row: OutboxRow
    subject: str
    body: bytes


class Drafts:
    """Makes messages of rows. What the decoder would not take is refused in its words."""

    def __init__(self, catalogue: Catalogue, decoder: Decoder, *, max_bytes: int) -> None:
        self._types = catalogue.types
        self._decoder = decoder
        self._max_bytes = max_bytes

    def make(self, rows: Sequence[OutboxRow]) -> tuple[list[Draft], list[Refused]]:
        """The messages in the order of their rows, and the rows that are no valid events."""
        refused = [self._too_large(row) for row in rows if row.data is None]
        drafts = [
            Draft(row, self._subject(row), _body(row)) for row in rows if row.data is not None
        ]
        messages = [Message(subject=draft.subject, body=draft.body) for draft in drafts]
        outcomes = self._decoder.decode(messages)
        good: list[Draft] = []
        for draft, outcome in zip(drafts, outcomes, strict=True):
            if isinstance(outcome, Event):
                good.append(draft)
            else:
                refused.append(Refused(draft.row.outbox_id, outcome.reason, outcome.error))
        return good, refused

    def _subject(self, row: OutboxRow) -> str:
        kind = self._types.get(row.type)
        return f"{kind.prefix}{escape(row.key)}{kind.suffix}" if kind else row.type

    def _too_large(self, row: OutboxRow) -> Refused:
        text = f"data of {row.size} bytes, more than max_event_bytes = {self._max_bytes}"
        return Refused(row.outbox_id, "too_large", text)


def _body(row: OutboxRow) -> bytes:
    """The event: CloudEvents 1.0, structured mode, JSON."""
    envelope: dict[str, Any] = {
        "specversion": "1.0",
        "id": row.event_id,
        "source": row.source,
        "type": row.type,
        "subject": row.key,
        "time": row.time,
        "datacontenttype": "application/json",
        "data": msgspec.Raw(row.data or b"{}"),
    }
    if row.sequence:
        envelope["sequence"] = row.sequence
    given = {name: getattr(row, name) for name in _OPTIONAL}
    envelope |= {name: value for name, value in given.items() if value is not None}
    return msgspec.json.encode(envelope)
