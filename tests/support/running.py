"""A worker inside the test's own process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from penstock.worker.app import Worker
from penstock.worker.settings.keys import Settings, load
from tests.support.accounts import check_metrics
from tests.support.roles import of_worker


def settings_for(nats_url: str, dsn: str, **more: str) -> Settings:
    """Settings for a test: short waits, no fixed port, and no more rights than a worker has."""
    flags = {
        "nats_url": nats_url,
        "postgres_dsn": of_worker(dsn),
        "http_port": "-1",
        "ack_wait": "5s",
        "heartbeat": "500ms",
        "nack_delay": "200ms",
        "kv_status_interval": "200ms",
        **more,
    }
    return load(flags, environ={})


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Worker]:
    """A running worker; at the end it is drained, and must exit with 0."""
    stopping = asyncio.Event()
    async with Worker(settings, stopping) as worker:
        task = asyncio.create_task(worker.work(None))
        try:
            yield worker
        finally:
            stopping.set()
            code = await task
    assert code == 0
    check_metrics(worker._metrics.registry)
