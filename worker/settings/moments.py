"""Points in time as people write them: RFC 3339 with its offset, or how long ago, as in ``25h``."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

from penstock.worker.settings.kinds import duration


def moment(text: str) -> datetime:
    """The time that ``text`` means now. Raises ValueError, which says how to write one."""
    if (before := ago(text)) is not None:
        return datetime.now(UTC) - before
    with suppress(ValueError):
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found
    raise ValueError(
        f"{text!r} is no time with an offset, as in 2026-01-31T12:00:00Z, and no time ago, as in "
        "25h"
    )


def ago(text: str) -> timedelta | None:
    """How long ago ``text`` is; None if that is not how it says a time."""
    with suppress(ValueError):
        return timedelta(seconds=duration().parse(text))
    return None
