"""An agent's own state, as it is read back."""

from datetime import datetime
from typing import Any

import msgspec

from penstock.worker.errors import PenstockError


class StateMissing(PenstockError):
    """There is no such key, it was deleted, or it has expired. The message names it."""


class StateValue(msgspec.Struct, frozen=True):
    """A value as last committed: ``version`` is the event's sequence, ``updated`` its time.

    ``omitted`` is 0, or the size in bytes of a value that was too large for the bucket.
    """

    value: Any = msgspec.field(name="val", default=None)
    version: int = msgspec.field(name="v", default=0)
    updated: datetime | None = msgspec.field(name="t", default=None)
    expires: datetime | None = msgspec.field(name="exp", default=None)
    checksum: str | None = msgspec.field(name="sum", default=None)
    omitted: int = 0
