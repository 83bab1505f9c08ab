"""How the rate of heartbeats changes with one parameter at a time, the others at their defaults."""

from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from benchmarks.drain import Outcome, Prepared, penstock, prepared
from benchmarks.processes import Failed
from benchmarks.servers import Servers, ask
from benchmarks.workloads import WORKLOADS, Workload, heartbeats

COUNT = 100_000
"""Events in the backlog, except for the long backlog."""

SETTINGS: Mapping[str, tuple[int, ...]] = {
    "batch_size": (500, 1_000, 2_500, 5_000, 10_000),
    "in_flight": (1, 2, 4),
}
PROCESSES = (1, 2)
PARTITIONS = (0, 90, 365)
"""Daily partitions of the past, in addition to those of a new database."""
AGENTS = (10, 50_000)
"""In addition to the 500 of the workload."""
BACKLOG = 10
"""How many times as many events the long backlog has."""

_ENSURE = """
SELECT count(partitions.ensure_for('agents', 'heartbeat', now() - day * interval '1 day'))
FROM generate_series(1, $1) AS day
"""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """The outcomes at one value of a parameter."""

    what: str
    value: int
    outcomes: list[Outcome]


async def growth(
    servers: Servers, factor: float, rounds: int, say: Callable[[str], None]
) -> list[Point]:
    """All points, each ``rounds`` times; ``factor`` scales the counts of events."""
    workload = msgspec.structs.replace(WORKLOADS["heartbeats"], count=COUNT).scaled(factor)
    points = []
    async for point in _points(servers, workload, rounds):
        say(f"growth: {point.what} {point.value}")
        points.append(point)
    return points


async def _points(servers: Servers, workload: Workload, rounds: int) -> AsyncIterator[Point]:
    async with prepared(servers, "heartbeats", workload) as found:
        measure = partial(_point, servers, found, rounds)
        for setting, values in SETTINGS.items():
            for value in values:
                yield await measure(setting, value, settings={setting: str(value)})
        for value in PROCESSES:
            yield await measure("processes", value, processes=value)
        for value in PARTITIONS:
            yield await measure("partitions", value, partitions=value)
        yield await measure("agents", 500)
    for value in AGENTS:
        crowd = msgspec.structs.replace(workload, make=partial(heartbeats, agents=value))
        async with prepared(servers, "heartbeats", crowd) as found:
            yield await _point(servers, found, rounds, "agents", value)
    long = msgspec.structs.replace(workload, count=workload.count * BACKLOG, part=workload.count)
    async with prepared(servers, "heartbeats", long) as found:
        for point in await _backlogs(servers, found, rounds):
            yield point


async def _backlogs(servers: Servers, found: Prepared, rounds: int) -> list[Point]:
    """The long backlog between two runs of its last part, so that both have the same conditions."""
    outcomes: dict[int, list[Outcome]] = {found.workload.part: [], found.workload.count: []}
    for _ in range(rounds):
        for count in (found.workload.part, found.workload.count, found.workload.part):
            part = count == found.workload.part
            outcomes[count].append(await _once(servers, found, part=part))
    return [Point(what="backlog", value=count, outcomes=runs) for count, runs in outcomes.items()]


async def _point(
    servers: Servers, found: Prepared, rounds: int, what: str, value: int, **differing: Any
) -> Point:
    outcomes = [await _once(servers, found, **differing) for _ in range(rounds)]
    return Point(what=what, value=value, outcomes=outcomes)


async def _once(
    servers: Servers, found: Prepared, *, partitions: int = 0, **differing: Any
) -> Outcome:
    """A drain into a table with ``partitions`` more; the other arguments are for `penstock`."""
    async with servers.database() as dsn:
        await ask(dsn, _ENSURE, partitions)
        try:
            return await penstock(servers, found, dsn, **differing)
        except (Failed, TimeoutError) as error:
            return f"failed: {error!r}"
