"""The rate of heartbeats into a table with few attached partitions, and into one with many."""

import msgspec

from benchmarks.drain import Outcome, penstock, prepared
from benchmarks.growth import COUNT, Point
from benchmarks.processes import Failed
from benchmarks.servers import Servers, ask
from benchmarks.workloads import WORKLOADS

ATTACHED = (3, 120)

_FEWEST = """
WITH fewer AS (
    UPDATE partitions.policy SET premake = 1, retention = NULL WHERE table_name = 'heartbeat'
)
SELECT 'DROP TABLE ' || string_agg(partition::text, ', ') FROM partitions.partition
WHERE table_name = 'heartbeat' AND lower_bound > now() + interval '1 day'
"""
_MORE = """
SELECT count(partitions.ensure_for('agents', 'heartbeat', now() - day * interval '1 day'))
FROM generate_series(2, $1 - 2) AS day
"""
_COUNT = "SELECT count(*) FROM partitions.partition WHERE table_name = 'heartbeat'"


async def attached(servers: Servers, factor: float, rounds: int) -> list[Point]:
    """The outcomes for each number of partitions, in turn, so that both have the same conditions.

    ``factor`` scales the count of events.
    """
    workload = msgspec.structs.replace(WORKLOADS["heartbeats"], count=COUNT).scaled(factor)
    outcomes: dict[int, list[Outcome]] = {number: [] for number in ATTACHED}
    async with prepared(servers, "heartbeats", workload) as found:
        for _ in range(rounds):
            for number, seen in outcomes.items():
                async with servers.database() as dsn:
                    await _attach(dsn, number)
                    try:
                        seen.append(await penstock(servers, found, dsn))
                    except (Failed, TimeoutError) as error:
                        seen.append(f"failed: {error!r}")
    return [Point(what="attached", value=n, outcomes=seen) for n, seen in outcomes.items()]


async def _attach(dsn: str, number: int) -> None:
    await ask(dsn, await ask(dsn, _FEWEST))
    await ask(dsn, _MORE, number)
    there = await ask(dsn, _COUNT)
    if there != number:
        raise Failed(f"{there} partitions are attached, not {number}")
