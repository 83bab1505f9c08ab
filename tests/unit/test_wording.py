"""What a person reads where a driver would show its exception."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import aiormq
import asyncpg
import nats.errors
import pytest
import pytest_asyncio

from penstock.worker import migrate
from penstock.worker.errors import PenstockError
from penstock.worker.nats import connection as nats_connection
from penstock.worker.nats.options import NatsOptions
from penstock.worker.postgres.pool import open_pool
from penstock.worker.rabbitmq import connection as rabbitmq_connection
from penstock.worker.rabbitmq.options import RabbitOptions
from penstock.worker.wording import redacted, unreachable, why


def wrapped(error: OSError) -> OSError:
    """As aiormq does it."""
    outer = aiormq.AMQPConnectionError(*error.args)
    outer.__cause__ = error
    return outer


REFUSED = "[Errno 111] Connect call failed"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "no answer in time"),
        (nats.errors.TimeoutError(), "no answer in time"),
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"), "connection refused"),
        (
            OSError(f"Multiple exceptions: {REFUSED} ('::1', 1), {REFUSED} (...)"),
            "connection refused",
        ),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ssl.SSLError(1, "[SSL] wrong version number"), "[SSL] wrong version number"),
        (nats.errors.AuthorizationError(), "authorization failed"),
        (
            asyncpg.InvalidPasswordError("password authentication failed"),
            "password authentication failed",
        ),
        (wrapped(ssl.SSLError(1, "[SSL] wrong version number")), "[SSL] wrong version number"),
        (wrapped(socket.gaierror(-2, "Name unknown")), "Name unknown"),
        (ConnectionResetError(), "ConnectionResetError"),
        (ValueError(), "ValueError"),
    ],
)
def test_the_reason_is_in_words(error: Exception, words: str) -> None:
    assert why(error) == words


def test_what_to_do_depends_on_whether_anybody_answered() -> None:
    assert unreachable("X", TimeoutError()).endswith("start it or correct its address")
    assert unreachable("X", ValueError("no")).endswith("check the address and the login")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://h:1", "nats://h:1"),
        ("nats://u:p@h:1", "nats://h:1"),
        ("nats://token@h:1", "nats://h:1"),
        ("postgresql://u:p@ss?w@a:1,b:2/d?password=p", "postgresql://a:1,b:2/d"),
        ("amqp://u:p@h/%2f?heartbeat=1", "amqp://h/%2f"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert redacted(url) == shown


async def _nats(place: str) -> object:
    return await nats_connection.connect(NatsOptions(url=f"nats://u:secret@{place}"), name="t")


async def _rabbitmq(place: str) -> object:
    options = RabbitOptions(url=f"amqp://u:secret@{place}/")
    return await rabbitmq_connection.connect(options, name="t")


async def _pool(place: str) -> object:
    dsn = f"postgresql://u:secret@{place}/d"
    return await open_pool(dsn, size=2, statement_timeout=1, lock_timeout=1, name="t")


async def _migrate(place: str) -> object:
    return await migrate.status(f"postgresql://u:secret@{place}/d")


@pytest_asyncio.fixture
async def hangs_up() -> AsyncIterator[str]:
    """Where somebody takes the call and puts the receiver down."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


CONNECTING = pytest.mark.parametrize("connecting", [_nats, _rabbitmq, _pool, _migrate])


@CONNECTING
@pytest.mark.parametrize("place", ["127.0.0.1:1", "no-such-host.invalid:1"])
async def test_who_cannot_be_reached_is_said(
    connecting: Callable[[str], Awaitable[object]], place: str
) -> None:
    with pytest.raises(PenstockError) as caught:
        await connecting(place)
    _reads_well(str(caught.value), place)
    assert str(caught.value).endswith("start it or correct its address")


@CONNECTING
async def test_who_hangs_up_is_said(
    connecting: Callable[[str], Awaitable[object]], hangs_up: str
) -> None:
    with pytest.raises(PenstockError) as caught:
        await connecting(hangs_up)
    _reads_well(str(caught.value), hangs_up)


def _reads_well(text: str, place: str) -> None:
    assert text.startswith("cannot connect to ")
    assert place in text
    for ugly in ("Errno", "Error", "()", "secret"):
        assert ugly not in text
