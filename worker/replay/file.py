"""A file of events, one JSON document a line, as `penstock publish` takes it."""

import asyncio
from collections.abc import Iterator, Sequence
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Self

from penstock.worker.errors import TopologyError
from penstock.worker.pipeline.ports import Message
from penstock.worker.pipeline.source import Span
from penstock.worker.replay.pulled import PulledLog
from penstock.worker.sending.address import address
from penstock.worker.wording import why


class Line(Message, kw_only=True):
    """A line; its number, from 1, is its offset."""

    offset: int


class FileLog(PulledLog):
    """The lines of ``path`` that are in the span; empty ones are no messages."""

    def __init__(self, path: str, span: Span, *, batch_size: int) -> None:
        super().__init__(Path(path).name, "file", batch_size=batch_size)
        self._path = path
        self._span = span
        self._file: BufferedReader | None = None
        self._lines: Iterator[Line] = iter(())

    async def __aenter__(self) -> Self:
        try:
            lines = await asyncio.to_thread(_count, self._path)
            self._file = await asyncio.to_thread(Path(self._path).open, "rb")
        except OSError as error:
            raise TopologyError(f"cannot read {self._path}: {why(error)}") from error
        first, to = max(1, self._span.from_offset or 1), self._span.to_offset
        self.last = lines if to is None else min(lines, to)
        if first > self.last:
            raise TopologyError(f"{self._path}: no line is in the range; it has {lines}")
        self.total = self.last - first + 1
        numbered = enumerate(self._file, start=1)
        wanted = islice(numbered, first - 1, self.last)
        self._lines = (_line(number, text.strip()) for number, text in wanted if text.strip())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()

    async def _read(self) -> Sequence[Message]:
        return await asyncio.to_thread(lambda: list(islice(self._lines, self._batch_size)))


def _line(number: int, body: bytes) -> Line:
    try:
        subject, _ = address(body)
    except (ValueError, RecursionError):  # the decoder says what is wrong with it
        subject = ""
    return Line(subject=subject, body=body, offset=number)


def _count(path: str) -> int:
    """Lines, the last of which need not be ended."""
    lines, end = 0, b"\n"
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            lines, end = lines + chunk.count(b"\n"), chunk[-1:]
    return lines + (end != b"\n")
