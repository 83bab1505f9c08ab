"""Events of brainstorming. The key, and so the subject's second token, is the session."""

from typing import Annotated

from msgspec import Meta

from penstock.schemas.event import EventData, Json, Share, Text
from penstock.schemas.identity import AgentId, BrainstormId, IdeaId
from penstock.schemas.mapping import KEY_TEXT, OCCURRED_AT, Field, Log, Ref, Upsert, event
from penstock.schemas.vocabulary import IdeaTarget, LongText, Title, VoteSessionStatus

Ballot = Annotated[float, Meta(ge=-1.0, le=1.0)]
"""From -1, against it, to 1, for it."""

Tags = Annotated[list[Text], Meta(max_length=1000)]

OUTCOME = ("status", "closed_at", "closed_by", "close_reason")
IDEA = ("session_id", "agent_id", "content", "category", "tags")
COMBINATION = ("session_id", "agent_id", "idea_ids", "content", "synergy")
SCORE = ("quality", "novelty", "feasibility")
VOTE = ("session_id", "target_kind", "value", "comment")

SESSION = ("session_id",)
PARTICIPANT = ("session_id", "agent_id")
IDENTITY = {"external_id": KEY_TEXT}
OF_SESSION = (Ref("session_id", "collab.brainstorm"), Ref("agent_id", "agents.agent"))

ACTIVE = Upsert(
    table="collab.participant",
    key=PARTICIPANT,
    max=("last_active",),
    values={"last_active": OCCURRED_AT},
)
"""Who acts takes part, joined or not."""


@event(
    "ideas.session_opened",
    key="session_id",
    history=Log("collab"),
    states=(
        Upsert(
            table="collab.brainstorm",
            key=SESSION,
            first=("topic", "facilitator_id", "limits"),
            last=OUTCOME,
            guard="status",
            once=("external_id",),
            values={**IDENTITY, "status": VoteSessionStatus.OPEN},
        ),
    ),
    refs=(Ref("facilitator_id", "agents.agent"),),
)
class BrainstormOpened(EventData, frozen=True, kw_only=True):
    """Agents began to look for ideas.

    ``limits`` are what they agreed on, such as a time or a number of ideas; nothing enforces them.
    """

    session_id: BrainstormId
    topic: Title
    facilitator_id: AgentId | None = None
    limits: Json = None


@event(
    "ideas.session_closed",
    key="session_id",
    history=Log("collab"),
    states=(
        Upsert(
            table="collab.brainstorm",
            key=SESSION,
            last=OUTCOME,
            guard="status",
            once=("external_id",),
            values={
                **IDENTITY,
                "status": VoteSessionStatus.CLOSED,
                "closed_at": OCCURRED_AT,
                "closed_by": Field("by"),
                "close_reason": Field("reason"),
            },
        ),
    ),
)
class BrainstormClosed(EventData, frozen=True, kw_only=True):
    """A brainstorming session ended; ideas that come later are kept all the same."""

    session_id: BrainstormId
    by: Text | None = None
    reason: LongText | None = None


@event(
    "ideas.joined",
    key="session_id",
    history=Log("collab"),
    states=(
        Upsert(
            table="collab.participant",
            key=PARTICIPANT,
            min=("joined_at",),
            max=("last_active",),
            values={"joined_at": OCCURRED_AT, "last_active": OCCURRED_AT},
        ),
    ),
    refs=OF_SESSION,
)
class BrainstormJoined(EventData, frozen=True, kw_only=True):
    """An agent takes part in a session."""

    session_id: BrainstormId
    agent_id: AgentId


@event(
    "ideas.submitted",
    key="session_id",
    history=Log("collab"),
    states=(Upsert(table="collab.idea", key=("idea_id",), first=IDEA), ACTIVE),
    refs=OF_SESSION,
)
class IdeaSubmitted(EventData, frozen=True, kw_only=True):
    """An agent had an idea."""

    session_id: BrainstormId
    idea_id: IdeaId
    agent_id: AgentId
    content: LongText
    category: Text | None = None
    tags: Tags | None = None


@event(
    "ideas.combined",
    key="session_id",
    history=Log("collab"),
    states=(
        Upsert(table="collab.idea_combination", key=("combination_id",), first=COMBINATION),
        ACTIVE,
    ),
    refs=OF_SESSION,
)
class IdeasCombined(EventData, frozen=True, kw_only=True):
    """An agent made one idea of several.

    ``synergy``, 0 to 1, is how much more the whole is than its parts. A combination may be combined
    again: it shares its ids with ideas.
    """

    session_id: BrainstormId
    combination_id: IdeaId
    agent_id: AgentId
    idea_ids: Annotated[list[IdeaId], Meta(max_length=1000)]
    content: LongText
    synergy: Share | None = None


@event(
    "ideas.scored",
    key="session_id",
    history=Log("collab"),
    states=(Upsert(table="collab.idea", key=("idea_id",), last=SCORE, guard="score"),),
)
class IdeaScored(EventData, frozen=True, kw_only=True):
    """An idea was judged, each time as a whole; all scores are from 0 to 1."""

    session_id: BrainstormId
    idea_id: IdeaId
    quality: Share | None = None
    novelty: Share | None = None
    feasibility: Share | None = None


@event(
    "ideas.voted",
    key="session_id",
    history=Log("collab"),
    states=(
        Upsert(table="collab.idea_vote", key=("target_id", "agent_id"), last=VOTE),
        ACTIVE,
    ),
    refs=OF_SESSION,
)
class IdeaVoted(EventData, frozen=True, kw_only=True):
    """An agent is for or against an idea or a combination; its last vote counts."""

    session_id: BrainstormId
    target_id: IdeaId
    target_kind: IdeaTarget
    agent_id: AgentId
    value: Ballot
    comment: LongText | None = None
