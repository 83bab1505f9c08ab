"""The servers of a run: PostgreSQL with fsync, NATS with sync always, RabbitMQ while needed."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import nats
from nats.js import JetStreamContext

from penstock.worker.embedded import EmbeddedNats, EmbeddedPostgres, EmbeddedServer, drop_database
from penstock.worker.embedded.rabbitmq import EmbeddedRabbit
from penstock.worker.migrate import up

EMPTY = "empty"
"""The database that the others are copied from."""


@dataclass
class Servers:
    """The running servers. ``js`` is a connection for administration."""

    nats: EmbeddedNats
    postgres: EmbeddedPostgres
    js: JetStreamContext
    rabbitmq: EmbeddedRabbit | None = None
    _databases: int = 0

    @property
    def pids(self) -> dict[str, int]:
        """The ids of the servers' main processes."""
        found: dict[str, EmbeddedServer] = {"postgres": self.postgres, "nats": self.nats}
        if self.rabbitmq is not None:
            found["rabbitmq"] = self.rabbitmq
        return {name: server.pid for name, server in found.items()}

    @contextlib.asynccontextmanager
    async def with_rabbitmq(self) -> AsyncIterator[EmbeddedRabbit]:
        """A RabbitMQ node beside the others. Raises ServerFailed if it is not installed."""
        async with EmbeddedRabbit() as node:
            self.rabbitmq = node
            yield node
            self.rabbitmq = None

    @contextlib.asynccontextmanager
    async def database(self, template: str = EMPTY) -> AsyncIterator[str]:
        """The address of a new database, a copy of ``template``. Copying makes a checkpoint."""
        self._databases += 1
        name = f"bench_{self._databases}"
        yield await self.postgres.create_database(name, template)
        await drop_database(self.postgres.dsn, name)

    async def forget(self) -> None:
        """Delete all streams and buckets."""
        for found in await self.js.streams_info():
            await self.js.delete_stream(str(found.config.name))


@contextlib.asynccontextmanager
async def started() -> AsyncIterator[Servers]:
    """NATS and PostgreSQL, for one run of the benchmarks."""
    async with contextlib.AsyncExitStack() as stack:
        bus = await stack.enter_async_context(EmbeddedNats())
        settings = {"track_commit_timestamp": "on"}  # for the latency
        postgres = await stack.enter_async_context(EmbeddedPostgres(settings=settings))
        await up(await postgres.create_database(EMPTY))
        client = await stack.enter_async_context(await nats.connect(bus.url))
        yield Servers(bus, postgres, client.jetstream())


async def ask(dsn: str, query: str, *arguments: Any) -> Any:
    """One value from a database."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()
