"""``penstock demo``: servers from wheels, a worker, simulated agents, and what came of it.

Everything is real but the agents: the worker is a process of its own and the events travel over
the Publisher that agents import. What is printed at the end was counted in PostgreSQL and KV.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from rich.console import Console
from rich.live import Live

from schemas.catalogue import Catalogue
from worker import connections
from worker.config import Settings, load
from worker.demo.agents import Crowd
from worker.demo.figures import Counted, Ledger, kv_keys
from worker.demo.process import WorkerProcess
from worker.demo.traffic import Sent, Traffic
from worker.demo.view import Moment, Screen, how_to_look, line, summary
from worker.embedded import EmbeddedNats, EmbeddedPostgres, postgres_programs
from worker.errors import PenstockError
from worker.publisher import Publisher

__all__ = ["demo"]

_RATE = 1_000.0
"""Events per second unless asked for: leaves two cores room for the servers and the view."""

_DRAIN_SECONDS = 60.0
_POLL_SECONDS = 0.1
_VIEW_SECONDS = 0.5
_LINE_SECONDS = 5.0
_RECENT_SECONDS = 5.0
_ONE_AGENT = "agent-000"


class Stage(msgspec.Struct, frozen=True):
    """What the demo runs on."""

    nats: EmbeddedNats
    postgres: EmbeddedPostgres
    worker: WorkerProcess
    settings: Settings
    ledger: Ledger
    bus: Any


async def demo(
    seconds: float,
    as_json: bool,  # noqa: FBT001  (a flag of the CLI)
    keep: bool,  # noqa: FBT001  (likewise)
    agents: int,
    rate: float | None,
) -> int:
    """Run ``agents`` for ``seconds`` at ``rate`` events per second, all together. Exit code.

    0 if every message that was published was found again: stored once, or as a duplicate or a dead
    letter where it was meant to be one. ``as_json`` prints one JSON object and nothing else;
    ``keep`` leaves the servers up.
    """
    console = Console(stderr=as_json, highlight=False, quiet=as_json)
    async with _stage(keep=keep) as stage:
        source = "/demo"
        async with Publisher(stage.settings.nats_url, source=source) as bus:
            traffic = Traffic(bus, Crowd(agents), rate or _RATE)
            begun = time.monotonic()
            await _watched(stage, traffic, seconds, console)
            counted = await _drained(stage, traffic.sent)
            elapsed = time.monotonic() - begun
            keys = await _kv_caught_up(stage, counted)
            state = await _state(bus)
        result = _result(traffic.sent, counted, keys, elapsed)
        tables = await stage.ledger.tables()
    if as_json:
        print(json.dumps(result))  # noqa: T201  (the command's answer)
    else:
        summary(console, result, counted, tables, state)
        psql = f"{postgres_programs() / 'psql'} {stage.settings.postgres_dsn}"
        how_to_look(console, psql, _stop_command(stage) if keep else None)
    return _verdict(traffic.sent, counted, keys, stage.worker.exit_code)


@asynccontextmanager
async def _stage(*, keep: bool) -> AsyncIterator[Stage]:
    """Servers, database, worker, and connections to look at them; ended in reverse."""
    catalogue = Catalogue.load()
    commit_times = {"track_commit_timestamp": "on"}
    async with (
        EmbeddedNats(outlive=keep) as nats,
        EmbeddedPostgres(settings=commit_times, outlive=keep) as postgres,
    ):
        dsn = await postgres.create_database("penstock")
        flags = {"nats_url": nats.url, "postgres_dsn": dsn, "migrate": "true"}
        settings = load(flags, environ={})
        async with (
            WorkerProcess(flags) as worker,
            connections.database(settings) as pool,
            connections.bus(settings) as bus,
        ):
            yield Stage(nats, postgres, worker, settings, Ledger(pool, catalogue), bus)


async def _watched(stage: Stage, traffic: Traffic, seconds: float, console: Console) -> None:
    """Run the traffic, and show how it goes to whoever watches."""
    running = asyncio.create_task(traffic.run(seconds), name="demo traffic")
    try:
        if console.quiet:
            await running
        elif console.is_terminal:
            screen = Screen()
            with Live(console=console, auto_refresh=False) as live:
                async for moment in _moments(stage, traffic, seconds, _VIEW_SECONDS, running):
                    live.update(screen.draw(moment), refresh=True)
        else:
            async for moment in _moments(stage, traffic, seconds, _LINE_SECONDS, running):
                console.print(line(moment), soft_wrap=True)
        await running
    finally:
        running.cancel()


async def _moments(
    stage: Stage, traffic: Traffic, seconds: float, every: float, running: asyncio.Task[None]
) -> AsyncIterator[Moment]:
    begun = time.monotonic()
    while not (await asyncio.wait({running}, timeout=every))[0]:
        p50, p99 = await stage.ledger.latency(_RECENT_SECONDS)
        yield Moment(
            elapsed=time.monotonic() - begun,
            seconds=seconds,
            published=traffic.sent.confirmed,
            metrics=await stage.worker.metrics(),
            p50_ms=p50,
            p99_ms=p99,
        )


async def _drained(stage: Stage, sent: Sent) -> Counted:
    """Wait until the worker has dealt with all that was published, then count."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    while await stage.ledger.settled() < sent.confirmed and time.monotonic() < deadline:
        _ = stage.worker.pid  # raises with the end of its log if it has died
        await asyncio.sleep(_POLL_SECONDS)
    return await stage.ledger.count(365 * 86400.0)


