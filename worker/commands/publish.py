"""``penstock publish``: send CloudEvents from a file or standard input, and await confirmation."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

import click

from penstock.schemas.catalogue import Catalogue
from penstock.worker.brokers.scope import Scope
from penstock.worker.commands.documents import Document, Documents, Piece
from penstock.worker.commands.publish_tally import Send, Tally, Told, asking, plain
from penstock.worker.errors import PenstockError
from penstock.worker.publisher.encoding import uuid7
from penstock.worker.sending.ports import Outlet
from penstock.worker.settings.keys import Settings
from penstock.worker.wording import why

_CHUNK_BYTES = 256 * 1024


async def publish_file(
    settings: Settings,
    path: str,
    rate: float | None,
    *,
    again: bool = False,
    receipt: bool = False,
) -> int:
    """Publish every event of ``path`` as it is; ``-`` is standard input. Returns the exit code.

    The file may hold one event a line, pretty-printed ones, and arrays. ``rate`` is in events per
    second. With ``again``, events that the streams saw recently are sent again, because they get
    another Nats-Msg-Id; so they do with ``receipt``, which waits until workers have told what
    became of each. Streams are created first if ``settings.provision``. The exit code is 1 if
    something was no event, or was refused or rejected; the others are published.
    """
    tally = Told() if receipt else Tally()
    prefix = f"{uuid7()}-" if again else ""
    with _opened(path) as file, _progress(path) as advance:
        async with _outlet(settings) as outlet:
            send = asking(outlet) if receipt else plain(outlet.sender)
            await _publish_all(send, _paced(_documents(file, advance), rate), tally, prefix)
            await outlet.sender.flush()
            await tally.all_settled()
    tally.tell(again=again)
    return 1 if tally.failures else 0


@asynccontextmanager
async def _outlet(settings: Settings) -> AsyncIterator[Outlet]:
    """The first broker in the settings, to send to; creates its streams if ``provision`` is set."""
    async with Scope(settings, Catalogue.load(settings.event_packages)) as scope:
        broker = await scope.broker(settings.brokers[0])
        if settings.provision:
            await broker.provision(dry_run=False)
        async with broker.outlet() as outlet:
            yield outlet


async def _publish_all(
    send: Send, documents: AsyncIterator[Document], tally: Tally, prefix: str
) -> None:
    async for found in documents:
        if found.error:
            tally.skipped(found)
        else:
            await tally.room()
            tally.sent(found, await send(found, prefix))


async def _documents(
    file: BufferedReader, advance: Callable[[int], object]
) -> AsyncIterator[Document]:
    """The events of the file as they arrive, and what is none."""
    documents = Documents()
    async for piece in _pieces(file, advance):
        for found in documents.take(piece):
            yield found
    for found in documents.end():
        yield found


async def _pieces(file: BufferedReader, advance: Callable[[int], object]) -> AsyncIterator[Piece]:
    """Lines with their numbers, from 1, as they arrive; long ones in parts."""
    number, rest, begins = 1, b"", True
    # read1 does not wait for a full buffer: what is written to a pipe is published at once.
    while chunk := await asyncio.to_thread(file.read1, _CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield Piece(number, line, begins=begins)
            number, begins = number + 1, True
        if len(rest) >= _CHUNK_BYTES:
            slashes = len(rest) - len(rest.rstrip(b"\\"))
            cut = len(rest) - slashes % 2  # no escape is cut in two
            yield Piece(number, rest[:cut], begins=begins, ends=False)
            rest, begins = rest[cut:], False
        advance(len(chunk))
    yield Piece(number, rest, begins=begins)


async def _paced(documents: AsyncIterator[Document], rate: float | None) -> AsyncIterator[Document]:
    """At most ``rate`` events per second, evenly."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    async for found in documents:
        if rate is not None:
            await asyncio.sleep(due - loop.time())
            due += 1 / rate
        yield found


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
