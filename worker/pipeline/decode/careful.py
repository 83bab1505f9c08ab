"""The careful way: one message after the other, every encoding, and letters that say what is wrong.

It decides. The fast way of `decode.decoder` takes what it is sure about, and nothing else.
"""

import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

from msgspec import Raw, ValidationError

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Envelope, Event
from penstock.schemas.event_type import EventType
from penstock.schemas.identity import escape, event_uuid
from penstock.worker.pipeline.decode.bounds import (
    SHORTEST,
    check_large,
    check_numbers,
    may_explode,
    smallest,
)
from penstock.worker.pipeline.decode.diagnosis import dead_letter, diagnose
from penstock.worker.pipeline.decode.modes import data_of, envelope_of
from penstock.worker.pipeline.decode.moments import check_times, decode_last_ticks, inside
from penstock.worker.pipeline.decode.reading import UNKEPT, Reading, reading_of
from penstock.worker.pipeline.decode.reasons import Reject
from penstock.worker.pipeline.decode.window import Window
from penstock.worker.pipeline.ports import DeadLetter, Message

BIGGEST = 2**63 - 1
_escaped = re.compile(rb"\\u").search
_TICK_SECONDS = 1.0
_decimal = re.compile(r"-?[0-9]+", re.ASCII).fullmatch
_DIGITS = 20
_nul = re.compile(rb"(?<!\\)(?:\\\\)*+\\u0000").search

_WHOLE = ("__class__",)
"""A name that always holds something which is no JSON: the whole data is looked at."""

OnUnknown = Callable[[str, Sequence[str]], None]
"""Told of an event type and the fields that an event had beside those of its type."""


