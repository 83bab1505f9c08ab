"""Battles of agents: most are decided, one is called off, the last one goes on."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from penstock.schemas.battles import (
    BattleCancelled,
    BattleCreated,
    BattleFinished,
    BattleJoined,
    BattleScored,
    BattleStarted,
    Placing,
)
from penstock.schemas.vocabulary import BattleMode
from penstock.worker.seed.company import Agent, Company
from penstock.worker.seed.said import Said

_BATTLES = 24
_CALLED_OFF = 5
_MODES = (BattleMode.HEAD_TO_HEAD, BattleMode.SPEED_RACE, BattleMode.QUALITY_SHOWDOWN)


def tell(company: Company) -> Iterator[Said]:
    """One battle after the other, until now."""
    random = company.random("battles")
    step = (company.until - company.since) / _BATTLES
    for number in range(_BATTLES):
        at = company.since + (number + 0.2) * step
        if number == _BATTLES - 1:
            at = company.until - timedelta(minutes=25)
        yield from _battle(company, number, at, random)


def _battle(company: Company, number: int, at: datetime, random: Random) -> Iterator[Said]:
    battle, mode = company.name("battle", number), _MODES[number % len(_MODES)]
    players = random.sample(company.agents, 2 if mode is BattleMode.HEAD_TO_HEAD else 4)
    created = BattleCreated(battle_id=battle, mode=mode, prize_pool=100, created_by="ada")
    yield Said(at, created, "ada")
    for place, agent in enumerate(players):
        joined = BattleJoined(battle_id=battle, agent_id=agent.id)
        yield Said(at + timedelta(seconds=20 + place), joined, agent.id)
    if number == _CALLED_OFF:
        off = BattleCancelled(battle_id=battle, reason="the judge was away")
        yield Said(at + timedelta(minutes=1), off, "ada")
        return
    begun = at + timedelta(minutes=2)
    yield Said(begun, BattleStarted(battle_id=battle, at=begun), "ada")
    yield from _fought(battle, players, begun, random)


def _fought(battle: str, players: list[Agent], begun: datetime, random: Random) -> Iterator[Said]:
    """The more reliable an agent, the more often it wins."""
    scores = {one.id: round(100 * one.reliability + random.gauss(0, 15), 2) for one in players}
    for place, (agent, score) in enumerate(scores.items()):
        scored = BattleScored(battle_id=battle, agent_id=agent, score=score)
        yield Said(begun + timedelta(minutes=10, seconds=place), scored, agent)
    best = sorted(scores, key=lambda agent: -scores[agent])
    ranking = [
        Placing(agent_id=agent, rank=rank, score=scores[agent], points=50 if rank == 1 else 0)
        for rank, agent in enumerate(best, 1)
    ]
    finished = BattleFinished(battle_id=battle, ranking=ranking, winner_id=best[0])
    yield Said(begun + timedelta(minutes=30), finished, "ada")
