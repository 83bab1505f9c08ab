"""The event: CloudEvents 1.0 attributes and typed data, on the wire and decoded.

Specification: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
"""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

if TYPE_CHECKING:  # the catalogue is made of what this module declares
    from penstock.schemas.event_type import EventType

Json = Annotated[Any, Meta(extra={"json": True})]
"""Any JSON document. Stored as jsonb without being taken apart."""

Moment = Annotated[datetime, Meta(tz=True)]
"""A point in time with an offset (RFC 3339 on the wire)."""

Text = Annotated[str, Meta(max_length=255)]
"""A short text: a name, a label, a kind."""

Name = Annotated[str, Meta(min_length=1, max_length=255)]
"""A text that is part of a key or tells things apart; never empty."""

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
"""A number from 0 to 1: confidence, trust, proficiency, load."""

Percent = Annotated[float, Meta(ge=0.0, le=100.0)]
"""A number from 0 to 100: quality, progress."""

Priority = Annotated[int, Meta(ge=0, le=9)]
"""0 to 9; higher is more urgent."""

Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
"""A non-negative number that fits PostgreSQL's integer."""

Big = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""A non-negative number that fits PostgreSQL's bigint: milliseconds, bytes, versions."""

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
"""A SHA-256 in small hexadecimal digits: what stands for a secret that does not travel."""

_BYTE = r"(25[0-5]|2[0-4]\d|1?\d?\d)"
_IPV4 = rf"{_BYTE}(\.{_BYTE}){{3}}"

Address = Annotated[
    str,
    Meta(
        pattern=rf"^({_IPV4}|[0-9a-fA-F]{{0,4}}(:[0-9a-fA-F]{{0,4}}){{2,7}}|[0-9a-fA-F:]*:{_IPV4})$",
        max_length=45,
        extra={"sql": "inet"},
    ),
]
"""An IPv4 or IPv6 address; its column is an inet."""


class EventData(msgspec.Struct, frozen=True, kw_only=True):
    """The data of one event type. Subclass it and decorate it with `penstock.schemas.event`.

    The key field travels as the CloudEvents ``subject``, the other fields as ``data``.
    """

    spec: ClassVar[Any]
    """Its `penstock.schemas.mapping.EventSpec`, set by the decorator."""


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """The CloudEvents attributes as they arrive; ``data`` is still undecoded JSON.

    Unknown extension attributes are allowed, as the specification demands, and ignored. An optional
    attribute that is null is absent.
    """

    specversion: Literal["1.0"]
    id: Annotated[str, Meta(min_length=1, max_length=255)]
    source: Annotated[str, Meta(min_length=1, max_length=1024)]
    type: Annotated[str, Meta(min_length=1, max_length=255)]
    time: Moment
    subject: Annotated[str, Meta(min_length=1, max_length=255)]
    data: Raw | UnsetType = UNSET
    data_base64: str | None = None
    sequence: int | str | None = 0
    actor: Annotated[str, Meta(max_length=255)] | None = None
    project: Annotated[str, Meta(max_length=255)] | None = None
    correlationid: Annotated[str, Meta(max_length=255)] | None = None
    causationid: Annotated[str, Meta(max_length=255)] | None = None
    traceparent: Annotated[str, Meta(max_length=255)] | None = None
    datacontenttype: Annotated[str, Meta(max_length=255)] | None = None


class Event(msgspec.Struct, frozen=True, gc=False):
    """One decoded fact.

    ``id`` is the canonical UUID that `penstock.schemas.identity.event_uuid` gives, ``entity`` the
    CloudEvents subject as sent, ``version`` the ``sequence`` (0 when absent), ``data`` what
    ``kind.decode`` gives and ``raw`` the JSON of the data as sent, unknown fields included: a view
    into the message, which asyncpg and hashlib take like bytes; empty where no row has it.
    """

    kind: "EventType"
    id: str
    time: datetime
    entity: str
    version: int
    source: str
    actor: str | None
    project: str | None
    corr: str | None
    cause: str | None
    data: Any
    raw: Raw

    @property
    def guard(self) -> tuple[int, datetime, str]:
        """The total order of events about one entity: the greater one wins."""
        return (self.version, self.time, self.id)
