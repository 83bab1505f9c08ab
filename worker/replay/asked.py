"""What a replay was asked for. Two runs with the same are one run that is continued."""

from collections.abc import Iterator

import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event_type import EventType
from penstock.worker.pipeline.source import Span
from penstock.worker.settings.moments import ago, moment

FILE, POSTGRES = "file", "postgres"
"""Sources beside the brokers."""


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``source`` is a broker's name, ``file`` or ``postgres``; ``stream`` what it calls the thing
    to read, empty for all that PostgreSQL has; ``edition`` tells a file from what it was before.
    ``rebuild`` names the tables that known events are folded into, too. Times are as they were
    typed: 25h ago is the same question an hour later.
    """

    source: str
    stream: str
    from_seq: int | None = None
    since: str | None = None
    to_seq: int | None = None
    until: str | None = None
    subject: str | None = None
    type: str | None = None
    agent: str | None = None
    edition: str = ""
    rebuild: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The same text for the same question."""
        return msgspec.json.encode(self).decode()

    def kinds(self, catalogue: Catalogue) -> Iterator[EventType]:
        """The types that are asked for, as far as their histories are concerned."""
        for kind in catalogue.types.values():
            if self.type in {None, kind.name} and self.stream in {"", kind.stream}:
                yield kind

    @property
    def moves(self) -> bool:
        """Whether the part to read is another one later, because a time is so long ago."""
        return any(text is not None and ago(text) is not None for text in (self.since, self.until))

    def span(self, subjects: tuple[str, ...]) -> Span:
        """The part to read as it is now, narrowed by patterns of subjects."""
        return Span(
            from_offset=self.from_seq,
            since=None if self.since is None else moment(self.since),
            to_offset=self.to_seq,
            until=None if self.until is None else moment(self.until),
            subjects=subjects,
        )
