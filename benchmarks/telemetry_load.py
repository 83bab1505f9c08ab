"""Publishes samples and heartbeats at an even rate, each event with the time of publishing.

``python -m benchmarks.telemetry_load NATS_URL SECONDS`` prints one JSON object when all are
confirmed.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime

import nats

from benchmarks.telemetry import (
    OTHERS_PER_SECOND,
    SAMPLES_PER_EVENT,
    SAMPLES_PER_SECOND,
    samples,
)
from benchmarks.workloads import agent
from penstock.worker.nats.sender import NatsSender
from penstock.worker.publisher import uuid7

_TICK_SECONDS = 0.002
_NAMES = [agent(number) for number in range(500)]
_HEAD = (
    '{{"specversion":"1.0","id":"{}","source":"/agents/x","type":"{}","subject":"{}","time":"{}"'
)
_SAMPLES = [
    f',"data":{{"scope":"agent","samples":{json.dumps(samples(number))}}}}}' for number in range(20)
]
_BEAT = ',"data":{"status":"busy","load":0.25,"metrics":{"queue":3.0,"rss_mb":212.5}}}'


class Load:
    """One kind of event at a rate."""

    def __init__(self, sender: NatsSender, kind: str, rate: float, tails: list[str]) -> None:
        self._sender = sender
        self._kind = kind
        self._rate = rate
        self._tails = tails
        self.sent = 0
        self.furthest_behind = 0.0

    async def send_due(self, elapsed: float) -> None:
        """Send what is due after so many seconds."""
        due = int(elapsed * self._rate) - self.sent
        self.furthest_behind = max(self.furthest_behind, due / self._rate)
        for _ in range(due):
            self.sent += 1
            name, event_id = _NAMES[self.sent % len(_NAMES)], uuid7()
            head = _HEAD.format(event_id, self._kind, name, datetime.now(UTC).isoformat())
            domain, _, verb = self._kind.partition(".")
            body = head + self._tails[self.sent % len(self._tails)]
            await self._sender.send(f"{domain}.{name}.{verb}", body.encode(), event_id)


async def main() -> None:
    url, seconds = sys.argv[1:]
    async with await nats.connect(url) as client:
        sender = NatsSender(client)
        await sender.open()
        per_second = SAMPLES_PER_SECOND / SAMPLES_PER_EVENT
        metrics = Load(sender, "metrics.recorded", per_second, _SAMPLES)
        beats = Load(sender, "agents.heartbeat", OTHERS_PER_SECOND, [_BEAT])
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (elapsed := loop.time() - began) < float(seconds):
            await metrics.send_due(elapsed)
            await beats.send_due(elapsed)
            await asyncio.sleep(_TICK_SECONDS)
        await sender.flush()
        await sender.close()
    behind = max(metrics.furthest_behind, beats.furthest_behind)
    answer = {
        "samples": metrics.sent * SAMPLES_PER_EVENT,
        "others": beats.sent,
        "furthest_behind_ms": round(behind * 1000, 1),
    }
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
