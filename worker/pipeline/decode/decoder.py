"""The fast way from bytes to events: many of one type at once.

Bodies are grouped by the type that their bus subject names, read by `decode.records` and checked by
`decode.together`. Whatever is odd in any respect, wrong or not, goes the careful way
(`decode.careful`), that message alone; so does all that is not plain JSON. Both ways say the same
of every message, which tests/property/test_decoding.py holds them to.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.worker.pipeline.decode.bounds import smallest
from penstock.worker.pipeline.decode.careful import CarefulDecoder, OnUnknown
from penstock.worker.pipeline.decode.reading import Reading
from penstock.worker.pipeline.decode.reasons import Reject
from penstock.worker.pipeline.decode.records import Read, reader
from penstock.worker.pipeline.decode.together import (
    check_bodies,
    check_numbers_of,
    check_subjects,
    check_times_of,
    settle_ids,
    settle_versions,
)
from penstock.worker.pipeline.decode.window import Window
from penstock.worker.pipeline.messages import Messages, as_columns
from penstock.worker.pipeline.ports import DeadLetter, Message

_TOGETHER = 64
"""Messages in one look: so few that they stay in the processor's cache from one check to the next.
"""

Cell = TypeVar("Cell")


class Decoder:
    """Decodes messages against a catalogue. Stateless but for the window, which moves with time.

    ``on_unknown`` is told of fields that an event's type does not have, once a second and type.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        window: Window,
        *,
        max_bytes: int,
        on_unknown: OnUnknown | None = None,
    ) -> None:
        self._careful = CarefulDecoder(
            catalogue, window, max_bytes=max_bytes, on_unknown=on_unknown
        )
        self._max_bytes = max_bytes
        self._small = smallest(max_bytes)
        self._readers: dict[tuple[str, bool], Read] = {}

    def decode(self, messages: Sequence[Message]) -> list[Event | DeadLetter]:
        """The event that each message carries, or a dead letter; never raises for what it holds."""
        self._careful.tick()
        columns = as_columns(messages)
        found: list[Any] = [None] * len(columns)
        for name, places in grouped(columns):
            reading = self._careful.readings.get(name)
            if reading is None:
                continue
            for at in range(0, len(places), _TOGETHER):
                some = places[at : at + _TOGETHER]
                subjects, bodies = pick(columns.subjects, some), pick(columns.bodies, some)
                for place, event in zip(some, self._events(reading, subjects, bodies), strict=True):
                    found[place] = event
        odd = [place for place, event in enumerate(found) if event is None]
        outcomes = self._careful.decode([columns[place] for place in odd]) if odd else ()
        for place, outcome in zip(odd, outcomes, strict=True):
            found[place] = outcome
        return found

    def _events(
        self, reading: Reading, subjects: Sequence[str], bodies: Sequence[bytes]
    ) -> Sequence[Event | None]:
        """The events of a few bodies that should be of one type; None for the odd ones."""
        events, failed = read_all(self._reader(reading), bodies)
        if not failed and self._sound(reading, events, subjects, bodies):
            return events
        read = [n for n, event in enumerate(events) if event is not None]
        if failed and self._sound(
            reading, *[pick(column, read) for column in (events, subjects, bodies)]
        ):
            return events
        found: list[Event | None] = [None] * len(events)
        for n in read:
            if self._sound(reading, [events[n]], [subjects[n]], [bodies[n]]):
                found[n] = events[n]
        return found

    def _reader(self, reading: Reading) -> Read:
        chosen = (reading.kind.name, reading.lenient)
        found = self._readers.get(chosen)
        if found is None:
            found = self._readers[chosen] = reader(reading.kind, lenient=reading.lenient)
        return found

    def _sound(
        self,
        reading: Reading,
        events: Sequence[Event],
        subjects: Sequence[str],
        bodies: Sequence[bytes],
    ) -> bool:
        """True if all of them are surely what the careful way would find. An id or a sequence that
        they state in another form is then in the form that is stored.
        """
        try:
            check_bodies(bodies, self._small, self._max_bytes)
            check_subjects(reading.kind, [event.entity for event in events], subjects)
            check_times_of(reading, events)
            settle_versions(reading, events)
            settle_ids(events)
            check_numbers_of(reading, events)
        except (ValueError, Reject):
            return False
        return True


def grouped(messages: Messages) -> Iterator[tuple[str, Sequence[int]]]:
    """The places of the messages of each type, as their bus subjects say. What is not plain has no
    type. A subject may be wrong: what it says is to be checked.
    """
    subjects, special, count = messages.subjects, messages.special, len(messages)
    if count and not special and (name := _all_of(subjects)):
        yield name, range(count)
        return
    groups: dict[str, list[int]] = defaultdict(list)
    names = _Names()
    for place, subject in enumerate(subjects):
        if place not in special:
            groups[names[subject]].append(place)
    yield from groups.items()


class _Names(dict[str, str]):
    """The types that subjects name. In most batches the same few come again and again."""

    def __missing__(self, subject: str) -> str:
        tokens = subject.split(".")
        name = self[subject] = f"{tokens[0]}.{tokens[-1]}"
        return name


def _all_of(subjects: Sequence[str]) -> str | None:
    """The type that all subjects name, if they name one."""
    text, others = "\n".join(subjects), len(subjects) - 1
    tokens = subjects[0].split(".")
    domain, verb = tokens[0], tokens[-1]
    same = text.count(f".{verb}\n") >= others and text.count(f"\n{domain}.") >= others
    return f"{domain}.{verb}" if same else None


def pick(column: Sequence[Cell], places: Sequence[int]) -> Sequence[Cell]:
    """The cells at these places."""
    if isinstance(places, range):
        return column[places.start : places.stop]
    return [column[place] for place in places]


def read_all(read: Read, bodies: Sequence[bytes]) -> tuple[list[Any], bool]:
    """What ``read`` makes of each body, None where it raises; and whether it raised for any."""
    events: list[Event | None] = []
    waiting, failed = map(read, bodies), False
    while len(events) < len(bodies):
        try:
            events.extend(waiting)
        except (ValueError, RecursionError):  # all before that body are in the list
            events.append(None)
            failed = True
    return events, failed
