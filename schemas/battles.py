"""Events about battles of agents. The key, and so the subject's second token, is the battle.

Every type that states a battle's status has the ratings worked out anew: each of them decides
whether the battle counts.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from penstock.schemas.event import Big, Count, EventData, Json, Moment, Text
from penstock.schemas.identity import AgentId, BattleId
from penstock.schemas.mapping import (
    KEY_TEXT,
    OCCURRED_AT,
    Derive,
    Field,
    Item,
    Log,
    Ref,
    Upsert,
    event,
)
from penstock.schemas.merit import Points
from penstock.schemas.vocabulary import BattleMode, BattleStatus, LongText

RULES = (
    "mode",
    "entry_fee",
    "prize_pool",
    "config",
    "min_participants",
    "max_participants",
    "created_by",
)
BATTLE = ("battle_id",)
PLAYER = ("battle_id", "agent_id")
IDENTITY = {"external_id": KEY_TEXT}
RATED = (Derive("merit.rate", BATTLE),)
PLAYING = (Ref("battle_id", "merit.battle"), Ref("agent_id", "agents.agent"))


class Placing(msgspec.Struct, frozen=True, kw_only=True):
    """How one agent came off; rank 1 is the best, and equal ranks are a draw."""

    agent_id: AgentId
    rank: Count
    score: float | None = None
    points: Points | None = None


Ranking = Annotated[list[Placing], Meta(max_length=1000)]


def _named(status: BattleStatus | None = None, **more: object) -> Upsert:
    """The battle's row, with its text, and with its status if the event states that."""
    values = {**IDENTITY, **more, **({} if status is None else {"status": status})}
    return Upsert(
        table="merit.battle",
        key=BATTLE,
        last=() if status is None else ("status",),
        guard="" if status is None else "status",
        min=("started_at",) if "started_at" in more else (),
        once=("external_id",),
        values=values,
    )


@event(
    "battles.created",
    key="battle_id",
    history=Log("merit"),
    states=(
        _named(BattleStatus.PENDING),
        Upsert("merit.battle", key=BATTLE, first=RULES, once=("external_id",), values=IDENTITY),
    ),
    derive=RATED,
)
class BattleCreated(EventData, frozen=True, kw_only=True):
    """A battle was announced."""

    battle_id: BattleId
    mode: BattleMode
    entry_fee: Big | None = None
    prize_pool: Big | None = None
    config: Json = None
    min_participants: Count | None = None
    max_participants: Count | None = None
    created_by: Text | None = None


@event(
    "battles.joined",
    key="battle_id",
    history=Log("merit"),
    states=(
        _named(),
        Upsert(
            table="merit.battle_participant",
            key=PLAYER,
            first=("team",),
            min=("joined_at",),
            values={"joined_at": OCCURRED_AT},
        ),
    ),
    refs=PLAYING,
)
class BattleJoined(EventData, frozen=True, kw_only=True):
    """An agent takes part."""

    battle_id: BattleId
    agent_id: AgentId
    team: Text | None = None


@event(
    "battles.started",
    key="battle_id",
    history=Log("merit"),
    states=(_named(BattleStatus.ACTIVE, started_at=Field("at")),),
    derive=RATED,
)
class BattleStarted(EventData, frozen=True, kw_only=True):
    """A battle began."""

    battle_id: BattleId
    at: Moment


@event(
    "battles.cancelled",
    key="battle_id",
    history=Log("merit"),
    states=(_named(BattleStatus.CANCELLED),),
    derive=RATED,
)
class BattleCancelled(EventData, frozen=True, kw_only=True):
    """A battle was called off; it counts for no rating."""

    battle_id: BattleId
    reason: LongText | None = None


@event(
    "battles.scored",
    key="battle_id",
    history=Log("merit"),
    states=(
        _named(),
        Upsert(
            table="merit.battle_participant",
            key=PLAYER,
            last=("score", "metrics", "eliminated_at"),
        ),
    ),
    refs=PLAYING,
)
class BattleScored(EventData, frozen=True, kw_only=True):
    """How an agent does while the battle goes on."""

    battle_id: BattleId
    agent_id: AgentId
    score: float
    metrics: Json = None
    eliminated_at: Moment | None = None


@event(
    "battles.finished",
    key="battle_id",
    history=Log("merit"),
    states=(
        _named(BattleStatus.COMPLETED),
        Upsert(
            table="merit.battle",
            key=BATTLE,
            last=("winner_id", "finished_at", "results"),
            guard="outcome",
            once=("external_id",),
            values={**IDENTITY, "finished_at": OCCURRED_AT, "results": Field("ranking")},
        ),
        Upsert(
            table="merit.battle_participant",
            key=PLAYER,
            each="ranking",
            last=("rank", "final_score", "points_earned"),
            guard="outcome",
            values={
                "agent_id": Item("agent_id"),
                "rank": Item("rank"),
                "final_score": Item("score"),
                "points_earned": Item("points"),
            },
        ),
    ),
    refs=(
        Ref("battle_id", "merit.battle"),
        Ref("winner_id", "agents.agent"),
        Ref("ranking.agent_id", "agents.agent"),
    ),
    derive=RATED,
)
class BattleFinished(EventData, frozen=True, kw_only=True):
    """A battle is decided. A correction is another one: its ranking replaces this whole one."""

    battle_id: BattleId
    ranking: Ranking
    winner_id: AgentId | None = None


@event("agents.rating_changed", key="agent_id", history=Log("merit"))
class AgentRatingChanged(EventData, frozen=True, kw_only=True):
    """Penstock rated an agent anew; the battle is the last that its rating follows from."""

    agent_id: AgentId
    battle_id: BattleId
    old: float
    new: float
