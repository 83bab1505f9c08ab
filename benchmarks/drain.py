"""Drain rate of stored events: Penstock with all guarantees, beside the limit and the stock way.

Everything runs on this machine: PostgreSQL with fsync, NATS with ``sync_interval: always``.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import asyncpg
import nats
import psutil  # type: ignore[import-untyped]
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from benchmarks.workloads import WORKLOADS
from worker.embedded import EmbeddedNats, EmbeddedPostgres, drop_database
from worker.migrate import up
from worker.publisher import Sender

Report = dict[str, float]


async def drain(workload: str, count: int, rounds: int) -> dict[str, Any]:
    """Every way ``rounds`` times in turn on the same stored events; medians of each figure."""
    stream, make = WORKLOADS[workload]
    reports: dict[str, list[Report]] = {"penstock": [], "copy": [], "stock": []}
    async with EmbeddedNats() as bus, EmbeddedPostgres() as postgres:
        dsn = await postgres.create_database("empty")
        await up(dsn)
        await penstock("create", bus, dsn, stream, 0)
        await store(bus.url, make(count))
        for turn in range(rounds):
            for way, found in reports.items():
                database = await postgres.create_database(f"{way}_{turn}", "empty")
                if way == "penstock":
                    report = await penstock(f"bench{turn}", bus, database, stream, count)
                else:
                    report = await other(way, bus, database, workload, count)
                await check(database, workload, count)
                found.append({**report, "rate": count / report["seconds"]})
                await drop_database(postgres.dsn, f"{way}_{turn}")
    return {way: medians(found, count) for way, found in reports.items()}


def medians(reports: list[Report], count: int) -> Report:
    """Median rate (events/s), CPU (microseconds an event) and the greatest memory (MB)."""
    return {
        "events_per_second": round(statistics.median(r["rate"] for r in reports)),
        "cpu_us_per_event": round(statistics.median(r["cpu"] for r in reports) / count * 1e6, 1),
        "peak_mb": round(max(r["peak_mb"] for r in reports)),
    }


async def store(url: str, messages: Iterator[Any]) -> None:
    """Publish with confirmation."""
    client = await nats.connect(url)
    sender = Sender(client, max_pending=5_000, max_pending_bytes=32 << 20)
    await sender.open()
    number = 0
    while chunk := list(islice(messages, 5_000)):
        waiting = []
        for message in chunk:
            number += 1
            waiting.append(await sender.send(message.subject, message.body, f"n{number}"))
        await asyncio.gather(*waiting)
    await sender.close()
    await client.close()


async def penstock(consumer: str, bus: Any, dsn: str, stream: str, count: int) -> Report:
    """A worker process; measured from its first delivery to its last acknowledgement."""
    client = await nats.connect(bus.url)
    js = client.jetstream()
    environ = {
        **os.environ,
        "PENSTOCK_NATS_URL": bus.url,
        "PENSTOCK_POSTGRES_DSN": dsn,
        "PENSTOCK_CONSUMER": consumer,
        "PENSTOCK_HTTP_PORT": "-1",
        "PENSTOCK_STREAMS": stream if count else "",
        "PENSTOCK_LOG_FORMAT": "json",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "worker",
        "run",
        "--until-idle",
        "0.5",
        env=environ,
        stderr=asyncio.subprocess.DEVNULL,
    )
    report = await watch(js, stream, consumer, process.pid, count) if count else {}
    assert await process.wait() == 0
    await client.close()
    return report


async def watch(js: JetStreamContext, stream: str, consumer: str, pid: int, count: int) -> Report:
    """Follow a consumer from its first delivery until nothing is left."""
    process = psutil.Process(pid)
    began = cpu = 0.0
    while True:
        try:
            info = await js.consumer_info(stream, consumer)
        except nats.js.errors.NotFoundError:
            await asyncio.sleep(0.005)
            continue
        times = process.cpu_times()
        if not began:
            began, cpu = time.perf_counter(), times.user + times.system
            first = info.num_pending
        if info.num_pending == 0 and info.num_ack_pending == 0:
            seconds = (time.perf_counter() - began) * count / max(1, first or 0)
            used = times.user + times.system - cpu
            return {"seconds": seconds, "cpu": used, "peak_mb": peak(process)}
        await asyncio.sleep(0.02)


def peak(process: psutil.Process) -> float:
    """Peak resident memory of a running process in MB."""
    status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


async def other(way: str, bus: Any, dsn: str, workload: str, count: int) -> Report:
    """One of `benchmarks.ways` in a process of its own."""
    stream = WORKLOADS[workload][0]
    async with await nats.connect(bus.url) as client:
        js = client.jetstream()
        if way == "stock":
            config = ConsumerConfig(
                durable_name="stock", ack_policy=AckPolicy.EXPLICIT, max_ack_pending=20_000
            )
            await js.add_consumer(stream, config)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.ways",
            way,
            workload,
            str(count),
            bus.url,
            dsn,
            stdout=asyncio.subprocess.PIPE,
        )
        answer, _ = await process.communicate()
        if way == "stock":
            await js.delete_consumer(stream, "stock")
    report: Report = json.loads(answer)
    return report


async def check(dsn: str, workload: str, count: int) -> None:
    """A way that did not store everything has not been measured."""
    table = "agents.heartbeat" if workload == "heartbeats" else "events.log"
    connection = await asyncpg.connect(dsn)
    found = await connection.fetchval(f"SELECT count(*) FROM {table}")
    await connection.close()
    assert found == count, f"{found} of {count} stored"
