"""A line on a terminal that says how far a long piece of work is, how fast, and how much longer."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import click

from penstock.worker.ending import end

_DRAW_SECONDS = 0.2


@asynccontextmanager
async def advancing(what: str, total: int, done: Callable[[], int]) -> AsyncIterator[None]:
    """Draw the line while the context is open, if standard error is a terminal. ``done`` tells how
    many of about ``total`` are done.
    """
    if not sys.stderr.isatty():
        yield
        return
    bar: Any = click.progressbar(length=max(total, 1), label=what, file=sys.stderr)
    with bar:
        drawing = asyncio.create_task(_draw(bar, what, done), name="progress")
        try:
            yield
        finally:
            await end(drawing)
            bar.update(done() - bar.pos)


async def _draw(bar: Any, what: str, done: Callable[[], int]) -> None:
    begun = time.monotonic()
    while True:
        await asyncio.sleep(_DRAW_SECONDS)
        count = done()
        bar.label = f"{what} {count / (time.monotonic() - begun):,.0f}/s"
        bar.update(count - bar.pos)
