"""One thing that somebody in the company says."""

from datetime import datetime

import msgspec

from penstock.schemas.event import EventData
from penstock.worker.publisher.encoding import Attributes


class Said(msgspec.Struct, frozen=True):
    """An event, when it occurred, who said it, and in which project."""

    at: datetime
    event: EventData
    actor: str
    project: str | None = None

    @property
    def kind(self) -> str:
        """The event's type."""
        return str(self.event.spec.name)

    def attributes(self, event_id: str) -> Attributes:
        """The envelope. Where a type needs a sequence, it is the time: a company that is told again
        an hour later goes on where it was.
        """
        counted = getattr(self.event, "requires_sequence", False)
        return Attributes(
            id=event_id,
            time=self.at,
            source="/seed",
            sequence=int(self.at.timestamp() * 1000) if counted else 0,
            actor=self.actor,
            project=self.project,
        )
