"""What is wrong with a message that could not be decoded, and what of it can still be told."""

import base64
import contextlib
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from penstock.schemas.identity import event_uuid
from penstock.worker.pipeline.decode.modes import envelope_of
from penstock.worker.pipeline.decode.moments import LAST_TICK
from penstock.worker.pipeline.decode.reasons import Reject
from penstock.worker.pipeline.ports import NO_HEADERS, DeadLetter, Message

_escape = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL).finditer
_HIGH, _LOW = (b"d8", b"d9", b"da", b"db"), (b"dc", b"dd", b"de", b"df")
_TIMES = "send RFC 3339 with an offset, in the years 1 to 9999, no second 60 (a leap second)"
_bound = re.compile(r"Expected `(?:int|float)` [<>]").search


def dead_letter(message: Message, reason: str, error: str) -> DeadLetter:
    """The dead letter of a message that was rejected for ``reason``, with what can be salvaged."""
    stated = _stated(message)
    named = event_uuid(_text(stated.source), stated.id) if _text(stated.id) else None
    return DeadLetter(
        message=message,
        reason=reason,
        error=error,
        event_id=named,
        event_type=_text(stated.type)[:255] or None,
        occurred_at=_moment(stated.time),
    )


class _Embedded(msgspec.Struct):
    data_base64: str | None = None


class _Times(msgspec.Struct):
    time: Any = None


class _Stated(msgspec.Struct):
    source: Any = None
    id: Any = None
    type: Any = None
    time: Any = None


def _stated(message: Message) -> _Stated:
    """What a broken event says of itself, in headers or in the body: it helps to find it."""
    with contextlib.suppress(UnicodeDecodeError):
        attributes = NO_HEADERS if message.plain else message.attributes
        if "type" in attributes:
            return msgspec.convert(attributes, _Stated)
    for decode in (msgspec.json.decode, msgspec.msgpack.decode):
        with contextlib.suppress(ValueError, RecursionError):
            return decode(message.body, type=_Stated)
    return _Stated()


def _text(stated: Any) -> str:
    return stated if isinstance(stated, str) else ""


def _moment(stated: Any) -> datetime | None:
    with contextlib.suppress(ValueError):
        found = msgspec.convert(stated, datetime)
        return found if found.tzinfo else None
    return None


def diagnose(message: Message, error: Exception) -> tuple[str, str]:
    """Which of REASONS an exception of the decoders means, with a text for a person."""
    text = str(error)[:500]
    if isinstance(error, RecursionError):
        return "too_deep", "the body nests deeper than can be read"
    if isinstance(error, UnicodeError):
        return "bad_utf8", text
    if isinstance(error.__cause__, ValueError | TypeError):  # what a struct's own rule said
        return "invalid_data", text
    if isinstance(error, msgspec.ValidationError):
        return _diagnose_validation(message, text)
    if _has_lone_surrogate(message.body):
        return "lone_surrogate", "a text contains half of a surrogate pair"
    return "not_json", text


def _diagnose_validation(message: Message, text: str) -> tuple[str, str]:
    if _out_of_range(text):
        return "out_of_range", text
    if "RFC3339" in text or "timezone component" in text:
        return _bad_time(message, text)
    if _envelope_is_sound(message):
        return "invalid_data", text
    return _bad_attribute(text), text


def _bad_attribute(text: str) -> str:
    if "missing required field `time`" in text or text.endswith("got `null` - at `$.time`"):
        return "missing_time"
    if text.endswith("`$.time`"):
        return "bad_time"
    named = text.endswith("`$.id`") or "missing required field `id`" in text
    return "bad_id" if named else "not_cloudevent"


def _bad_time(message: Message, text: str) -> tuple[str, str]:
    if text.endswith("`$.time`") and LAST_TICK.search(b'"%b"' % _time_of(message)):
        return "future", "the time is the last tick of the year 9999"
    return "bad_time", f"{text}; {_TIMES}"


def _time_of(message: Message) -> bytes:
    """The time as it stands in the attributes, or in the body."""
    for decode in (msgspec.json.decode, msgspec.msgpack.decode):
        try:
            sent = message.attributes.get("time") or decode(message.body, type=_Times).time
        except (ValueError, RecursionError):
            continue
        return str(sent).encode()
    return b""


def _envelope_is_sound(message: Message) -> bool:
    try:
        envelope_of(message)
    except (ValueError, RecursionError, Reject):
        return False
    return True


def _out_of_range(text: str) -> bool:
    """Every bound is worded by msgspec as an inequality after the type's name."""
    return "out of range" in text or bool(_bound(text))


def _has_lone_surrogate(body: bytes) -> bool:
    """Whether an escape stands for half of a pair, in the body or in the base64 inside of it."""
    return any(_lone(text) for text in (body, *_embedded(body)))


def _lone(text: bytes) -> bool:
    """A high half waits for a low one, which must follow at once."""
    waits_at = -1
    for found in _escape(text):
        half = found[1][:2].lower() if found[1] else b""
        high, low = half in _HIGH, half in _LOW
        if (waits_at >= 0 and not (low and found.start() == waits_at)) or (low and waits_at < 0):
            return True
        waits_at = found.end() if high else -1
    return waits_at >= 0


def _embedded(body: bytes) -> Iterator[bytes]:
    try:
        found = msgspec.json.decode(body, type=_Embedded).data_base64
        if found:
            yield base64.b64decode(found)
    except (ValueError, RecursionError):
        return
