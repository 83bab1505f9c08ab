"""Publishes heartbeats at an even rate, most with a receipt; of every tenth the confirmation of the
broker is awaited alone.

``python -m benchmarks.receipts_load URL RATE SECONDS`` prints one JSON object when all have come.
"""

import asyncio
import sys
import time

import msgspec

from benchmarks.receipts import LEFT_OUT_SECONDS, Asked, spread
from penstock.schemas.agents import AgentHeartbeat
from penstock.worker.publisher import Publisher

_TICK_SECONDS = 0.002
_NO_RECEIPT = 10
"""Every Nth event."""


async def load(bus: Publisher, rate: float, seconds: float) -> Asked:
    """What is asked in the first moments, while everything is loaded, is left out."""
    asked, behind, used = list[asyncio.Task[float]](), 0.0, time.process_time()
    begun = time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < seconds + LEFT_OUT_SECONDS:
        due = int(elapsed * rate) - len(asked)
        asked += [asyncio.create_task(_one(bus, len(asked) + number)) for number in range(due)]
        if elapsed > LEFT_OUT_SECONDS:
            behind = max(behind, (due - 1) / rate)
        await asyncio.sleep(_TICK_SECONDS)
    took = (await asyncio.gather(*asked))[int(LEFT_OUT_SECONDS * rate) :]
    confirmed = spread(took[::_NO_RECEIPT])
    del took[::_NO_RECEIPT]
    cpu = time.process_time() - used
    return Asked(took=spread(took), confirmed=confirmed, behind=behind, cpu=cpu)


async def _one(bus: Publisher, number: int) -> float:
    event, begun = AgentHeartbeat(agent_id=f"a-{number % 500}"), time.perf_counter()
    if number % _NO_RECEIPT:
        await bus.publish(event, receipt=True)
    else:
        await bus.publish(event)
    return time.perf_counter() - begun


async def main() -> None:
    url, rate, seconds = sys.argv[1:]
    async with Publisher(url, source="/bench") as bus:
        asked = await load(bus, float(rate), float(seconds))
    print(msgspec.json.encode(asked).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
