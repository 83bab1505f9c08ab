"""How long a receipt takes at even rates: ``python -m benchmarks.receipts`` prints p50 and p99.

On NATS, and on RabbitMQ where it is installed; publisher, worker and servers share this machine.
"""

import asyncio
from datetime import UTC, datetime
from statistics import quantiles

from benchmarks.processes import worker
from benchmarks.servers import Servers, started
from penstock.schemas.agents import AgentHeartbeat
from penstock.worker.embedded import ServerFailed
from penstock.worker.publisher import OutcomeUnknown, Publisher, PublishRefused

RATES = (100, 1_000)
_SECONDS = 10.0
_TICK_SECONDS = 0.002
_PERCENT = 100


async def receipts_at(bus: Publisher, rate: int) -> list[float]:
    """Seconds from publishing to the receipt of each event."""
    loop = asyncio.get_running_loop()

    async def one(number: int) -> float:
        begun = loop.time()
        await bus.publish(AgentHeartbeat(agent_id=f"a-{number % 500}"), receipt=True)
        return loop.time() - begun

    begun, asked = loop.time(), list[asyncio.Task[float]]()
    while (elapsed := loop.time() - begun) < _SECONDS:
        due = int(elapsed * rate) - len(asked)
        asked += [asyncio.create_task(one(len(asked) + number)) for number in range(due)]
        await asyncio.sleep(_TICK_SECONDS)
    return await asyncio.gather(*asked)


async def ready(bus: Publisher) -> None:
    """Return with the first receipt: the worker is up then."""
    while True:
        try:
            await bus.publish(AgentHeartbeat(agent_id="a-0"), receipt=True, timeout=5)
        except (OutcomeUnknown, PublishRefused):  # it makes the streams and queues first
            await asyncio.sleep(_TICK_SECONDS * 100)
        else:
            return


async def measure(name: str, url: str, servers: Servers, **settings: str) -> None:
    """Print one line for each rate."""
    async with servers.database() as dsn:
        given = {"nats_url": servers.nats.url, "postgres_dsn": dsn, "migrate": "true", **settings}
        async with worker(given), Publisher(url, source="/bench", wait=True) as bus:
            await ready(bus)
            for rate in RATES:
                took = await receipts_at(bus, rate)
                percents = quantiles(took, n=_PERCENT)
                print(
                    f"{name}, {rate}/s: p50 {percents[49] * 1000:.1f} ms, "
                    f"p99 {percents[98] * 1000:.1f} ms, longest {max(took) * 1000:.1f} ms"
                )


async def main() -> None:
    """On both brokers, one after the other."""
    print(datetime.now(UTC).isoformat(timespec="seconds"))
    async with started() as servers:
        await measure("nats", servers.nats.url, servers)
        try:
            async with servers.with_rabbitmq() as node:
                settings = {"brokers": "rabbitmq", "rabbitmq_url": node.url}
                await measure("rabbitmq", node.url, servers, **settings)
        except ServerFailed as missing:
            print(f"rabbitmq: {missing}")


if __name__ == "__main__":
    asyncio.run(main())
