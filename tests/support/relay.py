"""A TCP relay between a client and an AMQP server that can be cut in the middle of a frame."""

import asyncio
import contextlib
from typing import Self

_GREETING = 8
"""Bytes of ``AMQP\\0\\0\\x09\\x01``, which a client sends before its first frame."""
_HEADER = 7
"""Bytes of a frame's head; the last four say how long its payload is. One byte ends the frame."""


class Frames:
    """Follows one direction of one connection. ``inside``: within the payload of a frame."""

    def __init__(self, greeting: int) -> None:
        self._head = bytearray()
        self._left = greeting

    @property
    def inside(self) -> bool:
        return self._left > 1

    def follow(self, data: bytes) -> None:
        """Step over what was sent on."""
        while data:
            if self._left:
                passed = min(self._left, len(data))
                self._left -= passed
            else:
                passed = min(_HEADER - len(self._head), len(data))
                self._head += data[:passed]
                if len(self._head) == _HEADER:
                    self._left = int.from_bytes(self._head[3:]) + 1
                    self._head.clear()
            data = data[passed:]


class Relay:
    """Listens on ``port`` of the loopback and forwards to the server's port."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._cut_after: int | None = None
        self._cut_answers = True
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

    def cut_after(self, size: int, *, answers: bool = True) -> None:
        """Abort every connection in the middle of a frame, once ``size`` more bytes have passed:
        bytes from the server, or, without ``answers``, from clients.
        """
        self._cut_after, self._cut_answers = size, answers

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
                self._forward(reader, far_writer, Frames(_GREETING), answers=False),
                self._forward(far_reader, writer, Frames(0), answers=True),
            )
        self._writers -= {writer, far_writer}
        for side in (writer, far_writer):
            side.transport.abort()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        frames: Frames,
        *,
        answers: bool,
    ) -> None:
        while data := await reader.read(65_536):
            passing = self._passing(data, frames, answers=answers)
            writer.write(data[:passing])
            await writer.drain()
            if passing < len(data):
                self._cut_after = None
                self.cuts += 1
                self._abort()
                return
        writer.write_eof()

    def _passing(self, data: bytes, frames: Frames, *, answers: bool) -> int:
        """How many bytes of ``data`` to forward: fewer than all if the cut is in it."""
        if self._cut_after is None or answers is not self._cut_answers:
            frames.follow(data)
            return len(data)
        passing = min(self._cut_after, len(data))
        frames.follow(data[:passing])
        self._cut_after -= passing
        while passing < len(data) and not frames.inside:
            frames.follow(data[passing : passing + 1])
            passing += 1
        return passing
