"""Bytes to events: what fails becomes a dead letter that says why.

The fast path is `Decoder.decode`; everything below it only runs for messages that are wrong or that
use the rarer encodings (binary mode, MessagePack, escaped text).
"""

import base64
import binascii
import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from urllib.parse import unquote

import msgspec
from msgspec import Raw

from schemas.catalogue import Catalogue, EventType
from schemas.event import Envelope, Event
from schemas.identity import escape, event_uuid
from worker.ports import DeadLetter, Message

REASONS: Mapping[str, str] = {
    "too_large": "the body is larger than max_event_bytes",
    "not_json": "the body is not JSON, or not MessagePack where the content type says so",
    "bad_utf8": "the body is not UTF-8",
    "too_deep": "the body nests deeper than can be read",
    "not_cloudevent": "a CloudEvents attribute is missing or has the wrong type",
    "bad_content_type": "the content type is neither JSON nor MessagePack",
    "bad_id": "the id is empty, longer than 255 characters or not text",
    "missing_time": "there is no time",
    "bad_time": "the time is no RFC 3339 time with an offset",
    "future": "a time lies further ahead than window_future",
    "out_of_window": "a time is older than the tables keep, or than window_past",
    "unknown_type": "no event of this type is in the catalogue",
    "subject_mismatch": "the bus subject is not domain.key.verb of the event's type and subject",
    "invalid_data": "the data does not fit the type",
    "out_of_range": "a number is larger or smaller than it may be",
    "missing_sequence": "the type needs a sequence of 1 or more",
    "nul_character": "a text contains the character NUL, which PostgreSQL cannot store",
    "lone_surrogate": "a text contains half of a surrogate pair, which is no character",
    "row_rejected": "PostgreSQL refuses the row",
    "crashes_workers": "max_crashes workers died while they handled it",
    "internal_error": "Penstock itself failed on this message; please report it",
}
"""Why a message became a dead letter: the closed list, with what each means."""

_OLDEST = datetime(2000, 1, 1, tzinfo=UTC)
_NEWEST = datetime(2100, 1, 1, tzinfo=UTC)
_BIGGEST = 2**63 - 1
_decimal = re.compile(r"[0-9]{1,20}", re.ASCII).fullmatch
_bound = re.compile(r"Expected `(?:int|float)` [<>]").search
_decode_envelope = msgspec.json.Decoder(Envelope).decode


def _utf8(body: bytes) -> bytes:
    """``body``, checked: msgspec does not look at text that it leaves undecoded."""
    if not body.isascii():
        body.decode()
    return body


def _structured(body: bytes) -> Envelope:
    return _decode_envelope(_utf8(body))


class Reject(Exception):
    """The message is wrong: ``reason`` is one of REASONS."""

    def __init__(self, reason: str, error: str) -> None:
        super().__init__(error)
        self.reason = reason
        self.error = error


class Window:
    """The span of time in which events are accepted.

    ``kept`` maps a table to how long it keeps rows, None for ever. ``past`` is "retention" (what
    the event's tables keep), "unlimited" (since the year 2000), or seconds; ``future`` is seconds.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        kept: Mapping[str, timedelta | None],
        *,
        past: str | float = "retention",
        future: float = 300.0,
    ) -> None:
        self._future = timedelta(seconds=future)
        self._past = {
            name: _shortest(kind, kept) if past == "retention" else _fixed(past)
            for name, kind in catalogue.types.items()
        }

    def bounds(self, now: datetime) -> dict[str, tuple[datetime, datetime]]:
        """The earliest and the latest time of every event type, as of ``now``."""
        latest = min(now + self._future, _NEWEST)
        return {
            name: (_OLDEST if past is None else max(now - past, _OLDEST), latest)
            for name, past in self._past.items()
        }


def _fixed(past: str | float) -> timedelta | None:
    return None if isinstance(past, str) else timedelta(seconds=past)


def _shortest(kind: EventType, kept: Mapping[str, timedelta | None]) -> timedelta | None:
    """How long the shortest-lived of the event's tables keeps its row."""
    log_table = getattr(kind.spec.history, "domain", None)
    names = [f"events.log_{log_table}" if log_table else "", *kind.tables]
    spans = [span for name in names if (span := kept.get(name)) is not None]
    return min(spans, default=None)


