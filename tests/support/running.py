"""A worker inside the test's own process, and the waiting that tests do."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from penstock.worker.app import Worker
from penstock.worker.settings.keys import Settings, load


def settings_for(nats_url: str, dsn: str, **more: str) -> Settings:
    """Settings for a test: short waits, no fixed port."""
    flags = {
        "nats_url": nats_url,
        "postgres_dsn": dsn,
        "http_port": "-1",
        "ack_wait": "5s",
        "heartbeat": "500ms",
        "nack_delay": "200ms",
        **more,
    }
    return load(flags, environ={})


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Worker]:
    """A worker at work; drained and checked at the end."""
    stopping = asyncio.Event()
    async with Worker(settings, stopping) as worker:
        task = asyncio.create_task(worker.work(None))
        try:
            yield worker
        finally:
            stopping.set()
            code = await task
    assert code == 0


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 20.0) -> None:
    """Wait for a condition; fail with what it last was."""
    deadline = time.monotonic() + seconds
    while not (found := await condition()):
        assert time.monotonic() < deadline, f"still {found!r} after {seconds} s"
        await asyncio.sleep(0.05)
