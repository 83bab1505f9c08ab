"""Events about patterns that agents learn and apply, and about what they take to other domains.

The key of ``patterns.*`` is the pattern, that of ``learning.*`` the session.
"""

from typing import Annotated

from msgspec import Meta

from penstock.schemas.event import Count, Event, EventData, Json, Share, Text
from penstock.schemas.identity import AgentId, LearningId, PatternId
from penstock.schemas.mapping import KEY_TEXT, OCCURRED_AT, Computed, Field, Log, Ref, Upsert, event
from penstock.schemas.vocabulary import CognitivePattern, TransferMode

Milliseconds = Annotated[int, Meta(ge=0, le=10**12)]
"""A duration of up to 31 years: the sum of nine million of them fits PostgreSQL's bigint."""

PATTERN = ("kind", "name", "data", "accuracy", "metadata")
PATTERN_KEY = ("pattern_id",)
SESSION = ("session_id",)
IDENTITY = {"external_id": KEY_TEXT}


def one_if_success(e: Event) -> Count:
    """What a use adds to the number of successes."""
    return 1 if e.data.success else 0


@event(
    "patterns.learned",
    key="pattern_id",
    history=Log("knowledge"),
    states=(
        Upsert(
            table="knowledge.pattern",
            key=PATTERN_KEY,
            last=PATTERN,
            once=("external_id",),
            values=IDENTITY,
        ),
    ),
)
class PatternLearned(EventData, frozen=True, kw_only=True):
    """A way of solving problems, stated as a whole; ``data`` has the form of whoever applies it.

    ``accuracy`` is from 0 to 1.
    """

    pattern_id: PatternId
    kind: CognitivePattern
    name: Text
    data: Json
    accuracy: Share | None = None
    metadata: Json = None


@event(
    "patterns.applied",
    key="pattern_id",
    history=Log("knowledge"),
    states=(
        Upsert(
            table="knowledge.pattern",
            key=PATTERN_KEY,
            add=("usage_count", "success_count", "duration_sum_ms"),
            max=("last_used",),
            once=("external_id",),
            values={
                **IDENTITY,
                "usage_count": 1,
                "success_count": Computed(one_if_success),
                "duration_sum_ms": Field("duration_ms"),
                "last_used": OCCURRED_AT,
            },
        ),
    ),
)
class PatternApplied(EventData, frozen=True, kw_only=True):
    """An agent used a pattern, with or without success; ``duration_ms`` is in milliseconds."""

    pattern_id: PatternId
    agent_id: AgentId
    success: bool
    duration_ms: Milliseconds
    error_type: Text | None = None


@event(
    "learning.started",
    key="session_id",
    history=Log("knowledge"),
    states=(
        Upsert(
            table="knowledge.learning_session",
            key=SESSION,
            first=("agent_id", "source_domain", "target_domain", "transfer_mode"),
            once=("external_id",),
            values=IDENTITY,
        ),
    ),
    refs=(Ref("agent_id", "agents.agent"),),
)
class LearningStarted(EventData, frozen=True, kw_only=True):
    """An agent began to take what it knows of one domain to another; the session begins now."""

    session_id: LearningId
    agent_id: AgentId
    source_domain: Text
    target_domain: Text
    transfer_mode: TransferMode = TransferMode.ADAPTIVE


@event(
    "learning.finished",
    key="session_id",
    history=Log("knowledge"),
    states=(
        Upsert(
            table="knowledge.learning_session",
            key=SESSION,
            last=("metrics", "improvement", "completed_at"),
            guard="outcome",
            once=("external_id",),
            values={**IDENTITY, "completed_at": OCCURRED_AT},
        ),
    ),
)
class LearningFinished(EventData, frozen=True, kw_only=True):
    """A learning session ended; ``improvement`` is in the producer's unit, below 0 it is worse."""

    session_id: LearningId
    metrics: Json = None
    improvement: float | None = None
