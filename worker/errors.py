"""Errors, classed by what the caller must do: retry, reject, or stop."""

from collections.abc import Sequence
from enum import StrEnum


class Cause(StrEnum):
    """What stands behind an error, for whoever has to say what helps."""

    AWAY = "away"
    LOGIN = "login"
    RIGHT = "right"
    MISSING = "missing"
    BUSY = "busy"
    SLOW = "slow"
    OTHER = "other"


class PenstockError(Exception):
    """Every error that Penstock raises on purpose. ``cause`` is set where it is known."""

    cause = Cause.OTHER

    def __init__(self, message: str = "", *, cause: Cause = Cause.OTHER) -> None:
        super().__init__(message)
        self.cause = cause


class Unavailable(PenstockError):
    """A server is away, overloaded or shutting down. Retry later; the data is not at fault."""


class SourceUnavailable(Unavailable):
    """The message bus does not answer."""


class SinkUnavailable(Unavailable):
    """PostgreSQL does not answer, or cannot do it now (lock, deadlock, disk, shutdown)."""


class StateStoreUnavailable(Unavailable):
    """The KV bucket does not answer."""


class RowRejected(PenstockError):
    """PostgreSQL refuses the data itself. Never retry; find the row and keep it as a dead letter.

    ``code`` is the SQLSTATE, or the class name of a driver error without one; ``reason`` is the one
    of `decode.REASONS` that describes it best.
    """

    def __init__(self, code: str, message: str, reason: str = "row_rejected") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.reason = reason


class NoRoomForLetters(PenstockError):
    """More messages are wrong than ``letters_max`` lets be kept: return ``messages`` to the broker,
    and store the others.
    """

    def __init__(self, messages: Sequence[object], limit: int) -> None:
        super().__init__(
            f"{limit} dead letters are open, which is letters_max: requeue or discard some with "
            "`penstock dlq`, or raise letters_max"
        )
        self.messages = messages


class PartitionMissing(PenstockError):
    """A row falls into a period that no partition covers yet. Create it, then retry."""


class SettingsError(PenstockError):
    """A setting is unknown or wrong. The message names the key, the value and what was expected."""


class MigrationError(PenstockError):
    """The database schema is not what the migration files say. A person must act."""


class TopologyError(PenstockError):
    """A stream, consumer or bucket is missing or differs from what is needed. A person must act."""
