"""The time from publishing to the commit, at even rates, with default settings.

The publisher writes the time of publishing into the event; PostgreSQL keeps the time of every
commit. Both use the clock of this machine.
"""

import msgspec

from benchmarks.drain import new_consumer
from benchmarks.measure import Meter
from benchmarks.pace import LEFT_OUT_SECONDS
from benchmarks.processes import Failed, running, worker
from benchmarks.servers import Servers, ask
from benchmarks.watching import until_drained

RATES = (100, 1_000, 10_000)
_STREAM = "AGENT_STATE"

_LATENCY = """
WITH late AS (
    SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - occurred_at) * 1000 AS ms
    FROM agents.heartbeat
    WHERE occurred_at > (SELECT min(occurred_at) FROM agents.heartbeat) + make_interval(secs => $1)
)
SELECT percentile_cont(ARRAY[0.5, 0.99, 1.0]) WITHIN GROUP (ORDER BY ms)::float[] FROM late
"""


class Paced(msgspec.Struct):
    """What the publisher reports; see `benchmarks.pace`."""

    sent: int
    confirm_p50_ms: float
    confirm_p99_ms: float
    furthest_behind_ms: float


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds at one rate. ``paced`` says how fast the bus itself was.

    ``cpu`` is in microseconds per event, over the whole time, by process.
    """

    rate: int
    p50_ms: float
    p99_ms: float
    longest_ms: float
    cpu: dict[str, float]
    paced: Paced


async def latency(servers: Servers, rate: int, seconds: float) -> Latency:
    """Publish for ``seconds`` to a running worker; the first seconds are left out."""
    await servers.forget()
    durable = new_consumer("latency")
    async with servers.database() as dsn:
        settings = {
            "nats_url": servers.nats.url,
            "postgres_dsn": dsn,
            "consumer": durable,
            "kv_bucket": durable,
        }
        async with worker(settings) as process:
            await until_drained(servers.js, durable, [_STREAM], [process])
            meter = Meter([process.pid], servers.pids)
            begin = meter.read()
            paced = await _publish(servers.nats.url, rate, seconds)
            await until_drained(servers.js, durable, [_STREAM], [process])
            figures = meter.figures(begin, meter.read(), paced.sent)
            await process.stop()
        stored = await ask(dsn, "SELECT count(*) FROM agents.heartbeat")
        if stored != paced.sent:
            raise Failed(f"it stored {stored} of {paced.sent} events")
        p50, p99, longest = await ask(dsn, _LATENCY, LEFT_OUT_SECONDS)
    return Latency(
        rate=rate,
        p50_ms=round(p50, 1),
        p99_ms=round(p99, 1),
        longest_ms=round(longest, 1),
        cpu=figures.cpu,
        paced=paced,
    )


async def _publish(url: str, rate: int, seconds: float) -> Paced:
    async with running("-m", "benchmarks.pace", url, str(rate), str(seconds)) as process:
        return msgspec.json.decode(await process.line(), type=Paced)
