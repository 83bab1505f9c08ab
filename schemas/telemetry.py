"""Events of measuring: samples of metrics, errors, health and requests.

The key is what was measured or where it happened, as its producer calls it.
"""

from typing import Annotated

from msgspec import Meta, Struct

from penstock.schemas.event import Address, Big, Count, EventData, Json, Moment, Name, Text
from penstock.schemas.identity import AccountId, AgentId, ErrorId
from penstock.schemas.mapping import (
    CORR,
    EVENT_ID,
    INDEX,
    OCCURRED_AT,
    History,
    Item,
    Upsert,
    event,
)
from penstock.schemas.vocabulary import (
    HealthStatus,
    LongText,
    MetricKind,
    MetricScope,
    Severity,
    Title,
)

_MOST = 1e100
Reading = Annotated[float, Meta(ge=-_MOST, le=_MOST)]
"""A number that was measured; any number of them has a sum that a float can hold."""

FACTS = ("source", "agent_id", "kind", "code", "message", "stack", "context", "severity")
END = ("resolved_at", "resolved_by", "resolution")
ERROR = ("error_id", "raised_at")


class Sample(Struct, frozen=True, kw_only=True):
    """One reading. ``tags`` tell series of the same name apart; ``unit`` is the producer's word."""

    name: Name
    value: Reading
    kind: MetricKind = MetricKind.GAUGE
    unit: Text | None = None
    tags: dict[Text, Text] | None = None


@event(
    "metrics.recorded",
    key="entity",
    states=(
        Upsert(
            table="telemetry.metric",
            key=("event_id", "n", "occurred_at"),
            each="samples",
            once=("scope", "entity", "agent_id", "name", "kind", "value", "unit", "tags"),
            values={
                "event_id": EVENT_ID,
                "n": INDEX,
                "occurred_at": OCCURRED_AT,
                **{field: Item(field) for field in ("name", "kind", "value", "unit", "tags")},
            },
        ),
    ),
)
class MetricsRecorded(EventData, frozen=True, kw_only=True):
    """Samples of one entity, all taken at the time of the event.

    Some tens or hundreds of them in an event cost the least; another time is another event.
    """

    entity: Name
    scope: MetricScope
    samples: Annotated[list[Sample], Meta(min_length=1, max_length=10_000)]
    agent_id: AgentId | None = None


@event(
    "errors.raised",
    key="source",
    states=(Upsert(table="telemetry.error", key=ERROR, first=FACTS),),
)
class ErrorRaised(EventData, frozen=True, kw_only=True):
    """An agent or a service met an error. ``kind`` is its word for it, such as the exception."""

    source: Name
    error_id: ErrorId
    raised_at: Moment
    kind: Text
    message: LongText
    agent_id: AgentId | None = None
    code: Text | None = None
    stack: LongText | None = None
    context: Json = None
    severity: Severity = Severity.MEDIUM


@event(
    "errors.resolved",
    key="source",
    states=(
        Upsert(table="telemetry.error", key=ERROR, last=END, values={"resolved_at": OCCURRED_AT}),
    ),
)
class ErrorResolved(EventData, frozen=True, kw_only=True):
    """An error is over; ``error_id`` and ``raised_at`` are those of `errors.raised`."""

    source: Name
    error_id: ErrorId
    raised_at: Moment
    resolved_by: Text | None = None
    resolution: LongText | None = None


@event(
    "health.checked",
    key="subject",
    history=History(
        "telemetry.health_check",
        ("subject", "agent_id", "name", "status", "response_ms", "details"),
    ),
)
class HealthChecked(EventData, frozen=True, kw_only=True):
    """Somebody looked how well ``subject`` is; ``name`` says by which check."""

    subject: Name
    name: Text
    status: HealthStatus
    agent_id: AgentId | None = None
    response_ms: Big | None = None
    details: Json = None


@event(
    "requests.logged",
    key="service",
    history=History(
        "telemetry.request",
        (
            "service",
            "method",
            "path",
            "status",
            "duration_ms",
            "account_id",
            "agent_id",
            "ip",
            "corr",
        ),
        {"corr": CORR},
    ),
)
class RequestLogged(EventData, frozen=True, kw_only=True):
    """A service answered a request; ``path`` without what is secret in it."""

    service: Name
    method: Text
    path: Title
    status: Count
    duration_ms: Big
    account_id: AccountId | None = None
    agent_id: AgentId | None = None
    ip: Address | None = None
