# ruff: noqa: SLF001  (nats-py has no public way to see or restart its tasks)
"""Connections to NATS that notice a dead server in seconds and never give up on it."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import nats.errors
import structlog
from nats.aio.client import Client
from nats.protocol.parser import ERR_RE, PERMISSIONS_ERR

from penstock.worker.errors import SourceUnavailable
from penstock.worker.nats.options import NatsOptions
from penstock.worker.wording import unreachable, why

log = structlog.get_logger()

PING_SECONDS = 5
CONNECT_SECONDS = 3
RECONNECT_WAIT_SECONDS = 0.5
_CLOSE_SECONDS = 0.5
_TOO_LARGE = "maximum payload violation"
"""Part of the protocol: NATS errors have texts, and no numbers."""


class _Client(Client):
    """A connection that knows who closed it, follows the server's current ``max_payload``, and
    reports the server's errors unchanged.

    nats-py reads ``max_payload`` only at a reconnect. It also closes the connection for good when
    the server refuses a message for its size, such as one that was on its way when the server came
    back with a smaller limit.
    """

    closed_by_us = False

    async def close(self) -> None:
        self.closed_by_us = True
        await super().close()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: FBT001, FBT002  (nats-py's signature)
        await super()._process_info(info, initial_connection)
        self._max_payload = info.get("max_payload", self._max_payload)

    async def _process_err(self, err_msg: str) -> None:
        if _TOO_LARGE in err_msg.lower():
            log.warning("nats_message_too_large", takes=self.max_payload)
            await self._process_op_err(nats.errors.MaxPayloadError())
        elif PERMISSIONS_ERR in err_msg:
            # nats-py's parser converts the server's text to lower case, including subjects.
            written = ERR_RE.match(self._ps.buf)
            text = written[1].decode().strip("'") if written else err_msg
            self._err = nats.errors.Error(f"nats: {text}")
            await self._error_cb(self._err)
        else:
            await super()._process_err(err_msg)


class _TlsClient(_Client):
    """Refuses a server without TLS before sending it a password.

    nats-py itself falls back to plain text, even for ``tls://`` addresses.
    """

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: FBT001, FBT002  (nats-py's signature)
        offered = info.get("tls_required") or self.options.get("tls_handshake_first")
        if initial_connection and not offered:
            raise nats.errors.Error("nats: TLS is required, but the server does not offer it")
        await super()._process_info(info, initial_connection)


class _Listener:
    """Logs what nats-py reports, and ends the initial attempt when every server has failed."""

    def __init__(
        self,
        client: _Client,
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

    ``on_reconnected`` is called after each reconnect. ``on_closed`` is called when the server has
    closed the connection in a way that nats-py does not retry; not after ``close()``. Raises
    SourceUnavailable, naming the servers and the cause.
    """
    client = _TlsClient() if options.wants_tls else _Client()
    listener = _Listener(client, name, len(options.servers), on_reconnected, on_closed)
    try:
        arguments = _arguments(options, name, listener)
    except (OSError, ValueError) as exc:
        raise SourceUnavailable(f"TLS files for NATS at {options.redacted}: {why(exc)}") from exc
    listener.attempt = asyncio.ensure_future(client.connect(**arguments))
    try:
        await asyncio.wait({listener.attempt})
        failure = _failure(listener)
    except asyncio.CancelledError:
        listener.attempt.cancel()
        raise
    if failure is not None:
        await _abandon(client)
        server = f"NATS at {options.redacted}"
        raise SourceUnavailable(unreachable(server, failure)) from failure
    listener.attempt = None
    return client


async def _abandon(client: Client) -> None:
    """Close what a failed attempt has opened, including a socket that ``close()`` may leave open.

    asyncio does not always report that a socket is closed after its TLS handshake failed.
    """
    transport: Any = client._transport
    with contextlib.suppress(Exception):  # the attempt has failed already
        async with asyncio.timeout(_CLOSE_SECONDS):
            await client.close()
            if transport is not None:
                transport.close()
                await transport.wait_closed()


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
        "user_credentials": options.credentials,
        "nkeys_seed": options.nkey,
        "user": options.user,
        "password": options.password,
        "token": options.token,
        "tls": _tls_context(options) if options.wants_tls else None,
        "tls_handshake_first": options.tls_first,
    }


def _tls_context(options: NatsOptions) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.tls_ca)
    if options.tls_cert:
        context.load_cert_chain(options.tls_cert, options.tls_key)
    return context


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
