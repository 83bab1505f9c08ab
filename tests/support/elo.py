"""ELO ratings by the rules of docs/derived-values.md, written without a look at the SQL."""

import random
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal

_EXACT = Context(prec=60, rounding=ROUND_HALF_UP)

Battle = tuple[int, int, Mapping[int, int]]
"""When it ended, its number, and the rank of each agent."""


def random_battles(rng: random.Random, count: int, agents: int) -> list[Battle]:
    """Some at the same moment, some with one agent only or none, which count for nothing."""
    return [
        (
            rng.randrange(count),
            number,
            {
                agent: rng.randint(1, 4)
                for agent in rng.sample(range(1, agents + 1), rng.choice([0, 1, 2, 2, 3, 5]))
            },
        )
        for number in range(1, count + 1)
    ]


def ratings(battles: Sequence[Battle], start: int = 1500, k: int = 32) -> dict[int, Decimal]:
    """The rating of everybody after the last battle."""
    held: dict[int, Decimal] = {}
    for _, _, ranks in sorted(battles, key=lambda battle: battle[:2]):
        if len(ranks) < 2:
            continue
        before = {agent: held.get(agent, Decimal(start)) for agent in ranks}
        for agent, rank in ranks.items():
            others = [other for other in ranks if other != agent]
            expected = sum((_chance(before[agent], before[other]) for other in others), Decimal(0))
            actual = sum((_score(rank, ranks[other]) for other in others), Decimal(0))
            gain = Decimal(k) / len(others) * (actual - _rounded(expected, "1e-6"))
            held[agent] = _rounded(before[agent] + gain, "1e-3")
    return held


def _chance(mine: Decimal, theirs: Decimal) -> Decimal:
    odds = _EXACT.power(Decimal(10), _EXACT.divide(theirs - mine, Decimal(400)))
    return _EXACT.divide(Decimal(1), 1 + odds)


def _score(mine: int, theirs: int) -> Decimal:
    return Decimal(1) if mine < theirs else Decimal("0.5") if mine == theirs else Decimal(0)


def _rounded(number: Decimal, step: str) -> Decimal:
    return number.quantize(Decimal(step), context=_EXACT)