class Decoder:
    """Decodes messages against a catalogue. Stateless but for the window's bounds."""

    def __init__(self, catalogue: Catalogue, window: Window, *, max_bytes: int) -> None:
        self._types = catalogue.types
        self._window = window
        self._max_bytes = max_bytes
        self._bounds: dict[str, tuple[datetime, datetime]] = {}
        self.tick()

    def tick(self) -> None:
        """Move the window to the present. Call it once per batch."""
        self._bounds = self._window.bounds(datetime.now(UTC))

    def decode(self, message: Message) -> Event | DeadLetter:
        """The event that ``message`` carries, or a dead letter. Never raises for what it holds."""
        try:
            body = message.body
            if len(body) > self._max_bytes:
                _too_large(body, self._max_bytes)
            envelope = _structured(body) if message.plain else _other_mode(message)
            kind = self._types.get(envelope.type)
            if kind is None:
                _unknown_type(envelope.type, self._types)
            raw = envelope.data if envelope.data.__class__ is Raw else _no_data(envelope)
            data = kind.decode(raw)
            subject = envelope.subject
            if message.subject != f"{kind.prefix}{subject}{kind.suffix}" or "." in subject:
                _check_subject(message.subject, kind, subject)
            time = envelope.time
            earliest, latest = self._bounds[kind.name]
            if not earliest <= time <= latest:
                _outside(kind.name, time, latest)
            for field in kind.partition_fields:
                _check_time(kind.name, getattr(data, field), earliest, latest)
            version = envelope.sequence
            if version.__class__ is not int or version or kind.requires_sequence:
                version = _sequence(version, kind)
            if b"\\u" in body or not message.plain:
                _check_text(envelope, raw)
            return Event(
                kind,
                event_uuid(envelope.source, envelope.id),
                time,
                subject,
                version,
                envelope.source,
                envelope.actor,
                envelope.project,
                envelope.correlationid,
                envelope.causationid,
                data,
                bytes(raw),
            )
        except Reject as rejected:
            return _dead_letter(message, rejected.reason, rejected.error)
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            return _dead_letter(message, *_diagnose(message, error))


def _dead_letter(message: Message, reason: str, error: str) -> DeadLetter:
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


def _too_large(body: bytes, limit: int) -> NoReturn:
    raise Reject("too_large", f"{len(body)} bytes, more than max_event_bytes = {limit}")


def _unknown_type(name: str, types: Mapping[str, EventType]) -> NoReturn:
    domain = name.partition(".")[0]
    near = [known for known in types if known.startswith(f"{domain}.")]
    hint = f"known of this domain: {', '.join(near)}" if near else f"unknown domain {domain!r}"
    raise Reject("unknown_type", f"{name!r} is not in the catalogue; {hint}")


def _check_subject(subject: str, kind: EventType, entity: str) -> None:
    expected = f"{kind.prefix}{escape(entity)}{kind.suffix}"
    if subject != expected:
        raise Reject("subject_mismatch", f"delivered on {subject!r}, expected {expected!r}")


def _check_time(name: str, time: datetime, earliest: datetime, latest: datetime) -> None:
    if not earliest <= time <= latest:
        _outside(name, time, latest)


def _outside(name: str, time: datetime, latest: datetime) -> NoReturn:
    if time > latest:
        raise Reject("future", f"{time.isoformat()} is after {latest.isoformat()}")
    raise Reject("out_of_window", f"{time.isoformat()} is older than {name} is kept")


