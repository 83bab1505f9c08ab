"""Publishes heartbeats at an even rate, each with a receipt.

``python -m benchmarks.receipts_load URL RATE SECONDS`` prints one JSON object when all have come.
"""

import asyncio
import sys
import time

import msgspec

from benchmarks.receipts import LEFT_OUT_SECONDS, Asked
from penstock.schemas.agents import AgentHeartbeat
from penstock.worker.publisher import Publisher

_TICK_SECONDS = 0.002


async def load(bus: Publisher, rate: float, seconds: float) -> Asked:
    """What is asked in the first moments, while everything is loaded, is left out."""
    begun, behind, asked = time.perf_counter(), 0.0, list[asyncio.Task[float]]()
    while (elapsed := time.perf_counter() - begun) < seconds + LEFT_OUT_SECONDS:
        due = int(elapsed * rate) - len(asked)
        asked += [asyncio.create_task(_one(bus, len(asked) + number)) for number in range(due)]
        if elapsed > LEFT_OUT_SECONDS:
            behind = max(behind, (due - 1) / rate)
        await asyncio.sleep(_TICK_SECONDS)
    took = await asyncio.gather(*asked)
    return Asked(took=took[int(LEFT_OUT_SECONDS * rate) :], behind=behind, cpu=time.process_time())


async def _one(bus: Publisher, number: int) -> float:
    begun = time.perf_counter()
    await bus.publish(AgentHeartbeat(agent_id=f"a-{number % 500}"), receipt=True)
    return time.perf_counter() - begun


async def main() -> None:
    url, rate, seconds = sys.argv[1:]
    async with Publisher(url, source="/bench") as bus:
        asked = await load(bus, float(rate), float(seconds))
    print(msgspec.json.encode(asked).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
