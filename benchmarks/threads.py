"""Threads of LangGraph in many processes: over the bus through one worker, beside a pool of
connections to PostgreSQL in each process.

Both ways take turns on the same servers. The agents share the machine with them.
"""

import asyncio
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from benchmarks.measure import Meter, Reading
from benchmarks.processes import Failed, worker
from benchmarks.receipts import ready
from benchmarks.servers import Servers, ask
from penstock.worker.publisher import Publisher

if TYPE_CHECKING:  # it needs LangGraph, which the other benchmarks do without
    from benchmarks.threads_load import Load

WAYS = ("penstock", "postgres")
PROCESSES = 20
THREADS = 10
"""In each process."""

_LOOK_SECONDS = 0.2
_CONNECTIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
_STORED = {
    "penstock": "SELECT count(*) FROM threads.checkpoint",
    "postgres": "SELECT count(*) FROM checkpoints",
}


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One way for some seconds. ``cpu`` is in microseconds a step, by process; ``connections`` is
    the most that were open to PostgreSQL at once.
    """

    steps: int
    steps_per_second: float
    p50_ms: float
    p99_ms: float
    read_p99_ms: float
    connections: int
    cpu: dict[str, float]


def absent() -> str | None:
    """Why this cannot be measured, or None."""
    for name in ("langgraph", "langgraph.checkpoint.postgres"):
        if find_spec(name) is None:
            return f"{name} is not installed: pip install 'penstock[bench]'"
    return None


async def threads(servers: Servers, seconds: float, rounds: int) -> dict[str, list[Turn]]:
    """``rounds`` turns of ``seconds`` for each way, interleaved."""
    await servers.forget()
    async with servers.database() as ours, servers.database() as theirs:
        await asyncio.to_thread(_set_up, theirs)
        async with worker({"nats_url": servers.nats.url, "postgres_dsn": ours}) as process:
            async with Publisher(servers.nats.url, source="/bench", wait=True) as bus:
                await ready(bus)
            meter = Meter([process.pid], servers.pids)
            found: dict[str, list[Turn]] = {way: [] for way in WAYS}
            with _processes() as run:
                for number in range(rounds):
                    for way, address, dsn in (
                        ("penstock", servers.nats.url, ours),
                        ("postgres", theirs, theirs),
                    ):
                        jobs = _jobs(way, address, seconds, number)
                        found[way].append(await _turn(run, jobs, dsn, meter))
    return found


def _set_up(dsn: str) -> None:
    from langgraph.checkpoint.postgres import PostgresSaver  # noqa: PLC0415  (an extra)

    with PostgresSaver.from_conn_string(dsn) as saver:
        saver.setup()


@contextmanager
def _processes() -> Iterator[Callable[[Any], Any]]:
    """What starts a job in each process. They are forked from one that has loaded everything."""
    from benchmarks.threads_load import prepare, work  # noqa: PLC0415  (needs the extra)

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", prepare.__module__])
    gate = context.Barrier(PROCESSES)
    with ProcessPoolExecutor(PROCESSES, context, prepare, (gate,)) as pool:
        yield lambda job: asyncio.wrap_future(pool.submit(work, job))


def _jobs(way: str, address: str, seconds: float, number: int) -> list[Any]:
    from benchmarks.threads_load import Job  # noqa: PLC0415  (needs the extra)

    return [
        Job(
            way=way,
            address=address,
            name=f"turn-{number}-process-{process}",
            threads=THREADS,
            seconds=seconds,
        )
        for process in range(PROCESSES)
    ]


async def _turn(run: Callable[[Any], Any], jobs: list[Any], dsn: str, meter: Meter) -> Turn:
    stored = _STORED[jobs[0].way]
    before, begin = await ask(dsn, stored), meter.read()
    working = asyncio.gather(*map(run, jobs))
    connections = await _most_connections(dsn, working)
    loads, end = await working, meter.read()
    steps = sum(len(load.steps) for load in loads)
    if (new := await ask(dsn, stored) - before) != steps:
        raise Failed(f"{jobs[0].way} stored {new} of {steps} checkpoints")
    return _figures(loads, connections, _spent(begin, end, loads))


async def _most_connections(dsn: str, working: "asyncio.Future[Any]") -> int:
    most, connection = 0, await asyncpg.connect(dsn)
    while not working.done():
        most = max(most, await connection.fetchval(_CONNECTIONS))
        await asyncio.wait({working}, timeout=_LOOK_SECONDS)
    await connection.close()
    return most


def _spent(begin: Reading, end: Reading, loads: list["Load"]) -> dict[str, float]:
    spent = {name: end.cpu[name] - begin.cpu[name] for name in end.cpu}
    return {**spent, "agents": sum(load.cpu for load in loads)}


def _figures(loads: list["Load"], connections: int, spent: dict[str, float]) -> Turn:
    steps = [took for load in loads for took in load.steps]
    percents = quantiles(steps, n=100)
    reads = quantiles([took for load in loads for took in load.reads], n=100)
    return Turn(
        steps=len(steps),
        steps_per_second=round(len(steps) / max(load.elapsed for load in loads), 1),
        p50_ms=round(percents[49] * 1000, 1),
        p99_ms=round(percents[98] * 1000, 1),
        read_p99_ms=round(reads[98] * 1000, 1),
        connections=connections,
        cpu={name: round(used / len(steps) * 1e6) for name, used in spent.items()},
    )
