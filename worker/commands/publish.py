"""``penstock publish``: send CloudEvents from a file or standard input, and await confirmation."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any

import click

from penstock.schemas.catalogue import Catalogue
from penstock.worker.brokers.scope import Scope
from penstock.worker.errors import PenstockError
from penstock.worker.publisher.encoding import uuid7
from penstock.worker.sending.address import address
from penstock.worker.sending.outgoing import Confirmation
from penstock.worker.sending.ports import Sender
from penstock.worker.settings.keys import Settings
from penstock.worker.wording import why

_CHUNK_BYTES = 256 * 1024
_SHOWN = 20
"""Lines that are reported one by one; further ones are only counted."""
_CLEAR_LINE = "\r\x1b[K"


class Tally:
    """Counts what happened to the lines."""

    def __init__(self) -> None:
        self.published = self.duplicates = self.refused = self.broken = 0

    def settled(self, number: int, done: asyncio.Future[Confirmation]) -> None:
        """Count a message that is confirmed or refused."""
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self.refused += 1
            self._report(number, str(error))
        elif done.result().duplicate:
            self.duplicates += 1
        else:
            self.published += 1

    def skipped(self, number: int, error: str) -> None:
        """Count a line that is not an event."""
        self.broken += 1
        self._report(number, f"skipped: {error}")

    @property
    def failures(self) -> int:
        return self.refused + self.broken

    @property
    def done(self) -> int:
        return self.published + self.duplicates + self.failures

    def _report(self, number: int, text: str) -> None:
        if self.failures <= _SHOWN:
            clear = _CLEAR_LINE if sys.stderr.isatty() else ""  # the bar is drawn again
            click.echo(f"{clear}line {number}: {text}", err=True)

    def __str__(self) -> str:
        counts = f"{self.published} published, {self.duplicates} duplicates, {self.refused} refused"
        return f"{counts}, {self.broken} broken lines skipped" if self.broken else counts


async def publish_file(
    settings: Settings, path: str, rate: float | None, *, again: bool = False
) -> int:
    """Publish every line of ``path`` as it is; ``-`` is standard input. Returns the exit code.

    ``rate`` is in events per second. With ``again``, events that the streams saw recently are
    stored again, because they get another Nats-Msg-Id. Streams are created first if
    ``settings.provision``. The exit code is 1 if a line was not an event or was refused; the others
    are published.
    """
    tally = Tally()
    prefix = f"{uuid7()}-" if again else ""
    with _opened(path) as file, _progress(path) as advance:
        async with opened_sender(settings) as sender:
            await _publish_lines(sender, _paced(_lines(file, advance), rate), tally, prefix)
            await sender.flush()
    click.echo(tally)
    return 1 if tally.failures else 0


@asynccontextmanager
async def opened_sender(settings: Settings) -> AsyncIterator[Sender]:
    """A sender to the first broker in the settings; creates its streams if ``provision`` is set."""
    async with Scope(settings, Catalogue.load(settings.event_packages)) as scope:
        broker = await scope.broker(settings.brokers[0])
        if settings.provision:
            await broker.provision(dry_run=False)
        async with broker.sender() as sender:
            yield sender


async def _publish_lines(
    sender: Sender, lines: AsyncIterator[tuple[int, bytes]], tally: Tally, prefix: str
) -> None:
    async for number, line in lines:
        try:
            subject, msg_id = address(line)
        except (ValueError, RecursionError) as exc:
            tally.skipped(number, str(exc))
            continue
        sent = await sender.send(subject, line, prefix + msg_id)
        sent.add_done_callback(partial(tally.settled, number))


async def _lines(
    file: BufferedReader, advance: Callable[[int], object]
) -> AsyncIterator[tuple[int, bytes]]:
    """Lines with their numbers, from 1, as they arrive; without empty lines."""
    number, rest = 0, b""
    # read1 does not wait for a full buffer: what is written to a pipe is published at once.
    while chunk := await asyncio.to_thread(file.read1, _CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            number += 1
            if line.strip():
                yield number, line.strip()
        advance(len(chunk))
    if rest.strip():
        yield number + 1, rest.strip()


async def _paced(
    lines: AsyncIterator[tuple[int, bytes]], rate: float | None
) -> AsyncIterator[tuple[int, bytes]]:
    """At most ``rate`` lines per second, evenly."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    async for line in lines:
        if rate is not None:
            await asyncio.sleep(due - loop.time())
            due += 1 / rate
        yield line


def _opened(path: str) -> BufferedReader:
    """The file, or standard input, which stays open afterwards."""
    try:
        if path == "-":
            return open(sys.stdin.fileno(), "rb", closefd=False)
        return Path(path).open("rb")
    except OSError as exc:
        raise PenstockError(f"cannot read {path}: {why(exc)}") from exc


@contextmanager
def _progress(path: str) -> Iterator[Callable[[int], object]]:
    """A function to call with the number of bytes read. It draws a progress bar if the size is
    known and standard error is a terminal.
    """
    if path == "-" or not sys.stderr.isatty():
        yield lambda _: None
        return
    size = Path(path).stat().st_size
    bar: Any = click.progressbar(length=size, label="publishing", file=sys.stderr)
    with bar:
        yield bar.update
