"""Connections to RabbitMQ that notice a dead server in seconds and never give up on it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import aio_pika
import aiormq
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from yarl import URL

from penstock.worker.ending import within
from penstock.worker.errors import SourceUnavailable
from penstock.worker.logger import silent_unless_configured
from penstock.worker.rabbitmq.options import RabbitOptions
from penstock.worker.rabbitmq.shelter import Shelter
from penstock.worker.wording import failed, unreachable

silent_unless_configured("aio_pika", "aiormq")

CONNECT_SECONDS = 5.0
RECONNECT_WAIT_SECONDS = 0.5
ANSWER_SECONDS = 5.0
_CLOSE_SECONDS = 2.0

FAILURES = (*CONNECTION_EXCEPTIONS, TimeoutError, aiormq.AMQPError)
"""What aio-pika, and aiormq below it, raise when the server is away or ends a channel."""

ENDED = (
    aiormq.ChannelAccessRefused,
    aiormq.ChannelNotFoundEntity,
    aiormq.ChannelPreconditionFailed,
)
"""What the server has against a message, such as its size. It ends the channel, with all that is
under way there.
"""

HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
"""The frame, as it stands on the wire."""


@contextlib.contextmanager
def translated(what: str, worded: Callable[[str, BaseException], str] = failed) -> Iterator[None]:
    """Turn what aio-pika raises into SourceUnavailable, ``worded`` about ``what``.

    A connection that ends cancels who waits for it; that is told apart from our own cancellation,
    for which aiormq in turn may raise something else, or nothing.
    """
    asked = _cancellations()
    try:
        yield
    except asyncio.CancelledError as exc:
        if _cancellations() > asked:
            raise
        raise SourceUnavailable(f"{what}: the connection ended") from exc
    except Exception as exc:
        if _cancellations() > asked:
            raise asyncio.CancelledError from exc
        # A bare Exception is what aiormq tells who waits on a channel that ends without a reason.
        if isinstance(exc, FAILURES) or type(exc) is Exception:
            raise SourceUnavailable(worded(what, exc)) from exc
        raise
    if _cancellations() > asked:
        raise asyncio.CancelledError


def _cancellations() -> int:
    """How often the current task was asked to end."""
    task = asyncio.current_task()
    return task.cancelling() if task else 0


async def connect(options: RabbitOptions, *, name: str) -> aio_pika.RobustConnection:
    """Connect once; afterwards reconnect for ever. Raises SourceUnavailable, SettingsError."""
    with translated(f"RabbitMQ at {options.redacted}", unreachable):
        connection = aio_pika.RobustConnection(
            options.address(name),
            ssl_context=options.tls(),
            reconnect_interval=RECONNECT_WAIT_SECONDS,
        )
        connection.kwargs["transport_factory"] = _ShelteredSocket()
        await connection.connect(timeout=CONNECT_SECONDS)
        return connection


@contextlib.asynccontextmanager
async def open_channel(
    connection: aio_pika.RobustConnection, *, confirms: bool = False
) -> AsyncIterator[aiormq.Channel]:
    """A channel of the connection as it is at this moment, closed at the end.

    With ``confirms`` a message that no queue takes raises PublishError. What the server refuses
    ends the channel and raises aiormq's error for it. Raises SourceUnavailable if it is away.
    """
    transport = connection.transport
    if transport is None or not connection.connected.is_set():
        raise SourceUnavailable("RabbitMQ is away")
    with translated("RabbitMQ"):
        async with asyncio.timeout(ANSWER_SECONDS):
            opened = await transport.connection.channel(publisher_confirms=confirms)
    channel = cast("aiormq.Channel", opened)
    try:
        yield channel
    finally:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await channel.close()


class _TappedReader(asyncio.StreamReader):
    """Lets ``tap`` take out what it wants before anybody else reads it."""

    def __init__(self, tap: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self._tap = tap

    def feed_data(self, data: Any) -> None:
        rest = self._tap(bytes(data))
        if rest:
            self.feed_untapped(rest)

    def feed_untapped(self, data: bytes) -> None:
        """Whole frames for the stock reader."""
        super().feed_data(data)


class Socket(aiormq.TransportFactory):
    """Opens the socket of one connection with ``tap`` before its reader."""

    def __init__(self, tap: Callable[[bytes], bytes]) -> None:
        self._tap = tap
        self._reader: _TappedReader | None = None
        self.transport: asyncio.Transport | None = None

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As aiormq calls it."""
        # A context holds nearly a megabyte of certificates: none is made that is not used.
        contexts = kwargs.pop("ssl_context_provider")
        context = await contexts.get_context() if url.scheme == "amqps" else None
        loop = asyncio.get_running_loop()
        reader = self._reader = _TappedReader(self._tap)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        self.transport, _ = await loop.create_connection(
            lambda: protocol,
            url.host or "127.0.0.1",
            url.port or 0,
            ssl=context,
            **kwargs,
        )
        return reader, asyncio.StreamWriter(self.transport, protocol, reader, loop)

    def feed(self, frames: bytes) -> None:
        """Show whole frames to aiormq as if they had come in."""
        if self._reader is not None and not self._reader.at_eof():
            self._reader.feed_untapped(frames)

    def write(self, frames: bytes) -> None:
        """Send whole frames, without waiting. Nothing happens if the connection has ended."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(frames)


class _ShelteredSocket(Socket):
    """The socket of a connection that may be opened again."""

    def __init__(self) -> None:
        super().__init__(Shelter().feed)

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._tap = Shelter().feed
        return await super().create(url, **kwargs)


async def close_quickly(connection: Any, socket: Socket | None = None) -> None:
    """Close a connection of aio-pika or aiormq, also if the server does not answer."""
    await within(_CLOSE_SECONDS, connection.close())
    if socket is not None and socket.transport is not None:
        socket.transport.abort()
