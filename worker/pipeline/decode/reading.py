"""How the events of a type are read just now."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from msgspec import Raw

from penstock.schemas.event_type import EventType
from penstock.worker.pipeline.decode.moments import Span

UNKEPT = Raw(b"")
"""The raw data of an event whose history does not keep it."""


class Reading(NamedTuple):
    """How the events of one type are read just now."""

    kind: EventType
    decode: Callable[[Raw | bytes], Any]
    prefix: str
    suffix: str
    free: tuple[str, ...]
    """Fields that may hold a number as it was sent: any JSON, and floats of what is kept raw."""
    has_times: bool
    requires_sequence: bool
    earliest: datetime
    latest: datetime

    @property
    def lenient(self) -> bool:
        """Whether fields that the type does not have are ignored, for the rest of a second."""
        return self.decode is self.kind.decode


def reading_of(kind: EventType, span: Span) -> Reading:
    """How, inside ``span``, until an event has a field that its type does not have."""
    return Reading(
        kind,
        kind.decode_known,
        kind.prefix,
        kind.suffix,
        kind.free + (kind.floats if kind.keeps_raw else ()),
        bool(kind.required_moments),
        kind.requires_sequence,
        *span,
    )