class CarefulDecoder:
    """Decodes messages against a catalogue. ``readings`` says how, of every event type, and moves
    with time. ``on_unknown`` is told of fields that an event's type does not have, once a second
    and type.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        window: Window,
        *,
        max_bytes: int,
        on_unknown: OnUnknown | None = None,
    ) -> None:
        self._types = catalogue.types
        self._window = window
        self._max_bytes = max_bytes
        self._small = smallest(max_bytes)
        self._on_unknown = on_unknown
        self.readings: dict[str, Reading] = {}
        self._next_tick = 0.0

    def tick(self) -> None:
        """Move the window to the present, and look for unknown fields, once a second at most."""
        now = time.monotonic()
        if now >= self._next_tick:
            spans = self._window.bounds(datetime.now(UTC))
            self.readings = {n: reading_of(kind, spans[n]) for n, kind in self._types.items()}
            self._next_tick = now + _TICK_SECONDS

    def _decode_again(self, kind: EventType, raw: Raw) -> Any:
        """Data that `EventType.decode_known` refuses: with other fields, or with a last tick.

        For the rest of the second the type's unknown fields are ignored at no cost.
        """
        try:
            data = kind.decode(raw)
        except ValidationError as again:
            if kind.keeps_raw:
                check_numbers(raw)
            return decode_last_ticks(kind, raw, again)
        if self._on_unknown is not None and (unknown := kind.unknown_fields(raw)):
            self._on_unknown(kind.name, unknown)
        free = _WHOLE if kind.keeps_raw else kind.free
        reading = self.readings[kind.name]
        self.readings[kind.name] = reading._replace(decode=kind.decode, free=free)
        return data

    def decode(self, messages: Sequence[Message]) -> list[Event | DeadLetter]:
        """The event that each message carries, or a dead letter; never raises for what it holds."""
        self.tick()
        documents: list[Raw] = []
        outcomes = [self._outcome(message, documents) for message in messages]
        if documents and may_explode(documents):
            return list(map(_with_checked_numbers, messages, outcomes))
        return outcomes

    def _outcome(self, message: Message, documents: list[Raw]) -> Event | DeadLetter:
        """``documents`` gets what is stored as it was sent and holds numbers."""
        try:
            return self._event(message, documents)
        except Reject as rejected:
            return dead_letter(message, rejected.reason, rejected.error)
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            return dead_letter(message, *diagnose(message, error))

    def _event(self, message: Message, documents: list[Raw]) -> Event:
        if len(message.body) > self._max_bytes:
            _too_large(message.body, self._max_bytes)
        envelope = envelope_of(message)
        reading = self.readings.get(envelope.type) or _unknown_type(envelope.type, self.readings)
        kind, sent = reading.kind, envelope.data
        raw = sent if isinstance(sent, Raw) else data_of(envelope)
        data, free = self._data(reading, raw)
        if free:
            documents += _with_numbers(free, data, raw)
        if len(raw) > self._small:
            check_large(raw, self._max_bytes)
        _check_subject(message.subject, kind, envelope.subject)
        span = reading.earliest, reading.latest
        inside(kind.name, envelope.time, span)
        if reading.has_times:
            check_times(kind, data, span)
        version = sequence_of(envelope.sequence, kind)
        told = "\0" in envelope.subject  # by the bus subject, where it may be escaped
        if told or not message.plain or raw is not sent or _escaped(message.body):
            _check_text(envelope, raw)
        return _event_of(kind, envelope, version, data, raw)

    def _data(self, reading: Reading, raw: Raw) -> tuple[Any, Sequence[str]]:
        """The data, and its fields that may hold a number as it was sent: these are looked at last,
        so that the reason of a message does not depend on those before it.
        """
        try:
            return reading.decode(raw), reading.free
        except ValidationError:
            data = self._decode_again(reading.kind, raw)
            return data, _WHOLE if reading.kind.keeps_raw else reading.free


def _event_of(kind: EventType, envelope: Envelope, version: int, data: Any, raw: Raw) -> Event:
    return Event(
        kind,
        event_uuid(envelope.source, envelope.id),
        envelope.time,
        envelope.subject,
        version,
        envelope.source,
        envelope.actor,
        envelope.project,
        envelope.correlationid,
        envelope.causationid,
        data,
        raw if kind.keeps_raw else UNKEPT,
    )


def _with_numbers(free: Sequence[str], data: Any, raw: Raw) -> Iterator[Raw]:
    """What of the data is stored as it was sent, and may hold a number that is."""
    for name in free:
        value = getattr(data, name)
        if value.__class__ is not Raw:
            if value is not None:  # a float is stored as it was sent, too
                yield raw
        elif len(value) > SHORTEST:
            yield value


def _with_checked_numbers(message: Message, outcome: Event | DeadLetter) -> Event | DeadLetter:
    if isinstance(outcome, Event):
        kind = outcome.kind
        try:
            for name in ("",) if kind.keeps_raw else kind.free:
                check_numbers(getattr(outcome.data, name) if name else outcome.raw)
        except Reject as rejected:
            return dead_letter(message, rejected.reason, rejected.error)
    return outcome


def _too_large(body: bytes, limit: int) -> NoReturn:
    raise Reject("too_large", f"{len(body)} bytes, more than max_event_bytes = {limit}")


def _unknown_type(name: str, types: Collection[str]) -> NoReturn:
    domain = name.partition(".")[0]
    near = [known for known in types if known.startswith(f"{domain}.")]
    hint = f"known of this domain: {', '.join(near)}" if near else f"unknown domain {domain!r}"
    raise Reject("unknown_type", f"{name!r} is not in the catalogue; {hint}")


def _check_subject(subject: str, kind: EventType, entity: str) -> None:
    if subject == f"{kind.prefix}{entity}{kind.suffix}" and "." not in entity:
        return
    expected = f"{kind.prefix}{escape(entity)}{kind.suffix}"
    if subject != expected:
        raise Reject("subject_mismatch", f"delivered on {subject!r}, expected {expected!r}")


def sequence_of(sent: int | str | None, kind: EventType) -> int:
    """The version: a JSON integer or its decimal text; null is 0, as if it were absent."""
    sent = sent or 0
    if isinstance(sent, str):
        if not _decimal(sent):
            raise Reject("not_cloudevent", f"sequence {sent[:40]!r} is not a decimal number")
        sent = int(sent) if len(sent) <= _DIGITS else -1
    if not 0 <= sent <= BIGGEST:
        raise Reject("out_of_range", f"sequence {sent} is not in 0..{BIGGEST}")
    if sent < 1 and kind.requires_sequence:
        raise Reject("missing_sequence", f"{kind.name} needs a sequence of 1 or more")
    return sent


def _check_text(envelope: Envelope, raw: Raw) -> None:
    """Refuse NUL in any text. Only called when the body has an escape, which NUL needs in JSON."""
    texts = [getattr(envelope, name) for name in envelope.__struct_fields__]
    if _nul(raw) or any(isinstance(found, str) and "\0" in found for found in texts):
        raise Reject("nul_character", "a text contains the character NUL")
