"""Events about mentorship. The key is the pairing, or the curriculum."""

from typing import Annotated

from msgspec import Meta

from penstock.schemas.event import Count, EventData, Json, Moment, Percent, Share, Text
from penstock.schemas.identity import AgentId, CurriculumId, PairingId, entity_uuid
from penstock.schemas.mapping import KEY_TEXT, Field, Log, Ref, Upsert, event
from penstock.schemas.vocabulary import LongText, PairingStatus, TaskStatus, Title

Goals = Annotated[list[Text], Meta(max_length=1000)]

STATUS = ("status", "ended_at", "end_reason")
SESSION = (
    "topic",
    "scheduled_at",
    "started_at",
    "ended_at",
    "status",
    "objectives",
    "met",
    "mentor_rating",
    "mentee_rating",
    "notes",
)
CURRICULUM = ("skill", "level", "title", "objectives", "assessment_tasks")

PAIRING = ("pairing_id",)
IDENTITY = {"external_id": KEY_TEXT}
OF_PAIRING = Ref("pairing_id", "mentorship.pairing")


@event(
    "mentorships.paired",
    key="pairing_id",
    history=Log("merit"),
    states=(
        Upsert(
            table="mentorship.pairing",
            key=PAIRING,
            first=("mentor_id", "mentee_id", "skill", "total_sessions"),
            last=STATUS,
            guard="status",
            once=("external_id",),
            values={**IDENTITY, "status": PairingStatus.ACTIVE},
        ),
    ),
    refs=(Ref("mentor_id", "agents.agent"), Ref("mentee_id", "agents.agent")),
)
class MentorshipPaired(EventData, frozen=True, kw_only=True):
    """An agent will teach another one a skill.

    ``total_sessions`` is how many sessions are planned; without it, it is open.
    """

    pairing_id: PairingId
    mentor_id: AgentId
    mentee_id: AgentId
    skill: Text
    total_sessions: Count | None = None

    def __post_init__(self) -> None:
        if entity_uuid("agent", self.mentor_id) == entity_uuid("agent", self.mentee_id):
            raise ValueError(
                f"mentor_id {self.mentor_id!r} and mentee_id {self.mentee_id!r} are one agent; "
                "nobody is paired with itself"
            )


@event(
    "mentorships.status_changed",
    key="pairing_id",
    history=Log("merit"),
    states=(
        Upsert(
            table="mentorship.pairing",
            key=PAIRING,
            last=STATUS,
            guard="status",
            once=("external_id",),
            values={**IDENTITY, "end_reason": Field("reason")},
        ),
    ),
)
class MentorshipStatusChanged(EventData, frozen=True, kw_only=True):
    """A pairing was paused, taken up again, or ended."""

    pairing_id: PairingId
    status: PairingStatus
    ended_at: Moment | None = None
    reason: LongText | None = None


@event(
    "mentorships.session_recorded",
    key="pairing_id",
    history=Log("merit"),
    states=(Upsert(table="mentorship.session", key=("pairing_id", "number"), last=SESSION),),
    refs=(OF_PAIRING,),
)
class MentorshipSessionRecorded(EventData, frozen=True, kw_only=True):
    """A session of a pairing was planned, held or called off; it is stated as a whole.

    ``number`` tells the sessions of a pairing apart, ``met`` are the objectives that were reached,
    the ratings go from 0 to 1.
    """

    pairing_id: PairingId
    number: Count
    status: TaskStatus
    topic: Title | None = None
    scheduled_at: Moment | None = None
    started_at: Moment | None = None
    ended_at: Moment | None = None
    objectives: Goals | None = None
    met: Goals | None = None
    mentor_rating: Share | None = None
    mentee_rating: Share | None = None
    notes: LongText | None = None


@event(
    "mentorships.progress_reported",
    key="pairing_id",
    history=Log("merit"),
    states=(
        Upsert(
            table="mentorship.progress",
            key=("pairing_id", "curriculum_id"),
            last=("progress", "mastery", "assessment_score"),
        ),
    ),
    refs=(OF_PAIRING, Ref("curriculum_id", "mentorship.curriculum")),
)
class MentorshipProgressReported(EventData, frozen=True, kw_only=True):
    """How far a mentee has come in a curriculum; progress and score are in percent."""

    pairing_id: PairingId
    curriculum_id: CurriculumId
    progress: Percent
    mastery: Text | None = None
    assessment_score: Percent | None = None


@event(
    "mentorships.curriculum_defined",
    key="curriculum_id",
    history=Log("merit"),
    states=(
        Upsert(
            table="mentorship.curriculum",
            key=("curriculum_id",),
            last=CURRICULUM,
            once=("external_id",),
            values=IDENTITY,
        ),
    ),
)
class CurriculumDefined(EventData, frozen=True, kw_only=True):
    """What is to be learnt for a level of a skill; the easiest level has the least number."""

    curriculum_id: CurriculumId
    skill: Text
    level: Count
    title: Title
    objectives: Goals
    assessment_tasks: Json = None
