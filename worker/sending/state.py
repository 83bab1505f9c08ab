"""An agent's own state, as whoever keeps it gives it out."""

from datetime import datetime
from typing import Any

import msgspec

from penstock.worker.errors import PenstockError


class StateMissing(PenstockError):
    """There is no such key, it was deleted, or it has expired. The message names it."""


class StateValue(msgspec.Struct, frozen=True):
    """A value as last committed: ``version`` is the event's sequence, ``updated`` its time.

    ``omitted`` is 0, or the size of a value that the bucket could not take.
    """

    value: Any = msgspec.field(name="val", default=None)
    version: int = msgspec.field(name="v", default=0)
    updated: datetime | None = msgspec.field(name="t", default=None)
    expires: datetime | None = msgspec.field(name="exp", default=None)
    checksum: str | None = msgspec.field(name="sum", default=None)
    omitted: int = 0
