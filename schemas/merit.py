"""Events about what agents have earned: points, achievements, honours, rewards; battles are apart.

The key, and so the subject's second token, is what an event is about: the agent, the achievement,
the resource or the allocation.
"""

from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated

from msgspec import Meta

from penstock.schemas.event import Big, Count, Event, EventData, Json, Moment, Name, Text
from penstock.schemas.identity import AchievementId, AgentId, AllocationId, BattleId, TaskId
from penstock.schemas.mapping import (
    ACTOR,
    CORR,
    KEY_TEXT,
    OCCURRED_AT,
    OCCURRED_DAY,
    Computed,
    Derive,
    History,
    Log,
    Ref,
    Upsert,
    event,
)
from penstock.schemas.vocabulary import AchievementCategory, AllocationKind, LongText, Title

Points = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
"""Awarded points; below 0 they are taken."""

Signed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Factor = Annotated[float, Meta(ge=0.0, le=1000.0)]
ACHIEVEMENT = (
    "name",
    "category",
    "description",
    "requirements",
    "points_reward",
    "rarity",
    "repeatable",
)
ALLOCATION = ("agent_id", "kind", "resource_type", "amount", "reason", "tier", "expires_at")
EARNED = ("agent_id", "achievement_id")

IDENTITY = {"external_id": KEY_TEXT}
OF_AGENT = (Ref("agent_id", "agents.agent"),)
UNLOCKING = (Ref("achievement_id", "merit.achievement"), *OF_AGENT)
NAMED = Upsert(
    table="merit.achievement", key=("achievement_id",), once=("external_id",), values=IDENTITY
)


def final_points(e: Event) -> Signed:
    """Base points times multiplier, rounded half away from zero: here, and nowhere else."""
    exact = Decimal(e.data.base_points) * Decimal(repr(e.data.multiplier))
    return int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))


FINAL_POINTS = Computed(final_points)


@event(
    "points.awarded",
    key="agent_id",
    history=History(
        "merit.points",
        columns=(
            "agent_id",
            "category",
            "action",
            "base_points",
            "multiplier",
            "final_points",
            "task_id",
            "battle_id",
            "actor",
            "corr",
        ),
        values={"final_points": FINAL_POINTS, "actor": ACTOR, "corr": CORR},
    ),
    states=(
        Upsert(
            table="merit.standing",
            key=("agent_id",),
            add=("total_points",),
            max=("last_points_at",),
            values={"total_points": FINAL_POINTS, "last_points_at": OCCURRED_AT},
        ),
        Upsert(
            table="merit.active_day",
            key=("agent_id", "streak_type", "day"),
            min=("first_at",),
            values={"streak_type": "points", "day": OCCURRED_DAY, "first_at": OCCURRED_AT},
        ),
    ),
    refs=OF_AGENT,
    derive=(Derive("merit.grade", ("agent_id",)),),
)
class PointsAwarded(EventData, frozen=True, kw_only=True):
    """An agent was awarded points, or some were taken."""

    agent_id: AgentId
    category: Text
    action: Text
    base_points: Points
    multiplier: Factor = 1.0
    task_id: TaskId | None = None
    battle_id: BattleId | None = None


@event(
    "achievements.defined",
    key="achievement_id",
    history=Log("merit"),
    states=(
        Upsert(
            table="merit.achievement",
            key=("achievement_id",),
            last=ACHIEVEMENT,
            once=("external_id",),
            values=IDENTITY,
        ),
    ),
)
class AchievementDefined(EventData, frozen=True, kw_only=True):
    """What an achievement asks for, and what it is worth."""

    achievement_id: AchievementId
    name: Text
    category: AchievementCategory
    requirements: Json
    points_reward: Count
    description: LongText | None = None
    rarity: Text | None = None
    repeatable: bool = False


@event(
    "achievements.progressed",
    key="achievement_id",
    history=Log("merit"),
    states=(
        NAMED,
        Upsert(table="merit.agent_achievement", key=EARNED, last=("progress",), guard="progress"),
    ),
    refs=UNLOCKING,
)
class AchievementProgressed(EventData, frozen=True, kw_only=True):
    """How far an agent is on the way to an achievement."""

    achievement_id: AchievementId
    agent_id: AgentId
    progress: Json


@event(
    "achievements.unlocked",
    key="achievement_id",
    history=Log("merit"),
    states=(
        NAMED,
        Upsert(
            table="merit.agent_achievement",
            key=EARNED,
            add=("unlock_count",),
            min=("first_unlocked",),
            max=("last_unlocked",),
            values={
                "unlock_count": 1,
                "first_unlocked": OCCURRED_AT,
                "last_unlocked": OCCURRED_AT,
            },
        ),
    ),
    refs=UNLOCKING,
)
class AchievementUnlocked(EventData, frozen=True, kw_only=True):
    """An agent has an achievement, perhaps once more."""

    achievement_id: AchievementId
    agent_id: AgentId
    details: Json = None


@event(
    "leaderboards.inducted",
    key="agent_id",
    history=Log("merit"),
    states=(
        Upsert(
            table="merit.hall_of_fame",
            key=("agent_id", "tier"),
            first=("title", "badge", "citation"),
            min=("inducted_at",),
            values={"inducted_at": OCCURRED_AT},
        ),
    ),
    refs=OF_AGENT,
)
class AgentInducted(EventData, frozen=True, kw_only=True):
    """An agent was taken into the hall of fame."""

    agent_id: AgentId
    tier: Name
    title: Title
    badge: Text | None = None
    citation: LongText | None = None


@event(
    "rewards.pool_defined",
    key="resource_type",
    history=Log("merit"),
    states=(Upsert("merit.resource_pool", key=("resource_type",), last=("capacity", "rules")),),
)
class ResourcePoolDefined(EventData, frozen=True, kw_only=True):
    """How much of a resource there is to give out."""

    resource_type: Name
    capacity: Big
    rules: Json = None


@event(
    "rewards.allocated",
    key="allocation_id",
    history=Log("merit"),
    states=(
        Upsert(
            table="merit.allocation",
            key=("allocation_id",),
            first=ALLOCATION,
            once=("external_id",),
            values=IDENTITY,
        ),
    ),
    refs=OF_AGENT,
)
class RewardAllocated(EventData, frozen=True, kw_only=True):
    """An agent was given a resource, a permission or a priority."""

    allocation_id: AllocationId
    agent_id: AgentId
    kind: AllocationKind
    resource_type: Text
    amount: Big | None = None
    reason: LongText | None = None
    tier: Text | None = None
    expires_at: Moment | None = None


@event(
    "rewards.revoked",
    key="allocation_id",
    history=Log("merit"),
    states=(
        Upsert(
            table="merit.allocation",
            key=("allocation_id",),
            min=("revoked_at",),
            once=("external_id",),
            values={**IDENTITY, "revoked_at": OCCURRED_AT},
        ),
    ),
)
class RewardRevoked(EventData, frozen=True, kw_only=True):
    """What was given was taken back."""

    allocation_id: AllocationId
    reason: LongText | None = None


@event("agents.tier_changed", key="agent_id", history=Log("merit"))
class AgentTierChanged(EventData, frozen=True, kw_only=True):
    """Penstock found an agent in another tier, by its points."""

    agent_id: AgentId
    total_points: Signed
    old: Text | None = None
    new: Text | None = None


@event("leaderboards.computed", key="category", history=Log("merit"))
class LeaderboardComputed(EventData, frozen=True, kw_only=True):
    """Penstock ranked the agents anew, and something changed."""

    category: Name
    period: Text
    period_start: Text
    rows: Count
