"""Keeps a number of workers running on one machine, until it is told to stop."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import structlog

from penstock.worker.lifecycle import stop_on_signals
from penstock.worker.ops.http import NO_PORT, HealthServer
from penstock.worker.processes.answers import SharedAnswers
from penstock.worker.processes.child import Child
from penstock.worker.processes.merged import MergedMetrics
from penstock.worker.settings.keys import Settings

log = structlog.get_logger()

_REFUSED = 2
"""The exit code of a worker that cannot run with what it was given."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_LASTING_SECONDS = 60.0
"""A worker that ran for this long is started again without a longer pause than the first."""
_GRACE = 10.0
"""What closing connections may take after ``drain_timeout``."""


async def run(settings: Settings, arguments: Sequence[str], *, until_idle: bool) -> int:
    """Run ``settings.processes`` workers with the command line ``arguments``. Exit code.

    0 after all have drained; 2 if one cannot run with these settings; 1 if one was late or failed
    while stopping. A second signal ends all at once.
    """
    names = [f"{settings.worker_id[:60]}-{n}" for n in range(1, settings.processes + 1)]
    children = [Child(name, arguments) for name in names]

    def at_once() -> None:
        for child in children:
            child.kill()

    with stop_on_signals(at_once) as stopping:
        supervisor = Supervisor(settings, children, stopping, until_idle=until_idle)
        try:
            return await supervisor.work()
        finally:
            at_once()


class Supervisor:
    """Starts children, starts them again when they end, and stops them together."""

    def __init__(
        self,
        settings: Settings,
        children: Sequence[Child],
        stopping: asyncio.Event,
        *,
        until_idle: bool,
    ) -> None:
        self._settings = settings
        self._children = children
        self._stopping = stopping
        self._until_idle = until_idle
        self._metrics = MergedMetrics()

    async def work(self) -> int:
        """Until told to stop, or until all have ended in order because nothing was left to do."""
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(aiohttp.ClientSession())
            await self._serve_health(stack, client)
            tasks = [
                asyncio.create_task(self._keep(child), name=f"child {child.name}")
                for child in self._children
            ]
            await self._told_or_ended(tasks)
            return await self._stop(tasks)

    async def _told_or_ended(self, tasks: Sequence[asyncio.Task[int]]) -> None:
        told = asyncio.create_task(self._stopping.wait(), name="told to stop")
        ended = asyncio.gather(*tasks)
        both: list[asyncio.Future[Any]] = [told, ended]
        await asyncio.wait(both, return_when="FIRST_COMPLETED")
        told.cancel()

    async def _serve_health(self, stack: AsyncExitStack, client: aiohttp.ClientSession) -> None:
        settings = self._settings
        if settings.http_port == NO_PORT:
            return
        answers = SharedAnswers(client, self._children, self._metrics)
        server = HealthServer(settings.http_host, settings.http_port, answers)
        await stack.enter_async_context(server)
        log.info("health_served", host=settings.http_host, port=server.port)

    async def _stop(self, tasks: Sequence[asyncio.Task[int]]) -> int:
        log.info("worker_stopping", deadline=self._settings.drain_timeout)
        for child in self._children:
            child.ask_to_stop()
        late = (await asyncio.wait(tasks, timeout=self._settings.drain_timeout + _GRACE))[1]
        for child in self._children:
            child.kill()
        codes = await asyncio.gather(*tasks)
        log.info("worker_stopped", drained=not late, exit_codes=codes)
        return _REFUSED if _REFUSED in codes else int(any(codes))

    async def _keep(self, child: Child) -> int:
        """Its last exit code, once it need not be started again."""
        pause, first = _FIRST_PAUSE, True
        while True:
            code, seconds = await self._run_once(child)
            if self._stopping.is_set() or (code == 0 and self._until_idle):
                return code
            if code == _REFUSED and first:
                self._stopping.set()
                return code
            pause = _FIRST_PAUSE if seconds > _LASTING_SECONDS else pause
            log.warning("child_ended", child=child.name, exit_code=code, again_in=pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
                return 0
            pause, first = min(pause * 2, _LONGEST_PAUSE), False

    async def _run_once(self, child: Child) -> tuple[int, float]:
        """Exit code and how long it ran, in seconds."""
        begun = time.monotonic()
        code = await child.run()
        self._metrics.ended(child.name)
        return code, time.monotonic() - begun
