"""The result of a vote by the rules of docs/derived-values.md, written without a look at the SQL.

Slow and plain on purpose: it is what the database is compared with.
"""

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

import msgspec

ALGORITHMS = ("simple_majority", "confidence_weighted", "quadratic", "consensus", "ranked_choice")
OPENED = datetime(2026, 3, 1, 12, tzinfo=UTC)
_EXACT = Context(prec=60, rounding=ROUND_HALF_UP)


class Ballot(msgspec.Struct, frozen=True, kw_only=True):
    agent: int
    minute: int
    sequence: int
    retracted: bool
    option: str | None
    ranking: list[str] | None
    confidence: float | None
    weight: float | None
    tokens: int | None


class Vote(msgspec.Struct, frozen=True, kw_only=True):
    algorithm: str
    options: list[str]
    eligible: int | None
    quorum: float | None
    threshold: float | None
    budget: int | None
    closed: int | None
    deadline: int | None
    status: str
    ballots: list[Ballot]


def random_vote(rng: random.Random, algorithm: str) -> Vote:
    """Few options, agents and values, so that ties, late ballots and nonsense are frequent."""
    options = [rng.choice("abcdef") for _ in range(rng.randint(1, 5))]
    status = rng.choices(["closed", "open", "cancelled"], [20, 1, 1])[0]
    return Vote(
        algorithm=algorithm,
        options=options,
        eligible=rng.choice([None, 0, 3, 6, 10]),
        quorum=rng.choice([None, None, 0.0, 0.3, 0.5, 0.6, 1.0]),
        threshold=rng.choice([None, 0.5, 0.6, 1.0]),
        budget=rng.choice([None, 4, 9, 2**62]),
        closed=None if status == "open" else rng.randint(5, 12),
        deadline=rng.choice([None, None, 4, 9]),
        status=status,
        ballots=[_ballot(rng, options) for _ in range(rng.choice([0, 1, 2, 4, 6, 9, 15]))],
    )


def _ballot(rng: random.Random, options: Sequence[str]) -> Ballot:
    named = [*options, *options, "x"]
    return Ballot(
        agent=rng.randint(1, 9),
        minute=rng.randint(0, 13),
        sequence=rng.choice([0, 0, 1]),
        retracted=rng.random() < 0.1,
        option=rng.choice([*named, None]),
        ranking=rng.choice([None, [], [rng.choice(named) for _ in range(rng.randint(1, 6))]]),
        confidence=rng.choice([None, 0.0, 0.1, 0.25, 0.7, 1.0, rng.random()]),
        weight=rng.choice([None, 0.0, 1.0, 2.5, rng.random() * 100]),
        tokens=rng.choice([None, 0, 1, 2, 4, 8, 9, 2**61, 2**63 - 1]),
    )


def at(minute: int) -> datetime:
    return OPENED + timedelta(minutes=minute)


def tally(vote: Vote, consensus: str = "0.75") -> dict[str, Any] | None:
    """Outcome, winner, numbers of ballots, and what each option got; None without a result."""
    if vote.status != "closed":
        return None
    counted = _counted(vote)
    named = [names for ballot in counted if (names := _names(vote, ballot))]
    scores, rounds = _scores(vote, counted), list[str]()
    outcome, winner = "", None
    if vote.algorithm == "ranked_choice" and named:
        scores, rounds, winner = _run_off(vote.options, named)
        outcome = "decided" if winner else "tie"
    best = max(scores.values())
    leaders = [option for option, score in scores.items() if score == best]
    if not named or best <= 0:
        outcome = "no_ballots"
    elif not outcome:
        outcome = "tie" if len(leaders) > 1 else _reached(vote, best, len(named), consensus)
    if vote.quorum and vote.quorum > 0:
        share = Decimal(repr(vote.quorum)) * (vote.eligible or 0)
        if not vote.eligible or len(named) < share:
            outcome = "no_quorum"
    return {
        "outcome": outcome,
        "winner": (winner or leaders[0]) if outcome == "decided" else None,
        "ballots": len(named),
        "invalid": len(counted) - len(named),
        "scores": {option: score for option, score in scores.items() if score},
        "rounds": rounds,
    }


def _counted(vote: Vote) -> list[Ballot]:
    ends = [end for end in (vote.closed, vote.deadline) if end is not None]
    last: dict[int, tuple[tuple[int, int, int], Ballot]] = {}
    for number, ballot in enumerate(vote.ballots):
        guard = (ballot.sequence, ballot.minute, number)
        in_time = all(ballot.minute <= end for end in ends)
        if in_time and (ballot.agent not in last or guard > last[ballot.agent][0]):
            last[ballot.agent] = guard, ballot
    return [ballot for _, ballot in last.values() if not ballot.retracted]


def _names(vote: Vote, ballot: Ballot) -> list[str]:
    """The options that a ballot names, best first; none if it is not valid."""
    most = vote.budget if vote.algorithm == "quadratic" else None
    if most is not None and (ballot.tokens or 0) > most:
        return []
    wished = [ballot.option]
    if vote.algorithm == "ranked_choice" and ballot.ranking:
        wished = list(ballot.ranking)
    return list(dict.fromkeys(name for name in wished if name in vote.options and name))


def _scores(vote: Vote, counted: Sequence[Ballot]) -> dict[str, Decimal]:
    scores = dict.fromkeys(vote.options, Decimal(0))
    for ballot in counted:
        for name in _names(vote, ballot)[:1]:
            scores[name] = _EXACT.add(scores[name], _worth(vote.algorithm, ballot))
    return {name: score.quantize(Decimal("1e-9"), context=_EXACT) for name, score in scores.items()}


def _worth(algorithm: str, ballot: Ballot) -> Decimal:
    if algorithm == "confidence_weighted":
        factors = [1.0 if f is None else f for f in (ballot.confidence, ballot.weight)]
        return Decimal(repr(factors[0])) * Decimal(repr(factors[1]))
    if algorithm == "quadratic":
        return _EXACT.sqrt(Decimal(ballot.tokens or 0))
    return Decimal(1)


def _reached(vote: Vote, best: Decimal, ballots: int, consensus: str) -> str:
    if vote.algorithm == "simple_majority":
        return "decided" if 2 * best > ballots else "no_majority"
    if vote.algorithm == "consensus":
        threshold = Decimal(consensus if vote.threshold is None else repr(vote.threshold))
        return "decided" if best >= threshold * ballots else "no_consensus"
    return "decided"


def _run_off(
    options: Sequence[str], ballots: Sequence[Sequence[str]]
) -> tuple[dict[str, Decimal], list[str], str | None]:
    """The votes of the last round, the options that left before it, and who won."""
    standing, leaving = list(dict.fromkeys(options)), list[str]()
    first: Mapping[str, int] = {}
    while True:
        votes = dict.fromkeys(standing, 0)
        for ballot in ballots:
            for name in [name for name in ballot if name in votes][:1]:
                votes[name] += 1
        first = first or dict(votes)
        alive = sum(votes.values())
        scores = {name: Decimal(count) for name, count in votes.items()}
        for name, count in votes.items():
            if 2 * count > alive:
                return scores, leaving, name
        if len(standing) == 2:
            return scores, leaving, None
        out = min(standing, key=lambda o: (votes[o], first[o], -standing.index(o)))
        standing.remove(out)
        leaving.append(out)
