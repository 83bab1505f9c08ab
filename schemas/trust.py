"""Events about whom agents trust. The key, and so the subject's second token, is who trusts."""

from typing import Annotated

from msgspec import Meta

from penstock.schemas.event import (
    Big,
    Event,
    EventData,
    Name,
    Share,
    Text,
)
from penstock.schemas.identity import (
    AgentId,
    RunId,
    TaskId,
)
from penstock.schemas.mapping import OCCURRED_AT, Computed, Log, Ref, Upsert, event
from penstock.schemas.vocabulary import (
    LongText,
    TrustOutcome,
)

Weight = Annotated[int, Meta(ge=1, le=1000)]

MILLION = 1_000_000
"""Edges count in millionths: the sum of floats depends on their order."""

EDGE = ("from_agent", "to_agent")

BETWEEN = (Ref("from_agent", "agents.agent"), Ref("to_agent", "agents.agent"))


def weight_if_positive(e: Event) -> Big:
    """The weight of a good experience, 0 of a bad one."""
    return _weight(e) if e.data.outcome is TrustOutcome.POSITIVE else 0


def weight_if_negative(e: Event) -> Big:
    """The weight of a bad experience, 0 of a good one."""
    return _weight(e) if e.data.outcome is TrustOutcome.NEGATIVE else 0


def _weight(e: Event) -> int:
    weight: int = e.data.weight
    return weight * MILLION


def rating_for(e: Event) -> Big:
    """What a rating says for the other agent."""
    rating: float = e.data.rating
    return round(rating * MILLION)


def rating_against(e: Event) -> Big:
    """What it says against it."""
    return MILLION - rating_for(e)


def _edge(positive: object, negative: object) -> Upsert:
    return Upsert(
        table="trust.edge",
        key=EDGE,
        add=("positive", "negative", "interactions"),
        max=("last_at",),
        values={
            "positive": positive,
            "negative": negative,
            "interactions": 1,
            "last_at": OCCURRED_AT,
        },
    )


@event(
    "trust.interacted",
    key="from_agent",
    history=Log("trust"),
    states=(_edge(Computed(weight_if_positive), Computed(weight_if_negative)),),
    refs=BETWEEN,
)
class TrustInteracted(EventData, frozen=True, kw_only=True):
    """An agent had a good or a bad experience with another."""

    from_agent: AgentId
    to_agent: AgentId
    outcome: TrustOutcome
    weight: Weight = 1
    task_id: TaskId | None = None


@event(
    "trust.rated",
    key="from_agent",
    history=Log("trust"),
    states=(
        Upsert(
            table="trust.rating",
            key=(*EDGE, "context_kind", "context_id"),
            last=("rating", "comment"),
        ),
        _edge(Computed(rating_for), Computed(rating_against)),
    ),
    refs=BETWEEN,
)
class TrustRated(EventData, frozen=True, kw_only=True):
    """An agent rated another, in some context."""

    from_agent: AgentId
    to_agent: AgentId
    rating: Share
    context_kind: Name = "general"
    context_id: Text = ""
    comment: LongText | None = None


@event("trust.scored", key="agent_id", history=Log("trust"))
class TrustScored(EventData, frozen=True, kw_only=True):
    """Penstock worked out how far an agent is trusted, as of a full hour."""

    agent_id: AgentId
    run_id: RunId
    eigentrust: Share
    persistence: Share
    competence: Share
    composite: Share
    level: Text | None = None
    trend: float | None = None
