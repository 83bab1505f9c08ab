"""One worker in this process, by itself or as one of several."""

import asyncio
import gc
import socket
from contextlib import AsyncExitStack

import structlog

from penstock.worker.app import Worker
from penstock.worker.ending import end
from penstock.worker.lifecycle import set_at_end_of_input, stop_on_signals
from penstock.worker.settings.keys import Settings

log = structlog.get_logger()


async def run(settings: Settings, until_idle: float | None = None) -> int:
    """Work until told to stop, or until nothing has arrived for ``until_idle`` seconds.

    Returns the exit code.
    """
    with stop_on_signals() as stopping:
        _calm_collector()
        return await _work(Worker(settings, stopping), stopping, until_idle)


async def run_supervised(
    settings: Settings, until_idle: float | None, listening: socket.socket
) -> int:
    """As `run`, for one of several processes: stop also at the end of standard input, and serve
    health on ``listening``.
    """
    structlog.contextvars.bind_contextvars(worker_id=settings.worker_id)
    with stop_on_signals() as stopping:
        _calm_collector()
        orphaned = asyncio.create_task(set_at_end_of_input(stopping), name="end of input")
        code = await _work(Worker(settings, stopping, listening), stopping, until_idle)
        await end(orphaned)
        return code


async def _work(worker: Worker, stopping: asyncio.Event, until_idle: float | None) -> int:
    """Open the worker and have it work. One that is told to stop while it waits for a server has
    nothing to drain.
    """
    async with AsyncExitStack() as stack:
        opening = asyncio.create_task(stack.enter_async_context(worker), name="opening")
        told = asyncio.create_task(stopping.wait(), name="told to stop")
        await asyncio.wait({opening, told}, return_when="FIRST_COMPLETED")
        await end(told)
        if not opening.done():
            await end(opening)
            log.info("worker_stopped", drained=True, failed=[])
            return 0
        await opening
        return await worker.work(until_idle)


def _calm_collector() -> None:
    """Make the cyclic garbage collector run rarely: batches are many objects without cycles.

    By default it scans all rows in flight again and again, which costs a quarter of the CPU time.
    """
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
