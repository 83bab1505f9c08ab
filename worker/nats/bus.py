"""The worker's connection to NATS, by its settings."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from nats.aio.client import Client

from penstock.worker.brokers.scope import Scope
from penstock.worker.lifecycle import patiently
from penstock.worker.nats.client import close
from penstock.worker.nats.connection import connect
from penstock.worker.nats.options import NatsOptions
from penstock.worker.nats.wire import read_much_at_once
from penstock.worker.settings.keys import Settings

log = structlog.get_logger()
Notice = Callable[[], Awaitable[None]]


async def shared_bus(scope: Scope) -> Client:
    """The one connection of a scope, for the streams and for the bucket."""
    return await scope.once(_of_scope)


@asynccontextmanager
async def bus(
    settings: Settings, reconnected: Notice | None = None, closed: Notice | None = None
) -> AsyncIterator[Client]:
    """A connection by the settings, closed at the end. Raises SourceUnavailable."""
    options = options_of(settings)
    name = f"penstock {settings.worker_id}"
    nc = await patiently(
        lambda: connect(options, name=name, on_reconnected=reconnected, on_closed=closed),
        settings.start_timeout,
    )
    try:
        yield nc
    finally:
        await close(nc)


@asynccontextmanager
async def _of_scope(scope: Scope) -> AsyncIterator[Client]:
    async def reconnected() -> None:
        scope.reconnected()

    async def closed() -> None:
        log.error("nats_closed")
        scope.lost("nats")

    read_much_at_once()  # changes the whole process, which belongs to the scope's owner
    async with bus(scope.settings, reconnected, closed) as nc:
        yield nc


def options_of(settings: Settings) -> NatsOptions:
    """The part of the settings that a connection needs."""
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
