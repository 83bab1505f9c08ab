"""A connection for answers alone, kept open for as long as somebody may ask.

Answers go to addresses that others chose. Whatever the server makes of one, it ends no connection
that events come over.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Self

import aiormq
from aiormq.abc import AbstractChannel

from penstock.worker.ending import end
from penstock.worker.errors import PenstockError
from penstock.worker.logger import Logger
from penstock.worker.rabbitmq.connection import (
    CONNECT_SECONDS,
    Socket,
    close_quickly,
    translated,
)
from penstock.worker.rabbitmq.options import RabbitOptions
from penstock.worker.rabbitmq.shelter import Shelter
from penstock.worker.rabbitmq.wire import publishing

log = Logger(__name__)

_PAUSE_SECONDS = 0.5
_MOST_UNSENT = 8 * 2**20
"""Bytes that wait for a server which reads slowly; answers are not worth more memory."""


class Answer(NamedTuple):
    """A message to the queue ``key``; ``properties`` as `properties.joined` gives them."""

    key: bytes
    properties: bytes
    body: bytes


class AnswerLine:
    """Sends answers over a connection of its own, and opens another when it ends.

    ``opened`` is called with each new connection, before anything is sent over it, and with an
    event that ends it when set.
    """

    def __init__(
        self,
        options: RabbitOptions,
        name: str,
        opened: Callable[[aiormq.Connection, asyncio.Event], Awaitable[None]] | None = None,
    ) -> None:
        self._options = options
        self._name = name
        self._opened = opened
        self._socket: Socket | None = None
        self._connection: aiormq.Connection | None = None
        self._channel: AbstractChannel | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Connect. Raises SourceUnavailable, SettingsError, TopologyError."""
        await self._open()
        self._keeper = asyncio.create_task(self._keep(), name=self._name)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._keeper is not None:
            await end(self._keeper)
        await self._close()

    def send(self, answers: Sequence[Answer]) -> bool:
        """Send all in one write. False if they cannot be sent now."""
        socket, channel, connection = self._socket, self._channel, self._connection
        if socket is None or channel is None or connection is None or self._lost.is_set():
            return False
        transport = socket.transport
        if transport is None or transport.get_write_buffer_size() > _MOST_UNSENT:
            return False
        number, largest = int(channel.number), int(connection.connection_tune.frame_max)
        socket.write(b"".join([publishing(number, *answer, largest) for answer in answers]))
        return True

    async def _keep(self) -> None:
        while True:
            await self._lost.wait()
            await self._close()
            await asyncio.sleep(_PAUSE_SECONDS)
            try:
                await self._open()
            except PenstockError as error:  # a file of TLS may be missing for a moment, too
                log.warning("line_interrupted", line=self._name, error=str(error))
            except Exception:
                log.exception("line_interrupted", line=self._name)

    async def _open(self) -> None:
        lost = self._lost = asyncio.Event()
        options = self._options
        try:
            socket = self._socket = Socket(Shelter().feed)
            self._connection = aiormq.Connection(
                options.address(self._name), context=options.tls(), transport_factory=socket
            )
            with translated(f"RabbitMQ at {options.redacted}"):
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._connection.connect()
                    self._channel = await self._connection.channel(publisher_confirms=False)
            self._connection.closing.add_done_callback(lambda _: lost.set())
            self._channel.closing.add_done_callback(lambda _: lost.set())
            if self._opened is not None:
                await self._opened(self._connection, lost)
        except BaseException:
            lost.set()
            await self._close()
            raise

    async def _close(self) -> None:
        connection, socket = self._connection, self._socket
        self._connection = self._channel = self._socket = None
        if connection is not None:
            await close_quickly(connection, socket)
