"""A TCP relay between a client and a server, which a test may cut in the middle of a frame."""

import asyncio
import contextlib
from typing import Self


class Relay:
    """Listens on ``port`` of the loopback and forwards to the server's port."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._cut_after: int | None = None
        self.port = 0
        self.cuts = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self._abort()
        await self._server.wait_closed()

    def cut_after(self, size: int) -> None:
        """Once the server has sent ``size`` more bytes, end every connection without a word."""
        self._cut_after = size

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        with contextlib.suppress(OSError):
            await asyncio.gather(
                self._forward(reader, far_writer, counted=False),
                self._forward(far_reader, writer, counted=True),
            )
        self._writers -= {writer, far_writer}
        for side in (writer, far_writer):
            side.transport.abort()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool
    ) -> None:
        while data := await reader.read(65_536):
            if counted and self._cut_after is not None:
                if len(data) >= self._cut_after:
                    writer.write(data[: self._cut_after])
                    await writer.drain()
                    self._cut_after = None
                    self.cuts += 1
                    self._abort()
                    return
                self._cut_after -= len(data)
            writer.write(data)
            await writer.drain()
        writer.write_eof()
