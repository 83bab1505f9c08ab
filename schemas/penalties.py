"""Events about violations, appeals against them, and retraining.

The key, and so the subject's second token, is the violation, appeal or program.
"""

from typing import Annotated

from msgspec import Meta

from penstock.schemas.event import Count, EventData, Json, Moment, Percent, Text
from penstock.schemas.identity import AgentId, AppealId, RetrainingId, TaskId, ViolationId
from penstock.schemas.mapping import KEY_TEXT, OCCURRED_AT, Field, Log, Ref, Upsert, event
from penstock.schemas.vocabulary import (
    AppealStatus,
    LongText,
    TaskStatus,
    ViolationKind,
    ViolationStatus,
)

Severity = Annotated[int, Meta(ge=1, le=5)]

VIOLATION = ("agent_id", "kind", "severity", "description", "task_id", "evidence")
REVIEW = ("status", "penalty_points", "reviewed_by", "reviewed_at", "review_notes")
DECISION = ("status", "decision", "reviewed_by", "adjusted_penalty", "decided_at")
PROGRESS = ("status", "progress", "pre_assessment", "post_assessment", "completed_at")
IDENTITY = {"external_id": KEY_TEXT}


@event(
    "penalties.violation_recorded",
    key="violation_id",
    history=Log("trust"),
    states=(
        Upsert(
            table="trust.violation",
            key=("violation_id",),
            first=VIOLATION,
            last=REVIEW,
            guard="review",
            once=("external_id",),
            values={**IDENTITY, "status": ViolationStatus.OPEN},
        ),
    ),
    refs=(Ref("agent_id", "agents.agent"), Ref("task_id", "tasks.task")),
)
class ViolationRecorded(EventData, frozen=True, kw_only=True):
    """An agent is said to have broken a rule."""

    violation_id: ViolationId
    agent_id: AgentId
    kind: ViolationKind
    severity: Severity
    description: LongText
    penalty_points: Count | None = None
    task_id: TaskId | None = None
    evidence: Json = None


@event(
    "penalties.violation_reviewed",
    key="violation_id",
    history=Log("trust"),
    states=(
        Upsert(
            table="trust.violation",
            key=("violation_id",),
            last=REVIEW,
            guard="review",
            once=("external_id",),
            values={**IDENTITY, "reviewed_at": OCCURRED_AT, "review_notes": Field("notes")},
        ),
    ),
)
class ViolationReviewed(EventData, frozen=True, kw_only=True):
    """Somebody judged a violation; the penalty is stated anew."""

    violation_id: ViolationId
    status: ViolationStatus
    reviewed_by: Text
    notes: LongText | None = None
    penalty_points: Count | None = None


@event(
    "penalties.appeal_filed",
    key="appeal_id",
    history=Log("trust"),
    states=(
        Upsert(
            table="trust.appeal",
            key=("appeal_id",),
            first=("violation_id", "agent_id", "grounds"),
            last=DECISION,
            guard="decision",
            once=("external_id",),
            values={**IDENTITY, "status": AppealStatus.PENDING},
        ),
    ),
    refs=(Ref("violation_id", "trust.violation"), Ref("agent_id", "agents.agent")),
)
class AppealFiled(EventData, frozen=True, kw_only=True):
    """An agent appealed against a violation."""

    appeal_id: AppealId
    violation_id: ViolationId
    agent_id: AgentId
    grounds: LongText | None = None


@event(
    "penalties.appeal_decided",
    key="appeal_id",
    history=Log("trust"),
    states=(
        Upsert(
            table="trust.appeal",
            key=("appeal_id",),
            last=DECISION,
            guard="decision",
            once=("external_id",),
            values={**IDENTITY, "decided_at": OCCURRED_AT},
        ),
    ),
)
class AppealDecided(EventData, frozen=True, kw_only=True):
    """How an appeal ended, or where it stands."""

    appeal_id: AppealId
    status: AppealStatus
    reviewed_by: Text
    decision: LongText | None = None
    adjusted_penalty: Count | None = None


@event(
    "penalties.retraining_assigned",
    key="program_id",
    history=Log("trust"),
    states=(
        Upsert(
            table="trust.retraining",
            key=("program_id",),
            first=("agent_id", "violation_id", "program_type", "curriculum"),
            last=PROGRESS,
            guard="progress",
            once=("external_id",),
            values={**IDENTITY, "status": TaskStatus.ASSIGNED},
        ),
    ),
    refs=(Ref("agent_id", "agents.agent"), Ref("violation_id", "trust.violation")),
)
class RetrainingAssigned(EventData, frozen=True, kw_only=True):
    """An agent has to be retrained."""

    program_id: RetrainingId
    agent_id: AgentId
    program_type: Text
    violation_id: ViolationId | None = None
    curriculum: Json = None


@event(
    "penalties.retraining_progressed",
    key="program_id",
    history=Log("trust"),
    states=(
        Upsert(
            table="trust.retraining",
            key=("program_id",),
            last=PROGRESS,
            guard="progress",
            once=("external_id",),
            values=IDENTITY,
        ),
    ),
)
class RetrainingProgressed(EventData, frozen=True, kw_only=True):
    """How far a retraining is."""

    program_id: RetrainingId
    status: TaskStatus
    progress: Percent | None = None
    pre_assessment: Json = None
    post_assessment: Json = None
    completed_at: Moment | None = None
