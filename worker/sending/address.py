"""Where an event that is JSON already belongs: its subject and its id on the bus."""

import re

import msgspec

from penstock.schemas.event import Envelope
from penstock.schemas.identity import escape, event_uuid

_decode = msgspec.json.Decoder(Envelope).decode
_type_parts = re.compile(r"([A-Za-z0-9_-]+)((?:\.[A-Za-z0-9_-]+)+)").fullmatch


def address(line: bytes) -> tuple[str, str]:
    """The bus subject and the Nats-Msg-Id of an event. Raises ValueError or RecursionError."""
    envelope = _decode(line)
    parts = _type_parts(envelope.type)
    if parts is None:
        raise ValueError(f"type {envelope.type!r} is not domain.verb, as in tasks.updated")
    subject = f"{parts[1]}.{escape(envelope.subject)}{parts[2]}"
    return subject, event_uuid(envelope.source, envelope.id)
