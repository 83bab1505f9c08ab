"""RabbitMQ: Penstock and hand-written workers drain quorum queues with the same events."""

from typing import Any

import aio_pika

from benchmarks import watching
from benchmarks.drain import Outcome, new_consumer
from benchmarks.measure import Figures, Meter
from benchmarks.processes import Failed, rival, worker
from benchmarks.rival import Job
from benchmarks.servers import Servers, ask
from benchmarks.storing import store_on_rabbitmq
from benchmarks.workloads import heartbeats
from penstock.worker.rabbitmq.topology import EXCHANGE, QUORUM

COUNT = 20_000
RIVALS = ("callback", "consume")
_QUEUE = "AGENT_STATE"


async def compare_queues(
    servers: Servers, url: str, count: int, rounds: int
) -> dict[str, list[Outcome]]:
    """Every way ``rounds`` times in turn. Draining empties a queue, so each round publishes again,
    to one queue per way.
    """
    await servers.forget()
    settings = {"brokers": "rabbitmq", "rabbitmq_url": url, "kv": "false"}
    async with worker(settings, "provision") as process:
        await process.done()
    await _bind_queues(url)
    outcomes: dict[str, list[Outcome]] = {way: [] for way in ("penstock", *RIVALS)}
    for _ in range(rounds):
        await store_on_rabbitmq(url, heartbeats(count))
        for way, seen in outcomes.items():
            seen.append(await _once(servers, url, way, count))
    return outcomes


async def _bind_queues(url: str) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for name in RIVALS:
            queue = await channel.declare_queue(
                name, durable=True, arguments=dict[str, Any](QUORUM)
            )
            await queue.bind(EXCHANGE, "agents.#")


async def _once(servers: Servers, url: str, way: str, count: int) -> Outcome:
    measure = _penstock if way == "penstock" else _rival
    async with servers.database() as dsn:
        try:
            return await measure(servers, url, dsn, way, count)
        except (Failed, TimeoutError) as error:
            return f"failed: {error!r}"


async def _penstock(servers: Servers, url: str, dsn: str, way: str, count: int) -> Figures:
    bucket = new_consumer(way)
    settings = {
        "brokers": "rabbitmq",
        "rabbitmq_url": url,
        "nats_url": servers.nats.url,
        "postgres_dsn": dsn,
        "kv_bucket": bucket,
        "streams": _QUEUE,
    }
    async with worker(settings) as process:
        meter = Meter([process.pid], servers.pids)
        figures = await watching.queue(url, _QUEUE, count, lambda: _stored(dsn), process, meter)
        if code := await process.stop():
            raise Failed(f"the worker ended with {code}")
    await servers.js.delete_key_value(bucket)
    return figures


async def _rival(servers: Servers, url: str, dsn: str, way: str, count: int) -> Figures:
    job = Job(way=way, dsn=dsn, workload="heartbeats", count=count, durable=way, rabbitmq_url=url)
    async with rival(job) as process:
        figures = await watching.lines(process, Meter([process.pid], servers.pids), count)
    if way != "consume" and (stored := await _stored(dsn)) != count:
        raise Failed(f"it stored {stored} of {count} events")
    return figures


async def _stored(dsn: str) -> int:
    return int(await ask(dsn, "SELECT count(*) FROM agents.heartbeat"))
