# ruff: noqa: SLF001  (nats-py has no public way to see or restart its tasks)
"""Connections to NATS that notice a dead server in seconds and never give up on it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from nats.aio.client import Client
from nats.protocol.parser import AUTHORIZATION_VIOLATION, PERMISSIONS_ERR

from penstock.worker.ending import end
from penstock.worker.errors import Cause, SourceUnavailable
from penstock.worker.logger import Logger, silent_unless_configured
from penstock.worker.nats.client import NatsClient, close
from penstock.worker.nats.options import NatsOptions
from penstock.worker.wording import unreachable, why

log = Logger(__name__)
silent_unless_configured("nats")

PING_SECONDS = 5
CONNECT_SECONDS = 3
RECONNECT_WAIT_SECONDS = 0.5
_LOGIN_REMEDY = (
    "give the login of a user that it knows: nats_credentials, nats_nkey, nats_user or nats_token"
)


class _Listener:
    """Logs what nats-py reports, and ends the initial attempt when every server has failed."""

    def __init__(
        self,
        client: NatsClient,
        name: str,
        servers: int,
        on_reconnected: Callable[[], Awaitable[None]] | None,
        on_closed: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self.log = log.bind(connection=name)
        self.attempt: asyncio.Future[None] | None = None
        self.errors: list[Exception] = []
        self._client = client
        self._servers = servers
        self._on_reconnected = on_reconnected
        self._on_closed = on_closed

    async def error(self, error: Exception) -> None:
        if self.attempt is not None:
            self.errors.append(error)
            if len(self.errors) >= self._servers:
                self.attempt.cancel()
        elif PERMISSIONS_ERR in str(error).lower():
            self.log.error("nats_permission_denied", error=why(error))
        else:
            self.log.warning("nats_error", error=why(error))

    async def disconnected(self) -> None:
        if self.attempt is None and not self._client.is_closed:
            self.log.warning("nats_disconnected")

    async def reconnected(self) -> None:
        self.log.info("nats_reconnected")
        if self._on_reconnected is not None:
            await self._on_reconnected()

    async def closed(self) -> None:
        if self.attempt is None and self._on_closed is not None and not self._client.closed_by_us:
            await self._on_closed()


async def connect(
    options: NatsOptions,
    *,
    name: str,
    on_reconnected: Callable[[], Awaitable[None]] | None = None,
    on_closed: Callable[[], Awaitable[None]] | None = None,
) -> Client:
    """Connect, trying each server once; later reconnect for ever.

    Credentials and TLS files are read again for every connection, so they may be renewed.
    ``on_reconnected`` is called after each reconnect, ``on_closed`` when the server has ended the
    connection for good, because of a protocol error; not after ``close()``. Raises
    SourceUnavailable, naming the servers and the cause.
    """
    client = NatsClient(options)
    listener = _Listener(client, name, len(options.servers), on_reconnected, on_closed)
    try:
        arguments = {**_arguments(options, name, listener), **client.identity()}
    except (OSError, ValueError) as exc:
        raise SourceUnavailable(f"TLS files for NATS at {options.redacted}: {why(exc)}") from exc
    listener.attempt = asyncio.ensure_future(client.connect(**arguments))
    try:
        await asyncio.wait({listener.attempt})
        failure = _failure(listener)
    except asyncio.CancelledError:
        await end(listener.attempt)
        await close(client)
        raise
    if failure is not None:
        await close(client)
        server = f"NATS at {options.redacted}"
        refused = AUTHORIZATION_VIOLATION in str(failure).lower()
        raise SourceUnavailable(
            unreachable(server, failure, _LOGIN_REMEDY if refused else None),
            cause=Cause.LOGIN if refused else Cause.AWAY,
        ) from failure
    listener.attempt = None
    return client


def _failure(listener: _Listener) -> BaseException | None:
    assert listener.attempt is not None  # noqa: S101  (set by the only caller)
    if listener.attempt.cancelled():
        return listener.errors[-1]
    return listener.attempt.exception()


def _arguments(options: NatsOptions, name: str, listener: _Listener) -> dict[str, Any]:
    return {
        "servers": options.servers,
        "name": name,
        "error_cb": listener.error,
        "disconnected_cb": listener.disconnected,
        "reconnected_cb": listener.reconnected,
        "closed_cb": listener.closed,
        "allow_reconnect": True,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": RECONNECT_WAIT_SECONDS,
        "connect_timeout": CONNECT_SECONDS,
        "ping_interval": PING_SECONDS,
        "max_outstanding_pings": 2,
        "inbox_prefix": options.inbox_prefix,
        "tls": options.tls(),
        "tls_handshake_first": options.tls_first,
    }


def reads(nc: Client) -> bool:
    """False if the task that reads the socket has ended, even if `is_connected` is True."""
    task = nc._reading_task
    return task is not None and not task.done()


async def revive(nc: Client) -> None:
    """Drop the current socket, or resume reconnecting if that task has died."""
    task = nc._reconnection_task
    if nc.is_connected:
        await nc.force_reconnect()
    elif not nc.is_closed and (task is None or task.done()):
        nc._reconnection_task = asyncio.create_task(nc._attempt_reconnect(), name="nats-reconnect")
