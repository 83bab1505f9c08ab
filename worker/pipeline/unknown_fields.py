"""Fields that an event's type does not have: counted, and logged once per type."""

from collections.abc import Sequence

import structlog

from penstock.worker.pipeline.metrics import Metrics

log = structlog.get_logger()

_SHOWN = 40
"""Characters of a field's name in the log."""


class UnknownFields:
    """What producers send and nobody stores."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._named: set[str] = set()

    def seen(self, event_type: str, names: Sequence[str]) -> None:
        """Count them, and name them in the log when their type first shows some."""
        self._metrics.unknown_fields(event_type)
        if event_type not in self._named:
            self._named.add(event_type)
            shown = [name[:_SHOWN] for name in names[:5]]
            log.warning("unknown_fields", type=event_type, fields=shown)
