"""Checks of many messages of one type in one look each.

A check raises where one of them may be odd: then they are looked at singly, and the odd ones go the
careful way, which decides. So a check may be too strict, but must never let pass what the careful
way would not take as it is.
"""

import re
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

from msgspec import Raw

from penstock.schemas.event import Event
from penstock.schemas.event_type import EventType
from penstock.schemas.identity import all_canonical, escape, event_uuid
from penstock.worker.pipeline.decode.bounds import SHORTEST, check_large, may_explode
from penstock.worker.pipeline.decode.careful import BIGGEST, sequence_of
from penstock.worker.pipeline.decode.moments import check_times
from penstock.worker.pipeline.decode.reading import Reading
from penstock.worker.pipeline.decode.records import restate

_BACKSLASH = 0x5C
_nul = re.compile(rb"\\u0000").search
_CACHED_BYTES = 65_536
"""Bodies that are larger together are looked at one by one, where they are."""


class Odd(ValueError):
    """One of the messages may be none that the fast way knows."""


def check_bodies(bodies: Sequence[bytes], small: int, limit: int) -> None:
    """All are UTF-8, without NUL, and no larger with their numbers written out than ``limit``,
    which no body of up to ``small`` bytes can be.
    """
    sizes = list(map(len, bodies))
    together = sum(sizes) <= _CACHED_BYTES
    for text in (b"\n".join(bodies),) if together else bodies:
        if not text.isascii():
            text.decode()
        if _BACKSLASH in text and _nul(text):
            raise Odd
    if max(sizes) > small:
        for body in bodies:
            if len(body) > small:  # its data is no larger
                check_large(Raw(body), limit)


def check_subjects(kind: EventType, entities: Sequence[str], subjects: Sequence[str]) -> None:
    """Every message came on the bus subject of its entity."""
    prefix, suffix, count = kind.prefix, kind.suffix, len(subjects)
    between = f"{suffix}\n{prefix}"
    expected = f"{prefix}{between.join(entities)}{suffix}"
    came = "\n".join(subjects)
    if expected == came and came.count(".") == 2 * count and came.count("\n") == count - 1:
        return  # no entity has a dot, none a line feed, so each line is one message's
    if [f"{prefix}{escape(entity)}{suffix}" for entity in entities] != list(subjects):
        raise Odd


def check_times_of(reading: Reading, events: Sequence[Event]) -> None:
    """All lie in the window, and where a time must be one, it is one."""
    times = [event.time for event in events]
    if min(times) < reading.earliest or max(times) > reading.latest:
        raise Odd
    if reading.has_times:
        for event in events:
            check_times(reading.kind, event.data, (reading.earliest, reading.latest))


def settle_versions(reading: Reading, events: Sequence[Event]) -> None:
    """All are in range; those that were sent as text become numbers."""
    versions = [event.version for event in events]
    if set(map(type, versions)) != {int}:
        for event in events:
            restate(event, version=sequence_of(event.version, reading.kind))
    elif min(versions) < int(reading.requires_sequence) or max(versions) > BIGGEST:
        raise Odd


def settle_ids(events: Sequence[Event]) -> None:
    """All are UUIDs as PostgreSQL writes them; others become such."""
    if not all_canonical([event.id for event in events]):
        for event in events:
            restate(event, id=event_uuid(event.source, event.id))


def check_numbers_of(reading: Reading, events: Sequence[Event]) -> None:
    """No number that is stored as it was sent may have too many digits."""
    if reading.free and may_explode(list(_documents(reading.free, events))):
        raise Odd


def _documents(free: Sequence[str], events: Sequence[Event]) -> Iterator[Raw]:
    datas = [event.data for event in events]
    for name in free:
        column: list[Any] = list(map(attrgetter(name), datas))
        if column[0].__class__ is Raw:
            yield from [found for found in column if len(found) > SHORTEST]
        elif column.count(None) < len(column):  # a float is stored as it was sent, too
            yield from [event.raw for event in events]
            return
