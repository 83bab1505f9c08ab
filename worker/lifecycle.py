"""Starting and stopping: waiting for servers at start, stopping in order on the first signal and at
once on the second.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from types import FrameType
from typing import Self, TypeVar

import structlog
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random_exponential

from penstock.worker.difference import Difference
from penstock.worker.errors import Unavailable

log = structlog.get_logger()
Opened = TypeVar("Opened")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_on_signals(at_once: Callable[[], None] = lambda: None) -> Iterator[asyncio.Event]:
    """An event that SIGTERM or SIGINT sets; a second signal calls ``at_once`` and ends the process
    with 128+signal.

    Call it in the main thread, inside a running loop. Restores the previous handlers at the end.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    asked = False

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            at_once()
            sys.stderr.flush()
            os._exit(128 + number)
        asked = True
        loop.call_soon_threadsafe(stopping.set)

    # Not loop.add_signal_handler: the second signal must work while the loop is stuck.
    former = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield stopping
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class Assembly:
    """What is put together of parts: `_open` enters them on ``_stack`` in order, and they are left
    in reverse order, also if one of them cannot be opened.
    """

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def _open(self) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()


async def set_at_end_of_input(stopping: asyncio.Event) -> None:
    """Set ``stopping`` once standard input, a pipe, has ended: whoever held its other end has
    closed it, or is no more.
    """
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    try:
        await reader.read()
        stopping.set()
    finally:
        transport.close()


async def patiently(attempt: Callable[[], Awaitable[Opened]], seconds: float) -> Opened:
    """Retry until the server answers, since servers and workers may start together.

    Raises the last error after ``seconds``; with 0 there is one attempt.
    """

    @retry(
        retry=retry_if_exception_type(Unavailable),
        wait=wait_random_exponential(multiplier=0.3, max=3.0),
        stop=stop_after_delay(seconds),
        before_sleep=lambda state: log.warning(
            "waiting_for_server", error=str(state.outcome.exception()) if state.outcome else ""
        ),
        reraise=True,
    )
    async def trying() -> Opened:
        return await attempt()

    return await trying()


def tell(differences: Sequence[Difference]) -> None:
    """Log what differs from the plan, or did."""
    for difference in differences:
        log.info("topology", difference=str(difference))
