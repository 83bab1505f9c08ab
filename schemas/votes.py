"""Events about votes. The key, and so the subject's second token, is the voting session."""

from typing import Annotated

from msgspec import Meta

from penstock.schemas.event import Big, Count, EventData, Json, Moment, Share, Text
from penstock.schemas.identity import AgentId, VoteSessionId
from penstock.schemas.mapping import (
    EVENT_ID,
    KEY_TEXT,
    OCCURRED_AT,
    Derive,
    Field,
    Log,
    Ref,
    Upsert,
    event,
)
from penstock.schemas.vocabulary import LongText, Title, VoteSessionStatus, VotingAlgorithm

Options = Annotated[list[Text], Meta(max_length=1000)]
Weight = Annotated[float, Meta(ge=0.0)]

QUESTION = (
    "topic",
    "question",
    "algorithm",
    "options",
    "eligible",
    "quorum",
    "threshold",
    "token_budget",
    "opened_by",
    "deadline",
)
OUTCOME = ("status", "closed_at", "closed_by", "close_reason")
BALLOT = (
    "session_id",
    "agent_id",
    "option",
    "ranking",
    "confidence",
    "tokens",
    "weight",
    "reasoning",
    "signature",
    "retracted",
)

SESSION = ("session_id",)
IDENTITY = {"external_id": KEY_TEXT}
ENDING = {
    **IDENTITY,
    "closed_at": OCCURRED_AT,
    "closed_by": Field("by"),
    "close_reason": Field("reason"),
}
RESULT = (Derive("collab.settle", SESSION),)
VOTER = (Ref("session_id", "collab.vote_session"), Ref("agent_id", "agents.agent"))


@event(
    "votes.opened",
    key="session_id",
    history=Log("collab"),
    states=(
        Upsert(
            table="collab.vote_session",
            key=SESSION,
            first=QUESTION,
            last=OUTCOME,
            guard="status",
            once=("external_id",),
            values={**IDENTITY, "status": VoteSessionStatus.OPEN},
        ),
    ),
    derive=RESULT,
)
class VoteOpened(EventData, frozen=True, kw_only=True):
    """A question was put to the vote."""

    session_id: VoteSessionId
    topic: Title
    algorithm: VotingAlgorithm
    options: Options
    question: LongText | None = None
    eligible: Count | None = None
    quorum: Share | None = None
    threshold: Share | None = None
    token_budget: Big | None = None
    opened_by: Text | None = None
    deadline: Moment | None = None


@event(
    "votes.cast",
    key="session_id",
    history=Log("collab"),
    states=(
        Upsert(
            table="collab.ballot",
            key=("ballot_id",),
            last=BALLOT,
            values={"ballot_id": EVENT_ID, "retracted": False},
        ),
    ),
    refs=VOTER,
    derive=RESULT,
)
class VoteCast(EventData, frozen=True, kw_only=True):
    """An agent voted; the last ballot before the vote is closed counts."""

    session_id: VoteSessionId
    agent_id: AgentId
    option: Text | None = None
    ranking: Options | None = None
    confidence: Share | None = None
    tokens: Big | None = None
    weight: Weight | None = None
    reasoning: LongText | None = None
    signature: LongText | None = None


@event(
    "votes.retracted",
    key="session_id",
    history=Log("collab"),
    states=(
        Upsert(
            table="collab.ballot",
            key=("ballot_id",),
            last=BALLOT,
            values={"ballot_id": EVENT_ID, "retracted": True},
        ),
    ),
    refs=VOTER,
    derive=RESULT,
)
class VoteRetracted(EventData, frozen=True, kw_only=True):
    """An agent took its ballot back."""

    session_id: VoteSessionId
    agent_id: AgentId


class Ending(EventData, frozen=True, kw_only=True):
    """Who ended a vote, and why."""

    session_id: VoteSessionId
    by: Text | None = None
    reason: LongText | None = None


@event(
    "votes.closed",
    key="session_id",
    history=Log("collab"),
    states=(
        Upsert(
            table="collab.vote_session",
            key=SESSION,
            last=OUTCOME,
            guard="status",
            once=("external_id",),
            values={**ENDING, "status": VoteSessionStatus.CLOSED},
        ),
    ),
    derive=RESULT,
)
class VoteClosed(Ending, frozen=True, kw_only=True):
    """No more ballots are taken; the result can be counted."""


@event(
    "votes.cancelled",
    key="session_id",
    history=Log("collab"),
    states=(
        Upsert(
            table="collab.vote_session",
            key=SESSION,
            last=OUTCOME,
            guard="status",
            once=("external_id",),
            values={**ENDING, "status": VoteSessionStatus.CANCELLED},
        ),
    ),
    derive=RESULT,
)
class VoteCancelled(Ending, frozen=True, kw_only=True):
    """A vote was called off; nothing will be counted."""


@event("votes.tallied", key="session_id", history=Log("collab"))
class VoteTallied(EventData, frozen=True, kw_only=True):
    """Penstock counted a closed vote, for the first time or with another result."""

    session_id: VoteSessionId
    outcome: Text
    winner: Text | None = None
    results: Json = None
