"""The span of time in which events are accepted."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event_type import EventType

_OLDEST = datetime(2000, 1, 1, tzinfo=UTC)
_NEWEST = datetime(2100, 1, 1, tzinfo=UTC)


class Window:
    """The span of time in which events are accepted.

    ``kept`` maps a table to how long it keeps rows, None for ever. ``past`` is "retention" (what
    the event's tables keep), "unlimited" (since the year 2000), or seconds; ``future`` is seconds.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        kept: Mapping[str, timedelta | None],
        *,
        past: str | float = "retention",
        future: float = 300.0,
    ) -> None:
        self._types = catalogue.types
        self._reaching = past
        self._future = timedelta(seconds=future)
        self.keep(kept)

    def keep(self, kept: Mapping[str, timedelta | None]) -> None:
        """Go by what the tables keep from now on."""
        past = self._reaching
        self._past = {
            name: _shortest(kind, kept) if past == "retention" else _fixed(past)
            for name, kind in self._types.items()
        }

    def bounds(self, now: datetime) -> dict[str, tuple[datetime, datetime]]:
        """The earliest and the latest time of every event type, as of ``now``."""
        latest = min(now + self._future, _NEWEST)
        return {
            name: (_OLDEST if past is None else max(now - past, _OLDEST), latest)
            for name, past in self._past.items()
        }


def _fixed(past: str | float) -> timedelta | None:
    return None if isinstance(past, str) else timedelta(seconds=past)


def _shortest(kind: EventType, kept: Mapping[str, timedelta | None]) -> timedelta | None:
    """How long the shortest-lived of the event's tables keeps its row."""
    names = {kind.history.relation, *kind.tables} if kind.history else kind.tables
    spans = [span for name in names if (span := kept.get(name)) is not None]
    return min(spans, default=None)
