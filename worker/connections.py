"""Connections as the settings say, opened with patience and closed at the end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import aio_pika
import asyncpg
import structlog
from nats.aio.client import Client
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random_exponential

from penstock.worker.errors import Unavailable
from penstock.worker.nats.connection import NatsOptions, connect
from penstock.worker.postgres.pool import open_pool
from penstock.worker.rabbitmq import connection as rabbitmq_connection
from penstock.worker.rabbitmq.connection import RabbitOptions
from penstock.worker.settings.keys import Settings

log = structlog.get_logger()
Opened = TypeVar("Opened")

_START_SECONDS = 30.0
"""How long a server that does not answer yet is waited for at start."""


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """A pool as the settings say, closed at the end."""
    pool = await patiently(
        lambda: open_pool(
            settings.postgres_dsn,
            size=settings.pool_size,
            statement_timeout=settings.statement_timeout,
            lock_timeout=settings.lock_timeout,
            name=settings.worker_id,
        )
    )
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), 5)
        except TimeoutError:
            pool.terminate()


@asynccontextmanager
async def bus(
    settings: Settings,
    reconnected: Callable[[], Awaitable[None]] | None = None,
    closed: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[Client]:
    """A connection to NATS as the settings say, closed at the end."""
    options = nats_options(settings)
    nc = await patiently(
        lambda: connect(
            options,
            name=f"penstock {settings.worker_id}",
            on_reconnected=reconnected,
            on_closed=closed,
        )
    )
    try:
        yield nc
    finally:
        await nc.close()


async def patiently(attempt: Callable[[], Awaitable[Opened]]) -> Opened:
    """Try until the server is there: at start, servers and workers come up together."""

    @retry(
        retry=retry_if_exception_type(Unavailable),
        wait=wait_random_exponential(multiplier=0.3, max=3.0),
        stop=stop_after_delay(_START_SECONDS),
        before_sleep=lambda state: log.warning(
            "waiting_for_server", error=str(state.outcome.exception()) if state.outcome else ""
        ),
        reraise=True,
    )
    async def trying() -> Opened:
        return await attempt()

    return await trying()


def nats_options(settings: Settings) -> NatsOptions:
    """The part of the settings that a connection to NATS needs."""
    return NatsOptions(
        url=settings.nats_url,
        credentials=settings.nats_credentials,
        nkey=settings.nats_nkey,
        user=settings.nats_user,
        password=settings.nats_password,
        token=settings.nats_token,
        tls_ca=settings.nats_tls_ca,
        tls_cert=settings.nats_tls_cert,
        tls_key=settings.nats_tls_key,
        tls_first=settings.nats_tls_first,
    )


@asynccontextmanager
async def rabbit(settings: Settings) -> AsyncIterator[aio_pika.RobustConnection]:
    """A connection to RabbitMQ as the settings say, closed at the end."""
    connection = await patiently(
        lambda: rabbitmq_connection.connect(
            rabbit_options(settings), name=f"penstock {settings.worker_id}"
        )
    )
    try:
        yield connection
    finally:
        await connection.close()


def rabbit_options(settings: Settings) -> RabbitOptions:
    """The part of the settings that a connection to RabbitMQ needs."""
    return RabbitOptions(
        url=settings.rabbitmq_url,
        user=settings.rabbitmq_user,
        password=settings.rabbitmq_password,
        tls_ca=settings.rabbitmq_tls_ca,
        tls_cert=settings.rabbitmq_tls_cert,
        tls_key=settings.rabbitmq_tls_key,
    )
