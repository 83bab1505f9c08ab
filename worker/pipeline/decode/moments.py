"""The times of an event: inside the window where they pick a partition, and real times.

The two ends of the calendar are none: Go's zero time and .NET's ``MinValue`` are the first moment
of the year 1, ``MaxValue`` is the last tick of 9999. In an optional field they are stored as NULL
(`penstock.schemas.rows`, docs/decisions/0023-ends-of-the-calendar.md), in a required one refused.
"""

import re
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Raw

from penstock.schemas.event_type import EventType
from penstock.schemas.rows import FIRST, LAST
from penstock.worker.pipeline.decode.reasons import Reject

Span = tuple[datetime, datetime]
"""The earliest and the latest time that an event may have."""

_LAST_TEXT = Raw(b'"9999-12-31T23:59:59.999999Z"')
LAST_TICK = re.compile(rb'"9999-12-31[Tt ]23:59:59\.9{6}[5-9]\d*(?:[Zz]|[+-]\d\d:\d\d)"')
"""Seven digits and more, as .NET writes them: rounded to microseconds, it is in no year we know."""


def check_times(kind: EventType, data: Any, span: Span) -> None:
    """Raise Reject if a time that must be there is none, or lies where no partition is kept."""
    for field in kind.partition_fields:
        inside(kind.name, getattr(data, field), span)
    for field in kind.required_moments:
        moment = getattr(data, field)
        if not FIRST < moment < LAST:
            raise Reject("bad_time", f"{moment.isoformat()} stands for no time; {field} needs one")


def inside(name: str, moment: datetime, span: Span) -> None:
    """Raise Reject if an event of type ``name`` may not have a time like ``moment``."""
    earliest, latest = span
    if moment > latest:
        raise Reject("future", f"{moment.isoformat()} is after {latest.isoformat()}")
    if moment < earliest:
        raise Reject("out_of_window", f"{moment.isoformat()} is older than {name} is kept")


def decode_last_ticks(kind: EventType, raw: Raw, error: msgspec.ValidationError) -> Any:
    """The data of ``raw``, whose last ticks cannot be read; raises ``error`` if it has none."""
    fields = msgspec.json.decode(raw, type=dict[str, Raw])
    last = [name for name in kind.moments if LAST_TICK.fullmatch(fields.get(name, Raw(b"")))]
    if not last:
        raise error
    fields.update(dict.fromkeys(last, _LAST_TEXT))
    return kind.decode(msgspec.json.encode(fields))
