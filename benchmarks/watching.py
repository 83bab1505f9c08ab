"""Follows a drain from its first delivery to its last acknowledgement."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import aio_pika
import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo

from benchmarks.measure import Figures, Meter, Reading
from benchmarks.processes import Failed, Running

Stored = Callable[[], Awaitable[int]]

_SECONDS = 120.0
"""A drain that takes longer has failed."""

_FIRST_POLL_SECONDS = 0.005
_POLL_SECONDS = 0.05
"""Polling takes CPU time from what is measured, but little compared with a drain of seconds."""


class Watch:
    """Polls until a deadline, as long as all processes are running."""

    def __init__(self, processes: Sequence[Running]) -> None:
        self._processes = processes
        self._deadline = time.monotonic() + _SECONDS

    async def pause(self, seconds: float) -> None:
        """Wait. Raises Failed if a process has ended or the deadline has passed."""
        for process in self._processes:
            process.check()
        if time.monotonic() > self._deadline:
            raise Failed(f"not done in {_SECONDS:g} s")
        await asyncio.sleep(seconds)


async def consumers(
    js: JetStreamContext,
    durable: str,
    streams: Sequence[str],
    processes: Sequence[Running],
    meter: Meter,
) -> Figures:
    """Measure a drain of JetStream streams. The server says how much is left."""
    watch = Watch(processes)
    while not _delivering(found := await _infos(js, durable, streams)):
        await watch.pause(_FIRST_POLL_SECONDS)
    begin, waiting = meter.read(), _left(found)
    while _left(await _infos(js, durable, streams)):
        await watch.pause(_POLL_SECONDS)
    return meter.figures(begin, meter.read(), waiting)


async def until_drained(
    js: JetStreamContext, durable: str, streams: Sequence[str], processes: Sequence[Running]
) -> None:
    """Wait until the consumers exist and nothing is left for them."""
    watch = Watch(processes)
    while not (found := await _infos(js, durable, streams)) or _left(found):
        await watch.pause(_POLL_SECONDS)


async def _infos(js: JetStreamContext, durable: str, streams: Sequence[str]) -> list[ConsumerInfo]:
    """The consumers' descriptions; empty until every stream has its consumer."""
    try:
        return [await js.consumer_info(stream, durable) for stream in streams]
    except nats.js.errors.NotFoundError:
        return []


def _delivering(infos: Sequence[ConsumerInfo]) -> bool:
    return any(info.delivered is not None and info.delivered.consumer_seq for info in infos)


def _left(infos: Sequence[ConsumerInfo]) -> int:
    return sum((info.num_pending or 0) + (info.num_ack_pending or 0) for info in infos)


async def queue(
    url: str, name: str, count: int, stored: Stored, process: Running, meter: Meter
) -> Figures:
    """Measure a worker's drain of a queue of ``count`` messages, until all are ``stored``.

    RabbitMQ says how many messages are ready, but not how many are unacknowledged.
    """
    watch = Watch([process])
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()

        async def ready() -> int:
            found = await channel.declare_queue(name, passive=True)
            return found.declaration_result.message_count or 0

        while await ready() == count:
            await watch.pause(_FIRST_POLL_SECONDS)
        begin = meter.read()
        while await ready():
            await watch.pause(_POLL_SECONDS)
    while await stored() < count:
        await watch.pause(_POLL_SECONDS)
    return meter.figures(begin, meter.read(), count)


async def lines(process: Running, meter: Meter, events: int) -> Figures:
    """Measure a rival that prints when it begins and when it has drained ``events``."""
    begin = await _at(process, "begin", meter)
    end = await _at(process, "end", meter)
    return meter.figures(begin, end, events)


async def _at(process: Running, word: str, meter: Meter) -> Reading:
    line = await asyncio.wait_for(process.line(), _SECONDS)
    if line != word:
        raise Failed(f"it printed {line!r} instead of {word!r}")
    return meter.read()
