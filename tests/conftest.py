"""Servers and databases for all tests.

The servers come from wheels, one of each per test process. `PENSTOCK_TEST_POSTGRES_DSN` and
`PENSTOCK_TEST_NATS_URL` name servers to use instead; every stream on that NATS server is deleted.
Without wheels and addresses, containers are started if Docker is running.

RabbitMQ comes from Debian's package, as a private node, from `PENSTOCK_TEST_RABBITMQ_URL`, where
Penstock's queues are deleted, or from a container. Without any of these its tests are skipped, with
one conspicuous line at the end of the run; if `CI` is set, they fail instead. The same goes for the
tests that need a PostgreSQL with translations, which only Debian's package has.
"""

import gc
import logging
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit
from uuid import uuid4

import aiormq
import asyncpg
import pytest
import pytest_asyncio
import structlog
from nats import connect

from penstock.schemas.streams import STREAMS
from penstock.worker.embedded import (
    EmbeddedNats,
    EmbeddedPostgres,
    ServerFailed,
    create_database,
    drop_database,
    nats_server,
    postgres_programs,
)
from penstock.worker.embedded.rabbitmq import EmbeddedRabbit, rabbitmq_programs
from penstock.worker.rabbitmq.topology import (
    DEAD_QUEUE,
    EXCHANGE,
    READ_QUEUE,
    RETRY_SECONDS,
    dead_exchange,
    retry_queue,
)
from tests.support.clocks import NO_CLOCK
from tests.support.databases import Databases
from tests.support.memory_disk import use_memory
from tests.support.roles import migrated_by_its_owner

GIVEN_POSTGRES = os.environ.get("PENSTOCK_TEST_POSTGRES_DSN")
GIVEN_NATS = os.environ.get("PENSTOCK_TEST_NATS_URL")
GIVEN_RABBITMQ = os.environ.get("PENSTOCK_TEST_RABBITMQ_URL")
NO_RABBITMQ = "RabbitMQ is not available"
NO_GERMAN = "A German PostgreSQL is not available"
MISSED = {
    NO_RABBITMQ: "TESTS WITH RABBITMQ DID NOT RUN: apt-get install rabbitmq-server, or name a "
    "server in PENSTOCK_TEST_RABBITMQ_URL",
    "node and npm are not": "TESTS IN JAVASCRIPT DID NOT RUN: install node 20 or newer, with npm",
    "go is not available": "TESTS IN GO DID NOT RUN: install Go 1.22 or newer",
    "packages of JavaScript are not": "TESTS IN JAVASCRIPT DID NOT RUN: npm cannot get their "
    "packages; see `python -m tests.support.languages`",
    "packages of Go are not": "TESTS IN GO DID NOT RUN: go cannot get their packages; see "
    "`python -m tests.support.languages`",
    NO_CLOCK: "THE END OF A MONTH WAS NOT TRIED: apt-get install libfaketime",
    NO_GERMAN: "TESTS WITH GERMAN DID NOT RUN: apt-get install postgresql locales",
}
# As the worker logs: structlog alone prints tracebacks with all variables, which takes seconds.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
)


def pytest_configure(config: pytest.Config) -> None:
    """Once for all test processes, which find it in their environment."""
    folder = None if config.option.markexpr == "faults" else use_memory()
    if folder is not None:
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Thousands of tests live as long as their process: searching them for garbage, each time it
    is looked for, took a third of the whole run.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.fixture(autouse=True)
def logging_kept() -> Iterator[None]:
    """A command that ran in this process has set up logging for itself."""
    configured = structlog.get_config()
    yield
    structlog.configure(**configured)
    root = logging.getLogger()
    root.handlers = [one for one in root.handlers if type(one) is not logging.StreamHandler]


FAST = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "64MB", "autovacuum": "off"}
"""A test database need not be durable. The fault tests have their own server."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats() -> AsyncIterator[EmbeddedNats]:
    """The embedded server itself, shared by the tests of this process: leave it running.

    No machine loses its power here, so nothing waits for the disk.
    """
    async with EmbeddedNats(sync_always=False) as server:
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
        await migrated_by_its_owner(dsn)
        yield urlsplit(dsn).path[1:]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def databases(postgres_address: str, migrated: str) -> AsyncIterator[Databases]:
    """Gives out migrated databases."""
    found = Databases(postgres_address, migrated)
    yield found
    await found.close()


@pytest_asyncio.fixture(loop_scope="session")
async def database(databases: Databases) -> AsyncIterator[str]:
    """A database with all migrations applied, in which nothing was done."""
    async with databases.one() as dsn:
        yield dsn


@pytest_asyncio.fixture(loop_scope="session")
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the fresh database, as its owner."""
    found = await asyncpg.connect(database)
    yield found
    await found.close()


