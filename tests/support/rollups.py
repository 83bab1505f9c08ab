"""What rollups have to be, by a program that knows only the samples that were sent."""

import math
import random
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

KEY = ("scope", "kind", "unit", "tags")


class Sent(NamedTuple):
    """One `metrics.recorded`."""

    id: str
    time: datetime
    entity: str
    scope: str
    samples: list[dict[str, Any]]


class Rollup(NamedTuple):
    """What a series comes to in an hour or a day."""

    n: int
    sum: float
    min: float
    max: float
    last: float
    last_at: datetime


Series = tuple[datetime, str, str, str]
"""The bucket, the name, the entity, and what else tells series apart, as JSON."""


def made(rng: random.Random, begin: datetime, hours: int, count: int) -> list[Sent]:
    """Events of few series at few moments, so that some are of the same one."""
    return [
        Sent(
            str(UUID(int=rng.getrandbits(128), version=4)),
            begin + timedelta(minutes=15 * rng.randrange(4 * hours)),
            rng.choice(["a-1", "a-2"]),
            rng.choice(["agent", "api"]),
            [_sample(rng) for _ in range(rng.randint(1, 5))],
        )
        for _ in range(count)
    ]


def _sample(rng: random.Random) -> dict[str, Any]:
    return {
        "name": rng.choice(["cpu", "c\npu"]),
        "value": rng.choice([rng.uniform(-1, 1), rng.uniform(-1e9, 1e9), 0.1, 1e99]),
        "kind": rng.choice(["gauge", "timer"]),
        "unit": rng.choice([None, "", "ms"]),
        "tags": rng.choice([None, {}, {"k": "v"}, {"b": "1", "a": "2"}]),
    }


def rolled_up(sent: Iterable[Sent], step: str) -> dict[Series, Rollup]:
    """All of them by ``hour`` or ``day``."""
    groups: dict[Series, list[tuple[datetime, str, int, float]]] = {}
    for one in sent:
        hour = one.time.replace(minute=0, second=0, microsecond=0)
        bucket = hour if step == "hour" else hour.replace(hour=0)
        for n, sample in enumerate(one.samples):
            series = _series({**sample, "scope": one.scope})
            key = (bucket, sample["name"], one.entity, series)
            groups.setdefault(key, []).append((one.time, one.id, n, sample["value"]))
    return {key: _sum(values) for key, values in groups.items()}


def _series(stated: dict[str, Any]) -> str:
    found = [stated[name] for name in KEY]
    return msgspec.json.encode(found, order="sorted").decode()


def _sum(samples: Sequence[tuple[datetime, str, int, float]]) -> Rollup:
    values = [value for *_, value in samples]
    latest = max(samples)
    return Rollup(
        n=len(values),
        sum=math.fsum(values),
        min=min(values),
        max=max(values),
        last=latest[3],
        last_at=latest[0],
    )


def read(rows: Iterable[Any]) -> dict[Series, Rollup]:
    """Rows of a table of rollups, with their tags as text."""
    found = {}
    for row in rows:
        tags = None if row["tags"] is None else msgspec.json.decode(row["tags"])
        series = _series({**{name: row[name] for name in KEY}, "tags": tags})
        key = (row["bucket"], row["name"], row["entity"], series)
        found[key] = Rollup(*(row[name] for name in Rollup._fields))
    return found


def alike(one: dict[Series, Rollup], other: dict[Series, Rollup]) -> bool:
    """The same, but for the last digits of sums."""
    return one.keys() == other.keys() and all(
        a._replace(sum=0) == other[key]._replace(sum=0)
        and math.isclose(a.sum, other[key].sum, rel_tol=1e-9, abs_tol=1e-9 * a.n * _most(a))
        for key, a in one.items()
    )


def _most(found: Rollup) -> float:
    return max(abs(found.min), abs(found.max))
