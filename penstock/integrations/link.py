"""One Publisher for callers with ``async`` and without."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import penstock.sync
from penstock import Publisher, Receipt
from penstock.schemas import EventData

Result = TypeVar("Result")
Work = Callable[[Publisher], Coroutine[Any, Any, Result]]


class Link:
    """A Publisher that lives in the loop of `open_here`, or in a thread of its own after
    `open_apart`; any thread and any loop may use it then. ``options`` are those of the Publisher.
    """

    def __init__(self, server: str, *, source: str, **options: Any) -> None:
        self._bus = Publisher(server, source=source, **options)
        self._apart = penstock.sync.Publisher(server, source=source, **options)
        self._home: asyncio.AbstractEventLoop | None = None

    async def open_here(self) -> None:
        """Connect within the running loop. Raises SourceUnavailable."""
        await self._bus.__aenter__()
        self._home = asyncio.get_running_loop()

    async def close_here(self, *failure: Any) -> None:
        """Wait for confirmations, and close; see `penstock.Publisher`."""
        self._home = None
        await self._bus.__aexit__(*failure)

    def open_apart(self) -> None:
        """Connect within a thread of its own. Raises SourceUnavailable."""
        self._apart.open()

    def close_apart(self) -> None:
        """Wait for confirmations, and close."""
        self._apart.close()

    async def call(self, work: Work[Result]) -> Result:
        """The result of ``work`` with the Publisher."""
        if self._home is asyncio.get_running_loop():
            return await work(self._bus)
        return await asyncio.wrap_future(self._start(work))

    def run(self, work: Work[Result]) -> Result:
        """The same, without ``async``. Raises RuntimeError in the loop that does the work."""
        if self._home is not None and self._home is _running_loop():
            raise RuntimeError(
                "this would wait for its own loop: use the async method, or open with `with` "
                "instead of `async with`"
            )
        asked = self._start(work)
        try:
            return asked.result()
        except BaseException:
            asked.cancel()
            raise

    def _start(self, work: Work[Result]) -> Future[Result]:
        if self._home is not None:
            return asyncio.run_coroutine_threadsafe(work(self._bus), self._home)
        return self._apart.start(work)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def store(bus: Publisher, *events: EventData) -> None:
    """Publish, and wait until all are in PostgreSQL. Raises what `penstock.Publisher.publish` does.

    Times grow in the order of ``events``.
    """
    receipts: list[asyncio.Future[Receipt]] = []
    try:
        for event in events:
            receipts.append(await bus.publish_soon(event, receipt=True))  # noqa: PERF401
        await asyncio.gather(*receipts)
    finally:
        for receipt in receipts:
            receipt.cancel()
