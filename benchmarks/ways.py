"""The ways that are compared. Each runs in a process of its own and reports one JSON object.

``python -m benchmarks.ways WAY WORKLOAD COUNT NATS_URL DSN`` prints seconds and CPU seconds of the
drain alone, start-up left out, and the peak memory of the process.
"""

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import nats

from benchmarks.workloads import WORKLOADS
from schemas.catalogue import Catalogue
from schemas.event import Event
from worker.decode import Decoder, Window
from worker.plan import group_history
from worker.ports import Message
from worker.sinks.postgres_pool import prepare_connection

_BATCH = 2_000
_FETCH = 500


class Meter:
    """Seconds and CPU seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._cpu = time.process_time()

    def report(self) -> dict[str, float]:
        return {
            "seconds": time.perf_counter() - self._began,
            "cpu": time.process_time() - self._cpu,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def _events(messages: list[Message], decoder: Decoder) -> list[Event]:
    return [event for event in decoder.decode(messages) if isinstance(event, Event)]


def _decoder() -> Decoder:
    catalogue = Catalogue.load()
    return Decoder(catalogue, Window(catalogue, {}, past="unlimited"), max_bytes=1 << 20)


async def copy(workload: str, count: int, _url: str, dsn: str) -> dict[str, float]:
    """The limit: binary COPY of ready history rows from memory, one transaction a batch."""
    messages = list(WORKLOADS[workload][1](count))
    (history,) = group_history(_events(messages, _decoder()))
    schema, _, table = history.rows.table.partition(".")
    connection = await asyncpg.connect(dsn)
    await prepare_connection(connection)
    meter = Meter()
    for start in range(0, count, _BATCH):
        async with connection.transaction():
            await connection.copy_records_to_table(
                table,
                schema_name=schema,
                columns=history.rows.columns,
                records=history.records[start : start + _BATCH],
            )
    report = meter.report()
    await connection.close()
    return report


async def stock(workload: str, count: int, url: str, dsn: str) -> dict[str, float]:
    """The stock way: nats-py ``fetch(500)``, ``executemany`` of the history alone, ack."""
    decoder = _decoder()
    connection = await asyncpg.connect(dsn)
    await prepare_connection(connection)
    client = await nats.connect(url)
    js = client.jetstream()
    subscription = await js.pull_subscribe_bind("stock", WORKLOADS[workload][0])
    meter = Meter()
    left = count
    while left:
        delivered = await subscription.fetch(_FETCH, timeout=10)
        (history,) = group_history(
            _events([Message(subject=m.subject, body=m.data) for m in delivered], decoder)
        )
        await connection.executemany(_insert(history.rows), history.records)
        for message in delivered:
            await message.ack()
        left -= len(delivered)
    await client.flush()
    report = meter.report()
    await client.close()
    await connection.close()
    return report


def _insert(rows: Any) -> str:
    places = ", ".join(f"${n}" for n in range(1, len(rows.columns) + 1))
    names = ", ".join(rows.columns)
    return f"INSERT INTO {rows.table} ({names}) VALUES ({places}) ON CONFLICT DO NOTHING"


WAYS: dict[str, Callable[[str, int, str, str], Awaitable[dict[str, float]]]] = {
    "copy": copy,
    "stock": stock,
}


async def main() -> None:
    way, workload, count, url, dsn = sys.argv[1:]
    print(json.dumps(await WAYS[way](workload, int(count), url, dsn)))


if __name__ == "__main__":
    asyncio.run(main())
