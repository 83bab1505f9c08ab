"""Bytes to events: what fails becomes a dead letter that says why.

The fast path is `Decoder.decode`; everything below it only runs for messages that are wrong or that
use the rarer encodings (binary mode, MessagePack, escaped text).
"""

import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import msgspec
from msgspec import Raw

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Envelope, Event
from penstock.schemas.event_type import EventType
from penstock.schemas.identity import escape, event_uuid
from penstock.worker.pipeline.decode.diagnosis import dead_letter, diagnose
from penstock.worker.pipeline.decode.modes import data_of, leaves, other_mode, structured
from penstock.worker.pipeline.decode.reasons import Reject
from penstock.worker.pipeline.decode.window import Window
from penstock.worker.pipeline.ports import DeadLetter, Message

_BIGGEST = 2**63 - 1
_BACKSLASH = 0x5C
_escaped = re.compile(rb"\\u").search
"""Looking for one byte comes first: it is fastest. For two, this is twice as fast as ``in``."""
_TICK_SECONDS = 1.0
_decimal = re.compile(r"[0-9]{1,20}", re.ASCII).fullmatch


class Decoder:
    """Decodes messages against a catalogue. Stateless but for the window, which moves with time."""

    def __init__(self, catalogue: Catalogue, window: Window, *, max_bytes: int) -> None:
        self._types = catalogue.types
        self._window = window
        self._max_bytes = max_bytes
        self._bounds: dict[str, tuple[datetime, datetime]] = {}
        self._next_tick = 0.0

    def _tick(self) -> None:
        """Move the window to the present, once a second at most."""
        now = time.monotonic()
        if now >= self._next_tick:
            self._bounds = self._window.bounds(datetime.now(UTC))
            self._next_tick = now + _TICK_SECONDS

    def decode(self, messages: Sequence[Message]) -> list[Event | DeadLetter]:  # noqa: C901 (hot)
        """The event that each message carries, or a dead letter; never raises for what it holds."""
        self._tick()
        types, bounds, max_bytes = self._types, self._bounds, self._max_bytes
        outcomes: list[Event | DeadLetter] = []
        for message in messages:
            try:
                body = message.body
                if len(body) > max_bytes:
                    _too_large(body, max_bytes)
                plain = message.plain
                envelope = structured(body) if plain else other_mode(message)
                kind = types.get(envelope.type)
                if kind is None:
                    _unknown_type(envelope.type, types)
                raw = envelope.data
                if raw.__class__ is not Raw:
                    raw = data_of(envelope)
                data = kind.decode(raw)
                subject = envelope.subject
                if message.subject != f"{kind.prefix}{subject}{kind.suffix}" or "." in subject:
                    _check_subject(message.subject, kind, subject)
                moment = envelope.time
                earliest, latest = bounds[kind.name]
                if not earliest <= moment <= latest:
                    _outside(kind.name, moment, latest)
                if kind.partition_fields:
                    _check_times(kind, data, earliest, latest)
                version = envelope.sequence
                if version.__class__ is not int or version or kind.requires_sequence:
                    version = _sequence(version, kind)
                if not plain or (_BACKSLASH in body and _escaped(body)):
                    _check_text(envelope, raw)
                source = envelope.source
                outcomes.append(
                    Event(
                        kind,
                        event_uuid(source, envelope.id),
                        moment,
                        subject,
                        version,
                        source,
                        envelope.actor,
                        envelope.project,
                        envelope.correlationid,
                        envelope.causationid,
                        data,
                        raw,
                    )
                )
            except Reject as rejected:
                outcomes.append(dead_letter(message, rejected.reason, rejected.error))
            except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
                outcomes.append(dead_letter(message, *diagnose(message, error)))
        return outcomes


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


def _check_times(kind: EventType, data: Any, earliest: datetime, latest: datetime) -> None:
    for field in kind.partition_fields:
        moment = getattr(data, field)
        if not earliest <= moment <= latest:
            _outside(kind.name, moment, latest)


def _outside(name: str, moment: datetime, latest: datetime) -> NoReturn:
    if moment > latest:
        raise Reject("future", f"{moment.isoformat()} is after {latest.isoformat()}")
    raise Reject("out_of_window", f"{moment.isoformat()} is older than {name} is kept")


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


def _check_text(envelope: Envelope, raw: Raw) -> None:
    """Refuse NUL in any text. Only called when the body has an escape, which NUL needs in JSON."""
    texts = [getattr(envelope, name) for name in envelope.__struct_fields__]
    document = msgspec.json.decode(raw)
    for found in (*texts, *leaves(document)):
        if isinstance(found, str) and "\0" in found:
            raise Reject("nul_character", "a text contains the character NUL")
