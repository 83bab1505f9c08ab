"""``penstock demo``: its own servers, a worker, simulated agents, and the result.

Everything but the agents is real: the worker is a separate process, and the events go through the
Publisher that agents import. What is printed at the end was counted in PostgreSQL and KV; only the
number of duplicates from RabbitMQ is based on the worker's own count of messages.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import msgspec
from rich.console import Console
from rich.live import Live

from penstock.worker.demo.agents import Crowd
from penstock.worker.demo.figures import Counted, kv_keys
from penstock.worker.demo.stage import BROKERS, Stage, open_stage
from penstock.worker.demo.telling import tell, told_today
from penstock.worker.demo.traffic import Sent, Traffic
from penstock.worker.demo.view import Kept, Moment, Screen, how_to_look, line, summary
from penstock.worker.errors import PenstockError
from penstock.worker.publisher import Publisher

__all__ = ["demo"]

_RATE = 1_000.0
"""Default events per second: on two cores it leaves room for the servers and the view."""

_DRAIN_SECONDS = 60.0
_POLL_SECONDS = 0.1
_VIEW_SECONDS = 0.5
_LINE_SECONDS = 5.0
_RECENT_SECONDS = 5.0
_ONE_AGENT = "agent-000"
_SOURCE = "/demo"
_QUERIES = (
    "SELECT name, status, last_heartbeat FROM agents.agent ORDER BY name LIMIT 5",
    "SELECT status, count(*) FROM tasks.task GROUP BY status",
    "SELECT reason, subject, error FROM bus.dead_letter LIMIT 5",
)
"""Offered with servers that keep running."""


async def demo(
    seconds: float,
    agents: int,
    rate: float | None,
    broker: str = "nats",
    domains: str | None = None,
    *,
    as_json: bool,
    keep: bool,
) -> int:
    """Run ``agents`` for ``seconds`` at ``rate`` events per second in total.

    Returns the exit code, which is 0 if every published message was found again: stored once, or as
    a duplicate or dead letter if it was meant to be one. ``broker`` is ``nats``, ``rabbitmq``, or
    ``both``: then each agent uses both, and some events go over both at once. ``domains`` are those
    of `penstock.worker.seed` that are told first. ``as_json`` prints one JSON object and nothing
    else. ``keep`` leaves the servers and the worker running, and prints their addresses.
    """
    console = Console(stderr=as_json, highlight=False, quiet=as_json)
    told = told_today(domains) if domains else []
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(open_stage(BROKERS[broker], keep=keep))
        traffic = Traffic(await _publishers(stack, stage), Crowd(agents), rate or _RATE)
        begun = time.monotonic()
        await tell(traffic, told)
        await _watched(stage, traffic, seconds, console)
        counted = await _drained(stage, traffic.sent, begun)
        elapsed = time.monotonic() - begun
        keys = await _kv_caught_up(stage, counted)
        state = await _state(stage)
        tables = await stage.ledger.tables()
        kept = stage.kept(_QUERIES) if keep else None
    result = _result(traffic.sent, counted, keys, elapsed)
    if as_json:
        _print_json(result, kept)
    else:
        summary(console, result, counted, tables, state)
    if kept and not as_json:
        how_to_look(console, kept)
    return _verdict(traffic.sent, counted, keys, 0 if kept else stage.worker.exit_code)


async def _publishers(stack: AsyncExitStack, stage: Stage) -> list[Publisher]:
    publishers = (Publisher(address, source=_SOURCE) for address in stage.addresses)
    return [await stack.enter_async_context(publisher) for publisher in publishers]


async def _watched(stage: Stage, traffic: Traffic, seconds: float, console: Console) -> None:
    """Run the traffic, and show its progress unless the console is quiet."""
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


async def _drained(stage: Stage, sent: Sent, begun: float) -> Counted:
    """Wait until the worker has settled everything that was published, and what followed from it,
    then count. Latency is that of what occurred since ``begun``.
    """
    deadline = time.monotonic() + _DRAIN_SECONDS
    while True:
        _ = stage.worker.pid  # raises with the end of its log if it has died
        late = time.monotonic() > deadline
        if late or await _settled(stage, sent):
            settled = await stage.settled()
            counted = await stage.ledger.count(settled, time.monotonic() - begun, sent.unlogged)
            # What the database tells by the clock may have come between the two.
            if late or settled == sent.confirmed + counted.emitted:
                return counted
        await asyncio.sleep(_POLL_SECONDS)


async def _settled(stage: Stage, sent: Sent) -> bool:
    emitted, waiting = await stage.ledger.emitted()
    return waiting == 0 and await stage.settled() >= sent.confirmed + emitted


async def _kv_caught_up(stage: Stage, counted: Counted) -> int:
    """The number of keys in the bucket, once it has caught up with the committed rows."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    while True:
        keys = await kv_keys(stage.bus, stage.settings.kv_bucket)
        if keys >= counted.kv_rows or time.monotonic() > deadline:
            return keys
        await asyncio.sleep(_POLL_SECONDS)


async def _state(stage: Stage) -> dict[str, Any]:
    """What one agent would read after a restart. The bucket is always in NATS."""
    async with Publisher(stage.nats.url, source=_SOURCE) as bus:
        status = await bus.status(_ONE_AGENT)
        found = {f"{_ONE_AGENT} _status": status.value}
        try:
            cursor = await bus.state(_ONE_AGENT, "cursor")
        except PenstockError:  # it has not finished its first task
            return found
    return {**found, f"{_ONE_AGENT} cursor (version {cursor.version})": cursor.value}


def _print_json(result: Mapping[str, float], kept: Kept | None) -> None:
    found = {**result, "kept": msgspec.structs.asdict(kept)} if kept else result
    print(json.dumps(found))  # noqa: T201  (the command's answer)


def _result(sent: Sent, counted: Counted, keys: int, elapsed: float) -> dict[str, float]:
    return {
        "published": sent.confirmed,
        "from_the_database": counted.emitted,
        "stored": counted.stored,
        "duplicates": counted.duplicates,
        "dead_letters": counted.rejected,
        "kv_keys": keys,
        "events_per_second": round(sent.confirmed / elapsed, 1),
        "p50_ms": round(counted.p50_ms, 1),
        "p99_ms": round(counted.p99_ms, 1),
    }


def _verdict(sent: Sent, counted: Counted, keys: int, worker_exit: int | None) -> int:
    """Report on standard error what does not add up. Returns the exit code."""
    expected: Mapping[str, tuple[object, object]] = {
        "refused publishes": (len(sent.failures), 0),
        "settled messages": (counted.settled, sent.confirmed + counted.emitted),
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
