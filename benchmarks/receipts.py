"""How long a receipt takes at even rates, on NATS and on RabbitMQ.

Publisher, worker and servers share this machine; the publisher is a process of its own.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from statistics import quantiles

import msgspec

from benchmarks.measure import Meter
from benchmarks.processes import running, worker
from benchmarks.servers import Servers
from penstock.schemas.agents import AgentHeartbeat
from penstock.worker.embedded import ServerFailed
from penstock.worker.publisher import OutcomeUnknown, Publisher, PublishRefused

RATES = (100, 1_000)
_RETRY_SECONDS = 0.2
LEFT_OUT_SECONDS = 1.0
"""At the beginning, while everything is loaded."""


class Spread(msgspec.Struct, frozen=True):
    """How long things took, in milliseconds."""

    p50: float
    p99: float
    longest: float


class Receipts(msgspec.Struct, frozen=True, kw_only=True):
    """From publishing to the receipt, and to the confirmation of the broker alone. ``behind_ms`` is
    the furthest that the publisher itself was behind its rate; ``cores`` is how many of them each
    process kept busy.
    """

    broker: str
    rate: int
    receipt: Spread
    confirmation: Spread
    behind_ms: float
    cores: dict[str, float]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the publisher reports; ``behind`` and ``cpu`` in seconds."""

    took: Spread
    confirmed: Spread
    behind: float
    cpu: float


def spread(seconds: list[float]) -> Spread:
    """The spread of some times."""
    percents = quantiles(seconds, n=100)
    found = (percents[49], percents[98], max(seconds))
    return Spread(*(round(one * 1000, 1) for one in found))


async def receipts(
    servers: Servers, seconds: float, trouble: Callable[[str], None]
) -> list[Receipts]:
    """Each rate for ``seconds``, the brokers one after the other."""
    found = await _measured("nats", servers.nats.url, servers, seconds)
    try:
        async with servers.with_rabbitmq() as node:
            found += await _measured("rabbitmq", node.url, servers, seconds)
    except ServerFailed as missing:
        trouble(f"receipts on rabbitmq: {missing}")
    return found


async def _measured(name: str, url: str, servers: Servers, seconds: float) -> list[Receipts]:
    await servers.forget()
    settings = {"brokers": name, "nats_url": servers.nats.url, f"{name}_url": url}
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(servers.database())
        process = await stack.enter_async_context(worker({**settings, "postgres_dsn": dsn}))
        async with Publisher(url, source="/bench", wait=True) as bus:
            await ready(bus)
        meter = Meter([process.pid], servers.pids)
        return [await _paced(name, url, rate, seconds, meter) for rate in RATES]


async def _paced(name: str, url: str, rate: int, seconds: float, meter: Meter) -> Receipts:
    async with running("-m", "benchmarks.receipts_load", url, str(rate), str(seconds)) as process:
        begin = meter.read()
        asked = msgspec.json.decode(await process.line(), type=Asked)
        end = meter.read()
    spent = {key: end.cpu[key] - begin.cpu[key] for key in end.cpu} | {"publisher": asked.cpu}
    return Receipts(
        broker=name,
        rate=rate,
        receipt=asked.took,
        confirmation=asked.confirmed,
        behind_ms=round(asked.behind * 1000, 1),
        cores={key: round(used / (end.at - begin.at), 2) for key, used in spent.items()},
    )


async def ready(bus: Publisher) -> None:
    """Return with the first receipt: the worker is up then."""
    while True:
        try:
            await bus.publish(AgentHeartbeat(agent_id="a-0"), receipt=True, timeout=5)
        except (OutcomeUnknown, PublishRefused):  # it makes the streams and queues first
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return