def _sequence(sent: int | str, kind: EventType) -> int:
    """The version: a JSON integer or its decimal text."""
    if isinstance(sent, str):
        if not _decimal(sent):
            raise Reject("not_cloudevent", f"sequence {sent[:40]!r} is not a decimal number")
        sent = int(sent)
    if not 0 <= sent <= _BIGGEST:
        raise Reject("out_of_range", f"sequence {sent} is not in 0..{_BIGGEST}")
    if sent < 1 and kind.requires_sequence:
        raise Reject("missing_sequence", f"{kind.name} needs a sequence of 1 or more")
    return sent


def _no_data(envelope: Envelope) -> Raw:
    """Data that is not JSON in place: base64 in ``data_base64``, or none at all."""
    if envelope.data_base64 is None:
        return Raw(b"{}")
    try:
        body = base64.b64decode(envelope.data_base64, validate=True)
    except binascii.Error as error:
        raise Reject("invalid_data", f"data_base64 is not base64: {error}") from error
    return _data_of(body, envelope.datacontenttype or "application/json")


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _data_of(body: bytes, content_type: str) -> Raw:
    """The data as JSON, from JSON or MessagePack."""
    media = _media_type(content_type)
    if media.endswith(("/json", "+json")):
        return Raw(_utf8(body) or b"{}")
    if media in ("application/msgpack", "application/x-msgpack", "application/vnd.msgpack"):
        return Raw(_to_json(msgspec.msgpack.decode(body)))
    raise Reject("bad_content_type", f"data in {content_type!r}; send JSON or MessagePack")


def _other_mode(message: Message) -> Envelope:
    """An event in binary mode, or structured in an encoding that the content type names."""
    headers = {name.lower(): value for name, value in message.headers.items()}
    attributes = _binary_attributes(headers)
    content_type = headers.get("content-type", "application/cloudevents+json")
    if attributes:
        data = bytes(_data_of(message.body, headers.get("content-type", "application/json")))
        fields = {**attributes, "data": Raw(data)}
        return _decode_envelope(msgspec.json.encode(fields))
    media = _media_type(content_type)
    if media == "application/cloudevents+msgpack":
        return _decode_envelope(_to_json(msgspec.msgpack.decode(message.body)))
    if media.endswith(("/json", "+json")):
        return _structured(message.body)
    raise Reject("bad_content_type", f"{content_type!r}; send application/cloudevents+json")


def _binary_attributes(headers: Mapping[str, str]) -> dict[str, str]:
    """CloudEvents attributes in headers: ``ce-*`` on NATS, ``cloudEvents:*`` or ``_*`` on AMQP."""
    return {
        name[len(prefix) :]: unquote(value)
        for name, value in headers.items()
        for prefix in ("ce-", "cloudevents:", "cloudevents_")
        if name.startswith(prefix)
    }


def _to_json(document: Any) -> bytes:
    for found in _leaves(document):
        if isinstance(found, float) and not math.isfinite(found):
            raise Reject("out_of_range", f"{found} has no JSON form")
    return msgspec.json.encode(document)


def _leaves(document: Any) -> Iterator[Any]:
    """Every key and every scalar of a document, without recursion."""
    waiting = [document]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            waiting.extend(found)
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)
        else:
            yield found


def _check_text(envelope: Envelope, raw: Raw) -> None:
    """Refuse NUL in any text. Only called when the body has an escape, which NUL needs in JSON."""
    texts = [getattr(envelope, name) for name in envelope.__struct_fields__]
    document = msgspec.json.decode(raw)
    for found in (*texts, *_leaves(document)):
        if isinstance(found, str) and "\0" in found:
            raise Reject("nul_character", "a text contains the character NUL")


def _diagnose(message: Message, error: Exception) -> tuple[str, str]:
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
        _ = _structured(message.body) if message.plain else _other_mode(message)
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
        for found in _leaves(document)
    )
