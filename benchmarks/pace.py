"""Publishes heartbeats at an even rate, each with the time at which it was published.

``python -m benchmarks.pace NATS_URL RATE SECONDS`` prints one JSON object when all are confirmed.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime
from statistics import quantiles

import nats

from benchmarks.workloads import agent
from penstock.worker.nats.sender import NatsSender
from penstock.worker.publisher import uuid7

_TICK_SECONDS = 0.002
_AGENTS = 500
_NAMES = [agent(number) for number in range(_AGENTS)]

_EVENT = (
    '{{"specversion":"1.0","id":"{id}","source":"/agents/{name}","type":"agents.heartbeat",'
    '"subject":"{name}","time":"{time}","data":{{"status":"busy","load":0.25,'
    '"metrics":{{"queue":3.0,"rss_mb":212.5}}}}}}'
)
"""A template, because producing the load must not take CPU time from what is measured."""

LEFT_OUT_SECONDS = 2.0
"""The first seconds are not counted: both sides are still warming up."""


class Pace:
    """Sends at a rate, and records in seconds how late each event was, and how long its
    confirmation took.
    """

    def __init__(self, sender: NatsSender, rate: float) -> None:
        self._sender = sender
        self._rate = rate
        self._loop = asyncio.get_running_loop()
        self.sent = 0
        self.confirmed_in: list[float] = []
        self.furthest_behind = 0.0
        self._counts = False

    async def run(self, seconds: float) -> None:
        """Send what is due, tick by tick."""
        began = self._loop.time()
        while (elapsed := self._loop.time() - began) < seconds:
            due = int(elapsed * self._rate) - self.sent
            self._counts = elapsed > LEFT_OUT_SECONDS
            if self._counts:
                self.furthest_behind = max(self.furthest_behind, due / self._rate)
            for _ in range(due):
                await self._send()
            await asyncio.sleep(_TICK_SECONDS)
        await self._sender.flush()

    async def _send(self) -> None:
        self.sent += 1
        name, event_id = _NAMES[self.sent % _AGENTS], uuid7()
        handed = self._loop.time()
        body = _EVENT.format(name=name, id=event_id, time=datetime.now(UTC).isoformat())
        confirmed = await self._sender.send(f"agents.{name}.heartbeat", body.encode(), event_id)
        if self._counts:
            confirmed.add_done_callback(
                lambda _: self.confirmed_in.append(self._loop.time() - handed)
            )


async def main() -> None:
    url, rate, seconds = sys.argv[1:]
    async with await nats.connect(url) as client:
        sender = NatsSender(client)
        await sender.open()
        pace = Pace(sender, float(rate))
        await pace.run(float(seconds))
        await sender.close()
    hundredths = quantiles(pace.confirmed_in, n=100)
    answer = {
        "sent": pace.sent,
        "confirm_p50_ms": round(hundredths[49] * 1000, 2),
        "confirm_p99_ms": round(hundredths[98] * 1000, 2),
        "furthest_behind_ms": round(pace.furthest_behind * 1000, 1),
    }
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
