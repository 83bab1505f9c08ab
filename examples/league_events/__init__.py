"""Events of a league in which agents play matches: each word of the mapping language is used."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from penstock.schemas import (
    EVENT_ID,
    INDEX,
    ITEM,
    KEY_TEXT,
    OCCURRED_AT,
    OCCURRED_DAY,
    PROJECT,
    Address,
    AgentId,
    AuditLog,
    Computed,
    Derive,
    Event,
    EventData,
    Field,
    History,
    Hydrate,
    Item,
    Json,
    Log,
    Moment,
    Ref,
    Text,
    Upsert,
    event,
)

SeasonId = Annotated[str, Meta(min_length=1, max_length=255, extra={"id": "season"})]
MatchId = Annotated[str, Meta(min_length=1, max_length=255, extra={"id": "match"})]
Points = Annotated[int, Meta(ge=-1000, le=1000)]
Place = Annotated[int, Meta(ge=1, le=1000)]
Square = Annotated[str, Meta(pattern="^[a-h][1-8]$")]

STREAM = "LEAGUE"
DECIDED = (Derive("league.decide", ("match_id",)),)
"""Who won a match follows from how all its players came off."""


class Phase(StrEnum):
    """How far a match has come."""

    CALLED = "called"
    RUNNING = "running"
    OVER = "over"


class Placing(Struct, frozen=True, kw_only=True):
    """How one agent came off in a match."""

    agent_id: AgentId
    place: Place
    points: Points = 0
    remark: Json = None


class Move(Struct, frozen=True, kw_only=True):
    """One move of a match."""

    agent_id: AgentId
    target: Square
    seconds: float = 0.0


def seconds_played(event: Event) -> int:
    """How long the match took."""
    played = event.data.finished_at - event.data.started_at
    return int(played.total_seconds())


@event(
    "seasons.opened",
    key="season_id",
    stream=STREAM,
    history=History(
        "league.season_event",
        ("season_id", "name", "member_ids", "project_id", "opened_on"),
        {"project_id": PROJECT, "opened_on": OCCURRED_DAY},
    ),
    states=(
        Upsert(
            table="league.season",
            key=("season_id",),
            first=("name", "member_ids", "project_id"),
            once=("external_id",),
            values={"external_id": KEY_TEXT, "project_id": PROJECT},
        ),
    ),
)
class SeasonOpened(EventData, frozen=True, kw_only=True):
    """A season begins."""

    season_id: SeasonId
    name: Text
    member_ids: Annotated[list[AgentId], Meta(max_length=1000)] | None = None


@event(
    "matches.invited",
    key="match_id",
    stream=STREAM,
    history=Log("league"),
    states=(
        Upsert(
            table="league.invitation",
            key=("match_id", "agent_id"),
            each="agent_ids",
            last=("seat", "invited_at"),
            values={"agent_id": ITEM, "seat": INDEX, "invited_at": OCCURRED_AT},
        ),
    ),
    refs=(Ref("match_id", "league.match"), Ref("agent_ids", "agents.agent")),
)
class MatchInvited(EventData, frozen=True, kw_only=True):
    """Agents are asked to play, each in its seat."""

    match_id: MatchId
    agent_ids: Annotated[list[AgentId], Meta(min_length=1, max_length=1000)]


@event(
    "matches.moved",
    key="match_id",
    stream=STREAM,
    states=(
        Upsert(
            table="league.move",
            key=("event_id", "n", "occurred_at"),
            each="moves",
            once=("match_id", "agent_id", "target", "seconds"),
            values={
                "event_id": EVENT_ID,
                "n": INDEX,
                "occurred_at": OCCURRED_AT,
                "agent_id": Item("agent_id"),
                "target": Item("target"),
                "seconds": Item("seconds"),
            },
        ),
    ),
)
class MatchMoved(EventData, frozen=True, kw_only=True):
    """A stretch of a match, move by move."""

    match_id: MatchId
    moves: Annotated[list[Move], Meta(max_length=1000)]


@event(
    "matches.reported",
    key="match_id",
    stream=STREAM,
    history=Log("league"),
    states=(
        Upsert(
            table="league.match",
            key=("match_id",),
            last=("score",),
            rank={"phase": tuple(Phase)},
            once=("external_id",),
            guard="score",
            values={"external_id": KEY_TEXT},
        ),
    ),
    kv=(Hydrate("league.kv_match", ("match_id",), bucket="MATCHES"),),
)
class MatchReported(EventData, frozen=True, kw_only=True):
    """How a match stands; a phase is never gone back from."""

    match_id: MatchId
    phase: Phase
    score: Json = None


@event(
    "matches.played",
    key="match_id",
    stream=STREAM,
    history=Log("league"),
    states=(
        Upsert(
            table="league.match",
            key=("match_id",),
            first=("season_id", "started_at", "finished_at", "seconds"),
            once=("external_id",),
            values={"external_id": KEY_TEXT, "seconds": Computed(seconds_played)},
        ),
        Upsert(
            table="league.placing",
            key=("match_id", "agent_id"),
            each="ranking",
            first=("place", "points", "remark"),
            values={
                "agent_id": Item("agent_id"),
                "place": Item("place"),
                "points": Item("points"),
                "remark": Item("remark"),
            },
        ),
        Upsert(
            table="league.standing",
            key=("agent_id",),
            each="ranking",
            add=("points", "matches"),
            max=("best",),
            values={
                "agent_id": Item("agent_id"),
                "points": Item("points"),
                "matches": 1,
                "best": Item("points"),
            },
        ),
        Upsert(
            table="league.active_day",
            key=("agent_id", "day"),
            each="ranking",
            min=("first_at",),
            values={
                "agent_id": Item("agent_id"),
                "day": OCCURRED_DAY,
                "first_at": OCCURRED_AT,
            },
        ),
    ),
    refs=(
        Ref("season_id", "league.season"),
        Ref("match_id", "league.match"),
        Ref("ranking.agent_id", "agents.agent"),
    ),
    derive=DECIDED,
)
class MatchPlayed(EventData, frozen=True, kw_only=True):
    """A match is over."""

    match_id: MatchId
    season_id: SeasonId
    started_at: Moment
    finished_at: Moment
    ranking: Annotated[list[Placing], Meta(min_length=1, max_length=1000)]

    def __post_init__(self) -> None:
        """It is finished after it was started, and ranks an agent once."""
        if self.finished_at < self.started_at:
            raise ValueError(f"finished_at {self.finished_at} is before {self.started_at}")
        if len({one.agent_id for one in self.ranking}) < len(self.ranking):
            raise ValueError("ranking names an agent twice")


@event(
    "matches.ruled",
    key="match_id",
    stream=STREAM,
    history=AuditLog(
        Field("about"),
        {
            "action": Field("ruling"),
            "old_values": Field("old"),
            "new_values": Field("new"),
            "ip": Field("sent_from"),
        },
    ),
)
class MatchRuled(EventData, frozen=True, kw_only=True):
    """A referee changed what a match, a placing or a move had brought."""

    match_id: MatchId
    about: Text
    ruling: Text
    old: Json = None
    new: Json = None
    sent_from: Address | None = None
