"""Asking PostgreSQL whether it is there, over a connection of its own: a busy pool is not away."""

import asyncio
import contextlib
from typing import Self

import asyncpg

from penstock.worker.errors import SinkUnavailable
from penstock.worker.postgres.errors import DRIVER_ERRORS, classify

_PATIENCE_SECONDS = 2.0
_READ_ONLY = "SHOW transaction_read_only"


class PostgresProbe:
    """One connection to the server of ``dsn``, opened when first asked, and again after a failure.

    Not for use by two tasks at once.
    """

    def __init__(self, dsn: str, *, name: str) -> None:
        self._dsn = dsn
        self._settings = {"application_name": f"penstock {name} probe"[:63]}
        self._connection: asyncpg.Connection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._leave()

    async def ping(self) -> None:
        """Raise SinkUnavailable unless PostgreSQL answers within two seconds, and takes writes."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                if self._connection is None:
                    self._connection = await asyncpg.connect(
                        self._dsn, server_settings=self._settings
                    )
                read_only = await self._connection.fetchval(_READ_ONLY)
        except DRIVER_ERRORS as error:
            self._leave()
            raise classify(error) from error
        if read_only == "on":
            self._leave()  # the next host of the DSN may take writes
            raise SinkUnavailable("PostgreSQL takes no writes: a standby, or read-only")

    def _leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(asyncpg.InterfaceError):
                connection.terminate()
