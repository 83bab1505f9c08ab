# ruff: noqa: SLF001  (nats-py has no public way to see or restart its tasks)
"""nats-py's client, with fixes for connections that stay dead or hang."""

import asyncio
import re
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.protocol.parser import ERR_RE, PERMISSIONS_ERR

from penstock.worker.ending import end, within
from penstock.worker.logger import Logger
from penstock.worker.nats.credentials import KeyFile
from penstock.worker.nats.options import NatsOptions
from penstock.worker.nats.permissions import Denials

log = Logger(__name__)

_CLOSE_SECONDS = 1.0
# Texts of the protocol, in lower case as nats-py passes them; NATS errors have no numbers.
_refused = re.compile("authorization violation|authentication (expired|revoked)").search
_too_large = re.compile("maximum payload violation").search


class NatsClient(Client):
    """Reconnects even after a refusal, and does not wait for a server that has stopped reading.

    Credentials and TLS files are read from ``where`` again for every connection, as they may have
    been renewed. If TLS is required and a server does not offer it, it is sent no password; nats-py
    itself falls back to plain text, even for ``tls://`` addresses.
    """

    closed_by_us = False

    def __init__(self, where: NatsOptions) -> None:
        super().__init__()
        self.denials = Denials()
        self._where = where
        path = where.credentials or where.nkey
        self._keys = KeyFile(path, with_token=path == where.credentials) if path else None

    def identity(self) -> dict[str, Any]:
        """Our credentials, as arguments for nats-py's ``connect``."""
        where = self._where
        return {
            "user": where.user,
            "password": where.password,
            "token": where.token,
            "signature_cb": self._sign if self._keys else None,
            "user_jwt_cb": self._token if where.credentials else None,
        }

    def _sign(self, nonce: str) -> bytes:
        assert self._keys is not None  # noqa: S101  (this is a callback only if there are keys)
        signed = self._keys.sign(nonce)
        self._public_nkey = self._keys.public_key
        return signed

    def _token(self) -> bytearray:
        assert self._keys is not None  # noqa: S101  (likewise)
        return bytearray(self._keys.token)

    async def _connect_to_server(self, s: Any) -> None:
        abort(self)  # what a refused attempt has left open
        if self._where.wants_tls:
            self.options["tls"] = self._where.tls()
        await super()._connect_to_server(s)

    async def close(self) -> None:
        self.closed_by_us = True
        await super().close()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: FBT001, FBT002  (nats-py's signature)
        offered = info.get("tls_required") or self.options.get("tls_handshake_first")
        if self._where.wants_tls and initial_connection and not offered:
            raise nats.errors.Error("nats: TLS is required, but the server does not offer it")
        await super()._process_info(info, initial_connection)
        # nats-py reads it only at a reconnect.
        self._max_payload = info.get("max_payload", self._max_payload)

    async def _process_err(self, err_msg: str) -> None:
        """Reconnect where nats-py would close for good: a refused client may have new credentials,
        and a message that is too large may have been sent before the server lowered its limit.
        """
        if PERMISSIONS_ERR in err_msg:
            text = self._as_written(err_msg)
            self.denials.note(text)
            self._err = nats.errors.Error(f"nats: {text}")
            await self._error_cb(self._err)
        elif _refused(err_msg):
            await self._error_cb(nats.errors.Error(f"nats: {self._as_written(err_msg)}"))
            await self._process_op_err(nats.errors.AuthorizationError())
        elif _too_large(err_msg):
            log.warning("nats_message_too_large", takes=self.max_payload)
            await self._process_op_err(nats.errors.MaxPayloadError())
        else:
            await super()._process_err(err_msg)

    def _as_written(self, err_msg: str) -> str:
        """The server's text; nats-py's parser converts it to lower case, including subjects."""
        written = ERR_RE.match(self._ps.buf)
        return written[1].decode().strip("'") if written else err_msg

    async def _attempt_reconnect(self) -> None:
        """Drop unsent data first: nats-py would wait until the server has read it."""
        abort(self)
        await super()._attempt_reconnect()


def abort(nc: Client) -> None:
    """Drop the socket, with all unsent data."""
    writer: Any = getattr(nc._transport, "_io_writer", None)  # a WebSocket has none
    if writer is not None:
        writer.transport.abort()


async def close(nc: Client) -> None:
    """Close a connection within a second or two, even if the server neither reads nor answers.

    nats-py cancels its tasks only once. The one that reconnects may miss that, and would connect a
    closed client. Idempotent.
    """
    await within(_CLOSE_SECONDS, nc.close())
    while running := _running(nc):
        await end(*running)
    abort(nc)


def _running(nc: Client) -> list[asyncio.Task[Any]]:
    """The running tasks of nats-py; the one that reconnects starts the others again."""
    tasks = (nc._reconnection_task, nc._reading_task, nc._ping_interval_task, nc._flusher_task)
    return [task for task in tasks if task is not None and not task.done()]