async def _kv_caught_up(stage: Stage, counted: Counted) -> int:
    """The keys in the bucket, which is written after the commit."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    while True:
        keys = await kv_keys(stage.bus, stage.settings.kv_bucket)
        if keys >= counted.kv_rows or time.monotonic() > deadline:
            return keys
        await asyncio.sleep(_POLL_SECONDS)


async def _state(bus: Publisher) -> dict[str, Any]:
    status = await bus.status(_ONE_AGENT)
    found = {f"{_ONE_AGENT} _status": status.value}
    try:
        cursor = await bus.state(_ONE_AGENT, "cursor")
    except PenstockError:  # it has not finished its first task
        return found
    return {**found, f"{_ONE_AGENT} cursor (version {cursor.version})": cursor.value}


def _result(sent: Sent, counted: Counted, keys: int, elapsed: float) -> dict[str, float]:
    return {
        "published": sent.confirmed,
        "stored": counted.stored,
        "duplicates": counted.duplicates,
        "dead_letters": counted.rejected,
        "kv_keys": keys,
        "events_per_second": round(sent.confirmed / elapsed, 1),
        "p50_ms": round(counted.p50_ms, 1),
        "p99_ms": round(counted.p99_ms, 1),
    }


def _verdict(sent: Sent, counted: Counted, keys: int, worker_exit: int | None) -> int:
    """Say on standard error what does not add up. The exit code."""
    expected: Mapping[str, tuple[object, object]] = {
        "refused publishes": (len(sent.failures), 0),
        "messages dealt with": (counted.settled, sent.confirmed),
        "duplicates": (counted.duplicates, sent.twice),
        "dead letters": (counted.rejected, sent.broken),
        "KV keys": (keys, counted.kv_rows),
        "the worker's exit code": (worker_exit, 0),
    }
    wrong = [
        f"{name}: {found}, expected {meant}"
        for name, (found, meant) in expected.items()
        if found != meant
    ]
    console = Console(stderr=True, highlight=False)
    for text in [*wrong, *sent.failures[:3]]:
        console.print(text, style="red", markup=False, soft_wrap=True)
    return 1 if wrong else 0


def _stop_command(stage: Stage) -> str:
    folders = f"{stage.nats.folder} {stage.postgres.folder}"
    return f"kill {stage.nats.pid}; kill -INT {stage.postgres.pid}; sleep 1; rm -r {folders}"