@pytest_asyncio.fixture(loop_scope="session")
async def nats_url(nats_address: str) -> str:
    """A server without any stream or bucket."""
    await empty_nats(nats_address)
    return nats_address


async def empty_nats(address: str) -> None:
    async with await connect(address) as client:
        stream = client.jetstream()
        for found in await stream.streams_info():
            # The files of a deleted stream go later, and whoever recreates it soon finds them.
            if not found.config.sealed:
                await stream.purge_stream(str(found.config.name))
            await stream.delete_stream(str(found.config.name))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def rabbit(rabbitmq_package: None) -> AsyncIterator[EmbeddedRabbit]:
    """The private node itself, shared by the tests of this process: leave it running."""
    assert rabbitmq_package is None
    async with EmbeddedRabbit() as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shaky_rabbit(rabbitmq_package: None) -> AsyncIterator[EmbeddedRabbit]:
    """A second node, which a test may kill and stop; the next one finds it running again."""
    assert rabbitmq_package is None
    async with EmbeddedRabbit() as server:
        yield server


@pytest.fixture(scope="session")
def rabbit_address(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server, with what other tests may have left there."""
    if GIVEN_RABBITMQ:
        yield GIVEN_RABBITMQ
        return
    try:
        rabbitmq_programs()
    except ServerFailed as missing:
        with ExitStack() as stack:
            yield rabbit_container(stack, missing)
    else:
        yield request.getfixturevalue("rabbit").url


def rabbit_container(stack: ExitStack, missing: ServerFailed) -> str:
    """The address of a container that lives as long as ``stack``."""
    if "DOCKER_HOST" not in os.environ and not Path("/var/run/docker.sock").exists():
        without_rabbitmq(f"{missing}; there is no Docker either")
    try:
        core = pytest.importorskip("testcontainers.core.container")
        logs = pytest.importorskip("testcontainers.core.waiting_utils")
        server = core.DockerContainer("rabbitmq:4.1").with_exposed_ports(5672)
        stack.enter_context(server)
        logs.wait_for_logs(server, "Server startup complete", timeout=60)
    except Exception as error:  # noqa: BLE001  (whatever it is, there is no Docker for us)
        without_rabbitmq(f"{missing}; Docker: {error!r}"[:500])
    host, port = server.get_container_host_ip(), server.get_exposed_port(5672)
    return f"amqp://guest:guest@{host}:{port}/"


@pytest.fixture(scope="session")
def rabbitmq_package() -> None:
    """For tests that need their own server, to kill it or to configure it."""
    try:
        rabbitmq_programs()
    except ServerFailed as missing:
        without_rabbitmq(str(missing))


def without_rabbitmq(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"{NO_RABBITMQ}: {reason}")
    pytest.skip(f"{NO_RABBITMQ}: {reason}")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Generator[None]:
    """Write the line last, so that it is noticed."""
    yield
    skipped = terminalreporter.stats.get("skipped", [])
    for reason, line in MISSED.items():
        if missed := [report for report in skipped if reason in str(report.longrepr)]:
            terminalreporter.write_line(f"!!! {len(missed)} {line}", red=True, bold=True)


@pytest_asyncio.fixture(loop_scope="session")
async def rabbit_url(rabbit_address: str) -> str:
    """A server without any queue or exchange of Penstock."""
    await empty_rabbit(rabbit_address)
    return rabbit_address


async def empty_rabbit(address: str) -> None:
    queues = [
        DEAD_QUEUE,
        READ_QUEUE,
        *(name for stream in STREAMS for name in (stream, *retry_queues(stream))),
    ]
    async with aiormq.connect(address) as connection:
        channel = await connection.channel()
        for queue in queues:
            await channel.queue_delete(queue)
        for exchange in (EXCHANGE, dead_exchange(EXCHANGE)):
            await channel.exchange_delete(exchange)


def retry_queues(stream: str) -> list[str]:
    return [retry_queue(stream, seconds) for seconds in RETRY_SECONDS]


@pytest.fixture
def free_port() -> int:
    """A port of the loopback interface that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key beside it as key.pem."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command")
    folder = tmp_path_factory.mktemp("tls")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "cert.pem"
