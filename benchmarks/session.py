"""One run of the benchmarks: its sections one after the other, on one set of servers."""

from collections.abc import Callable, Mapping
from operator import attrgetter
from statistics import median

import msgspec

from benchmarks.attached import attached
from benchmarks.drain import Outcome, compare, prepared
from benchmarks.growth import Point, growth
from benchmarks.latency import RATES, Latency, latency
from benchmarks.measure import Figures
from benchmarks.queries import Queries, queries
from benchmarks.queues import COUNT as QUEUED
from benchmarks.queues import compare_queues
from benchmarks.receipts import Receipts, receipts
from benchmarks.servers import Servers, started
from benchmarks.telemetry import Telemetry, telemetry
from benchmarks.threads import Turn, absent, threads
from benchmarks.workloads import WORKLOADS
from penstock.worker.embedded import ServerFailed

SECTIONS = (
    *(*WORKLOADS, "rabbitmq", "latency", "growth", "partitions", "telemetry", "queries"),
    *("receipts", "langgraph"),
)

_LATENCY_SECONDS = 6.0
_QUICK_SECONDS = 3.0
_TELEMETRY_SECONDS = 60.0
_LEAST_SECONDS = 5.0
_TURN_SECONDS = 20.0
_RECEIPT_SECONDS = 10.0
_GROWTH_ROUNDS = 5
"""Growth has many points, so it takes one round for this many rounds of the ways."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Which sections to run, how often, and by which factor to scale the counts of events."""

    sections: tuple[str, ...]
    rounds: int
    factor: float
    quick: bool


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """All runs of one way, and the median of each figure; for memory, the maximum.

    ``trouble`` says why a run gave no figures, if there was such a run.
    """

    median: Figures | None
    trouble: str | None
    runs: list[Outcome]


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """A workload, drained in every way. Slow ways drained ``part`` of ``count`` messages."""

    title: str
    count: int
    part: int
    ways: dict[str, Summary]


class Grown(msgspec.Struct, frozen=True, kw_only=True):
    """The rate at one value of a parameter."""

    what: str
    value: int
    summary: Summary


class Results(msgspec.Struct, kw_only=True):
    """Everything that was measured. ``troubles`` says what could not be."""

    compared: dict[str, Compared] = {}
    latency: list[Latency] = []
    growth: list[Grown] = []
    telemetry: Telemetry | None = None
    queries: Queries | None = None
    receipts: list[Receipts] = []
    threads: dict[str, list[Turn]] = {}
    troubles: list[str] = []


async def run(plan: Plan, say: Callable[[str], None]) -> Results:
    """Run the sections of a plan. ``say`` is called with the name of each."""
    results = Results()
    async with started() as servers:
        for section in plan.sections:
            say(section)
            if section == "latency":
                results.latency = [await _latency(servers, rate, plan) for rate in RATES]
            elif section == "growth":
                rounds = max(1, plan.rounds // _GROWTH_ROUNDS)
                points = await growth(servers, plan.factor, rounds, say)
                results.growth += [_grown(point) for point in points]
            elif section == "partitions":
                points = await attached(servers, plan.factor, plan.rounds)
                results.growth += [_grown(point) for point in points]
            elif section == "telemetry":
                seconds = max(_LEAST_SECONDS, _TELEMETRY_SECONDS * plan.factor)
                results.telemetry = await telemetry(servers, seconds, plan.factor)
            elif section == "queries":
                results.queries = await queries(plan.factor, plan.rounds, say)
            elif section == "receipts":
                seconds = _QUICK_SECONDS if plan.quick else _RECEIPT_SECONDS
                results.receipts = await receipts(servers, seconds, results.troubles.append)
            elif section == "langgraph":
                await _threads(servers, plan, results)
            elif section == "rabbitmq":
                await _queues(servers, plan, results)
            else:
                results.compared[section] = await _compared(servers, section, plan)
    results.troubles += list(_troubles(results))
    return results


async def _compared(servers: Servers, name: str, plan: Plan) -> Compared:
    workload = WORKLOADS[name].scaled(plan.factor)
    async with prepared(servers, name, workload) as found:
        outcomes = await compare(servers, found, workload.ways, plan.rounds)
    return Compared(
        title=workload.title,
        count=workload.count,
        part=workload.part,
        ways=summarize_all(outcomes),
    )


async def _queues(servers: Servers, plan: Plan, results: Results) -> None:
    count = max(500, round(QUEUED * plan.factor / 500) * 500)
    try:
        async with servers.with_rabbitmq() as node:
            outcomes = await compare_queues(servers, node.url, count, plan.rounds)
    except ServerFailed as error:
        results.troubles.append(f"rabbitmq: {error}")
        return
    results.compared["rabbitmq"] = Compared(
        title="heartbeats of 500 agents from a quorum queue of RabbitMQ",
        count=count,
        part=count,
        ways=summarize_all(outcomes),
    )


async def _threads(servers: Servers, plan: Plan, results: Results) -> None:
    if (why := absent()) is not None:
        results.troubles.append(f"langgraph: {why}")
        return
    seconds = _QUICK_SECONDS if plan.quick else _TURN_SECONDS
    results.threads = await threads(servers, seconds, plan.rounds)


async def _latency(servers: Servers, rate: int, plan: Plan) -> Latency:
    """Half as many runs as there are rounds; the result is the run with the median p99."""
    seconds = _QUICK_SECONDS if plan.quick else _LATENCY_SECONDS
    runs = [await latency(servers, rate, seconds) for _ in range((plan.rounds + 1) // 2)]
    return sorted(runs, key=attrgetter("p99_ms"))[len(runs) // 2]


def _grown(point: Point) -> Grown:
    return Grown(what=point.what, value=point.value, summary=summarize(point.outcomes))


def summarize_all(outcomes: Mapping[str, list[Outcome]]) -> dict[str, Summary]:
    """A summary for each way."""
    return {way: summarize(runs) for way, runs in outcomes.items()}


def summarize(runs: list[Outcome]) -> Summary:
    """The median of each figure; no figures at all if any run failed."""
    measured = [one for one in runs if isinstance(one, Figures)]
    trouble = next((one for one in runs if isinstance(one, str)), None)
    middle = _median(measured) if measured and trouble is None else None
    return Summary(median=middle, trouble=trouble, runs=runs)


def _median(runs: list[Figures]) -> Figures:
    startups = [one.startup_s for one in runs if one.startup_s is not None]
    return Figures(
        events=runs[0].events,
        seconds=round(median(one.seconds for one in runs), 3),
        events_per_second=round(median(one.events_per_second for one in runs)),
        cpu={name: round(median(one.cpu[name] for one in runs), 1) for name in runs[0].cpu},
        peak_mb=max(one.peak_mb for one in runs),
        startup_s=round(median(startups), 3) if startups else None,
    )


def _troubles(results: Results) -> list[str]:
    ways = [
        (f"{name}, {way}", summary)
        for name, compared in results.compared.items()
        for way, summary in compared.ways.items()
    ]
    points = [(f"{point.what} {point.value}", point.summary) for point in results.growth]
    return [f"{what}: {found.trouble}" for what, found in (*ways, *points) if found.trouble]
