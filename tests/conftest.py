"""Servers and databases for all tests.

The servers come from wheels, one of each per test process. `PENSTOCK_TEST_POSTGRES_DSN` and
`PENSTOCK_TEST_NATS_URL` name servers to use instead; every stream on that NATS server is deleted.
Without wheels and addresses, containers are started where Docker answers.
"""

import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import pytest_asyncio
from nats import connect

from worker.embedded import (
    EmbeddedNats,
    EmbeddedPostgres,
    ServerFailed,
    create_database,
    drop_database,
    nats_server,
    postgres_programs,
)
from worker.migrate import up

GIVEN_POSTGRES = os.environ.get("PENSTOCK_TEST_POSTGRES_DSN")
GIVEN_NATS = os.environ.get("PENSTOCK_TEST_NATS_URL")
FAST = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "64MB"}
"""What a test database may lose does not matter; that of the fault tests has its own server."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats() -> AsyncIterator[EmbeddedNats]:
    """The embedded server itself, shared by the tests of this process: leave it running."""
    async with EmbeddedNats() as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres() -> AsyncIterator[EmbeddedPostgres]:
    """The embedded server itself, shared by the tests of this process: leave it running."""
    async with EmbeddedPostgres(settings=FAST) as server:
        yield server


@pytest.fixture(scope="session")
def nats_address(request: pytest.FixtureRequest) -> Iterator[str]:
    if GIVEN_NATS:
        yield GIVEN_NATS
        return
    try:
        nats_server()
    except ServerFailed:
        containers = pytest.importorskip("testcontainers.nats")
        with containers.NatsContainer("nats:2.12", jetstream=True) as server:
            yield server.nats_uri()
    else:
        yield request.getfixturevalue("nats").url


@pytest.fixture(scope="session")
def postgres_address(request: pytest.FixtureRequest) -> Iterator[str]:
    if GIVEN_POSTGRES:
        yield GIVEN_POSTGRES
        return
    try:
        postgres_programs()
    except ServerFailed:
        containers = pytest.importorskip("testcontainers.postgres")
        with containers.PostgresContainer("postgres:18", driver=None) as server:
            yield server.get_connection_url()
    else:
        yield request.getfixturevalue("postgres").dsn


@asynccontextmanager
async def fresh_database(address: str, template: str | None = None) -> AsyncIterator[str]:
    name = f"test_{uuid4().hex}"
    await create_database(address, name, template)
    try:
        yield urlsplit(address)._replace(path=f"/{name}").geturl()
    finally:
        await drop_database(address, name)


@pytest_asyncio.fixture(loop_scope="session")
async def postgres_dsn(postgres_address: str) -> AsyncIterator[str]:
    """A fresh, empty database."""
    async with fresh_database(postgres_address) as dsn:
        yield dsn


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def migrated(postgres_address: str) -> AsyncIterator[str]:
    """The name of the database that `database` copies. Nobody may connect to it."""
    async with fresh_database(postgres_address) as dsn:
        await up(dsn)
        yield urlsplit(dsn).path[1:]


@pytest_asyncio.fixture(loop_scope="session")
async def database(postgres_address: str, migrated: str) -> AsyncIterator[str]:
    """A fresh database with all migrations applied."""
    async with fresh_database(postgres_address, migrated) as dsn:
        yield dsn


@pytest_asyncio.fixture(loop_scope="session")
async def nats_url(nats_address: str) -> str:
    """A server without any stream or bucket."""
    client = await connect(nats_address)
    try:
        stream = client.jetstream()
        for found in await stream.streams_info():
            await stream.delete_stream(str(found.config.name))
    finally:
        await client.close()
    return nats_address


@pytest.fixture
def free_port() -> int:
    """A port of the loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
