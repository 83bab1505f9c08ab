"""What is wrong with a message that could not be decoded, and what of it can still be told."""

import json
import re
from datetime import datetime

import msgspec

from penstock.schemas.identity import event_uuid
from penstock.worker.pipeline.decode.modes import leaves, other_mode, structured
from penstock.worker.pipeline.decode.reasons import Reject
from penstock.worker.pipeline.ports import DeadLetter, Message

_bound = re.compile(r"Expected `(?:int|float)` [<>]").search


def dead_letter(message: Message, reason: str, error: str) -> DeadLetter:
    """The dead letter of a message that was rejected for ``reason``."""
    event_id, occurred_at = _salvage(message.body)
    return DeadLetter(
        message=message, reason=reason, error=error, event_id=event_id, occurred_at=occurred_at
    )


class _Salvage(msgspec.Struct):
    source: str = ""
    id: str = ""
    time: datetime | None = None


def _salvage(body: bytes) -> tuple[str | None, datetime | None]:
    """The id and time of a broken event, if they can still be read: they help to find it."""
    try:
        found = msgspec.json.decode(body, type=_Salvage)
    except (ValueError, RecursionError):
        return None, None
    named = event_uuid(found.source, found.id) if found.id else None
    return named, found.time if found.time is not None and found.time.tzinfo else None


def diagnose(message: Message, error: Exception) -> tuple[str, str]:
    """Which of REASONS an exception of the decoders means, with a text for a person."""
    text = str(error)[:500]
    if isinstance(error, RecursionError):
        return "too_deep", "the body nests deeper than can be read"
    if isinstance(error, UnicodeDecodeError):
        return "bad_utf8", text
    if isinstance(error, msgspec.ValidationError):
        return _diagnose_validation(message, text), text
    if _has_lone_surrogate(message.body):
        return "lone_surrogate", "a text contains half of a surrogate pair"
    return "not_json", text


def _diagnose_validation(message: Message, text: str) -> str:
    if _out_of_range(text):
        return "out_of_range"
    if _envelope_is_sound(message):
        return "invalid_data"
    if "missing required field `time`" in text:
        return "missing_time"
    if text.endswith("`$.time`"):
        return "bad_time"
    return "bad_id" if text.endswith("`$.id`") else "not_cloudevent"


def _envelope_is_sound(message: Message) -> bool:
    try:
        _ = structured(message.body) if message.plain else other_mode(message)
    except (ValueError, RecursionError, Reject):
        return False
    return True


def _out_of_range(text: str) -> bool:
    """Every bound is worded by msgspec as an inequality after the type's name."""
    return "out of range" in text or bool(_bound(text))


def _has_lone_surrogate(body: bytes) -> bool:
    if b"\\ud" not in body.lower():
        return False
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return any(
        isinstance(found, str) and any("\ud800" <= char <= "\udfff" for char in found)
        for found in leaves(document)
    )
