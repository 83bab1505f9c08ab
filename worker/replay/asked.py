"""What a replay was asked for. Two runs with the same are one run that is continued."""

from datetime import datetime

import msgspec

from penstock.worker.pipeline.source import Span

FILE, POSTGRES = "file", "postgres"
"""Sources beside the brokers."""


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``source`` is a broker's name, ``file`` or ``postgres``; ``stream`` what it calls the thing
    to read, empty for all that PostgreSQL has; ``edition`` tells a file from what it was before.
    ``rebuild`` names the tables that known events are folded into, too.
    """

    source: str
    stream: str
    from_seq: int | None = None
    since: datetime | None = None
    to_seq: int | None = None
    until: datetime | None = None
    subject: str | None = None
    type: str | None = None
    agent: str | None = None
    edition: str = ""
    rebuild: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The same text for the same question."""
        return msgspec.json.encode(self).decode()

    def span(self, subjects: tuple[str, ...]) -> Span:
        """The part to read, narrowed by patterns of subjects."""
        return Span(
            from_offset=self.from_seq,
            since=self.since,
            to_offset=self.to_seq,
            until=self.until,
            subjects=subjects,
        )
