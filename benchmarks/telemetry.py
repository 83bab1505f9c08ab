"""Samples of metrics at a steady rate beside other events: how far behind, and what a sample costs.

The publisher writes the time of publishing into each event; PostgreSQL keeps the time of every
commit. Both use the clock of this machine.
"""

import os
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from benchmarks import watching
from benchmarks.drain import new_consumer
from benchmarks.measure import Figures, Meter
from benchmarks.pace import LEFT_OUT_SECONDS
from benchmarks.processes import Failed, running, worker
from benchmarks.servers import Servers, ask
from benchmarks.storing import store
from benchmarks.workloads import Made, Writer, agent
from penstock.worker.postgres.pool import prepare_connection

SAMPLES_PER_SECOND = 10_000
OTHERS_PER_SECOND = 1_000
SAMPLES_PER_EVENT = 50
DRAINED = 500_000
"""Samples to drain."""

_COPIED_AT_ONCE = 5_000
_STREAM = "TELEMETRY"
_STREAMS = (_STREAM, "AGENT_STATE")
_COLUMNS = (
    *("event_id", "n", "occurred_at", "scope", "entity", "name", "kind", "value", "unit", "tags"),
)
_STORED = "SELECT count(*) FROM telemetry.metric"

_LAGS = """
WITH late AS (
    SELECT occurred_at, pg_xact_commit_timestamp(xmin) - occurred_at AS lag FROM {table}
    WHERE {condition}
)
SELECT array_agg(worst ORDER BY second) FROM (
    SELECT floor(extract(epoch FROM occurred_at - (SELECT min(occurred_at) FROM late))) AS second,
           max(extract(epoch FROM lag) * 1000)::float8 AS worst
    FROM late GROUP BY second
) AS seconds
"""


class Sent(msgspec.Struct):
    """What the publisher reports; see `benchmarks.telemetry_load`."""

    samples: int
    others: int
    furthest_behind_ms: float


class Telemetry(msgspec.Struct, frozen=True, kw_only=True):
    """One run. The lags, in milliseconds, are the longest of each second, from publishing to
    commit; ``cores`` is how many of them each process kept busy meanwhile. ``drained`` and
    ``copied`` are per sample.
    """

    seconds: float
    sent: Sent
    sample_lags_ms: list[float]
    other_lags_ms: list[float]
    cores: dict[str, float]
    drained: Figures
    copied: Figures


async def telemetry(servers: Servers, seconds: float, factor: float) -> Telemetry:
    """Publish for ``seconds`` to a running worker; then drain samples, and copy as many rows."""
    sent, sample_lags, other_lags, cores = await _paced(servers, seconds)
    count = max(100, round(DRAINED * factor / SAMPLES_PER_EVENT))
    return Telemetry(
        seconds=seconds,
        sent=sent,
        sample_lags_ms=sample_lags,
        other_lags_ms=other_lags,
        cores=cores,
        drained=await _drained(servers, count),
        copied=await _copied(servers, count),
    )


async def _paced(
    servers: Servers, seconds: float
) -> tuple[Sent, list[float], list[float], dict[str, float]]:
    await servers.forget()
    durable = new_consumer("telemetry")
    async with servers.database() as dsn:
        async with worker(_settings(servers, dsn, durable)) as process:
            await watching.until_drained(servers.js, durable, _STREAMS, [process])
            meter = Meter([process.pid], servers.pids)
            begin = meter.read()
            sent = await _publish(servers.nats.url, seconds)
            end = meter.read()
            await watching.until_drained(servers.js, durable, _STREAMS, [process])
            await process.stop()
        for query, count in (
            (_STORED, sent.samples),
            ("SELECT count(*) FROM agents.heartbeat", sent.others),
        ):
            if (stored := await ask(dsn, query)) != count:
                raise Failed(f"it stored {stored} of {count}")
        lags = [
            await ask(dsn, _LAGS.format(table=table, condition=condition))
            for table, condition in (("telemetry.metric", "n = 0"), ("agents.heartbeat", "true"))
        ]
    spent = {name: end.cpu[name] - begin.cpu[name] for name in end.cpu}
    cores = {name: round(used / (end.at - begin.at), 2) for name, used in spent.items()}
    samples, others = ([round(ms, 1) for ms in found[int(LEFT_OUT_SECONDS) :]] for found in lags)
    return sent, samples, others, cores


def _settings(servers: Servers, dsn: str, durable: str) -> dict[str, str]:
    return {
        "nats_url": servers.nats.url,
        "postgres_dsn": dsn,
        "consumer": durable,
        "kv_bucket": durable,
    }


async def _publish(url: str, seconds: float) -> Sent:
    async with running("-m", "benchmarks.telemetry_load", url, str(seconds)) as process:
        return msgspec.json.decode(await process.line(), type=Sent)


def samples(number: int) -> list[dict[str, Any]]:
    """What event ``number`` holds."""
    return [
        {
            "name": f"app.metric_{n % 10}",
            "value": (number + n) % 1000 / 8,
            "kind": "gauge",
            "unit": "ms",
            "tags": {"zone": f"z{n % 3}", "shard": str(n)},
        }
        for n in range(SAMPLES_PER_EVENT)
    ]


def _events(count: int) -> Iterator[Made]:
    writer = Writer()
    for number in range(count):
        data = {"scope": "agent", "samples": samples(number)}
        yield writer.event(number, "metrics.recorded", agent(number % 500), data)


async def _drained(servers: Servers, count: int) -> Figures:
    """``count`` events, by a worker of its own."""
    await servers.forget()
    async with worker({"nats_url": servers.nats.url, "kv": "false"}, "provision") as process:
        await process.done()
    await store(servers.nats.url, _events(count), count, count)
    durable = new_consumer("telemetry")
    async with servers.database() as dsn:
        settings = {**_settings(servers, dsn, durable), "streams": _STREAM}
        async with worker(settings) as process:
            meter = Meter([process.pid], servers.pids)
            found = await watching.consumers(servers.js, durable, (_STREAM,), [process], meter)
            await process.stop()
        stored = await ask(dsn, _STORED)
        if stored != count * SAMPLES_PER_EVENT:
            raise Failed(f"it stored {stored} of {count * SAMPLES_PER_EVENT} samples")
    return msgspec.structs.replace(
        found,
        events=found.events * SAMPLES_PER_EVENT,
        events_per_second=found.events_per_second * SAMPLES_PER_EVENT,
        cpu={name: round(us / SAMPLES_PER_EVENT, 2) for name, us in found.cpu.items()},
    )


def _rows(count: int) -> Iterator[tuple[Any, ...]]:
    for made in _events(count):
        body = msgspec.json.decode(made.body)
        time = datetime.fromisoformat(body["time"])
        for n, one in enumerate(body["data"]["samples"]):
            tags = msgspec.json.encode(one["tags"])
            head = (body["id"], n, time, "agent", body["subject"])
            yield (*head, one["name"], one["kind"], one["value"], one["unit"], tags)


async def _copied(servers: Servers, count: int) -> Figures:
    """The limit: the same rows, ready in memory, into the same table."""
    rows = list(_rows(count))
    async with servers.database() as dsn:
        connection = await asyncpg.connect(dsn)
        await prepare_connection(connection)
        meter = Meter([os.getpid()], servers.pids)
        begin = meter.read()
        for start in range(0, len(rows), _COPIED_AT_ONCE):
            await connection.copy_records_to_table(
                "metric",
                schema_name="telemetry",
                columns=_COLUMNS,
                records=rows[start : start + _COPIED_AT_ONCE],
            )
        end = meter.read()
        await connection.close()
    return meter.figures(begin, end, len(rows))
