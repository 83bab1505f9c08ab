"""A loop in a thread of its own, with one Publisher, for callers without ``async``."""

import asyncio
import concurrent.futures
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from penstock.worker.publisher.client import Publisher
from penstock.worker.sending.outgoing import PublishFailed

Result = TypeVar("Result")
Work = Callable[[Publisher], Awaitable[Result]]

CLOSED = (
    "the Publisher was closed before this was done: close it, or leave its `with`, only when all "
    "threads are done with it"
)
FORKED = "this was begun in the process that this one was forked from: begin it again here"

_PATIENCE = 5.0
"""Seconds in which what is cancelled must end."""

_others = list["PublisherThread"]()
"""Of the process that this one was forked from. They are kept, so that nothing here closes what is
open there.
"""


class PublisherThread:
    """The thread runs from the first moment; `open` connects. Any threads may use it."""

    def __init__(self, bus: Publisher) -> None:
        self.bus = bus
        self.connected = False
        self.ended: str | None = None
        """Why nothing begins any more."""
        self._opening: concurrent.futures.Future[None] | None = None
        self._cutting = False
        self._lock = threading.Lock()
        self._loop = _Loop()
        self._thread = threading.Thread(target=self._work, name="penstock publisher", daemon=True)
        self._thread.start()

    def open(self) -> None:
        """Connect. Idempotent; tries again if it failed before. Raises SourceUnavailable."""
        with self._lock:
            if self._opening is None or _failed(self._opening):
                self._opening = self._begin(self._connect)
            opening = self._opening
        _result_of(opening)

    def run(self, work: Work[Result]) -> Result:
        """The result of ``work``, which runs in the loop; an interrupt cancels it."""
        return _result_of(self.start(work))

    def start(self, work: Work[Result]) -> concurrent.futures.Future[Result]:
        """Begin with ``work``. What is not done when all is closed raises PublishFailed."""
        with self._lock:
            return self._begin(work)

    def follow(self, asked: Awaitable[Result]) -> concurrent.futures.Future[Result]:
        """For other threads: what becomes of ``asked``, which belongs to the loop."""
        return asyncio.run_coroutine_threadsafe(self._told(lambda _: asked), self._loop)

    def close(self) -> None:
        """Close the Publisher, which waits for confirmations and raises what it raises, cut off
        what is still under way, and end the thread. Idempotent.
        """
        with self._lock:
            if self.ended is not None:
                return
            self.ended = CLOSED
        left = asyncio.run_coroutine_threadsafe(self._leave(), self._loop)
        if threading.current_thread() is self._thread:  # here the last reference was dropped
            return
        try:
            _result_of(left)
        finally:
            self._thread.join()

    def disown(self) -> None:
        """For a process that was forked: there is no such thread here."""
        self._lock = threading.Lock()  # another thread may have held it
        self.ended = FORKED
        _others.append(self)

    def _work(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def _begin(self, work: Work[Result]) -> concurrent.futures.Future[Result]:
        if self.ended is not None:
            raise PublishFailed(self.ended)
        return asyncio.run_coroutine_threadsafe(self._told(work), self._loop)

    async def _told(self, work: Work[Result]) -> Result:
        """The result of ``work``; who waits for it would take a cancellation for its own."""
        try:
            return await work(self.bus)
        except asyncio.CancelledError:
            if self._cutting:
                raise PublishFailed(CLOSED) from None
            raise

    async def _connect(self, bus: Publisher) -> None:
        await bus.__aenter__()
        self.connected = True

    async def _leave(self) -> None:
        try:
            if self.connected:
                await self.bus.__aexit__(None, None, None)
        finally:
            self._cutting = True
            try:
                await _cut()
            finally:
                self._loop.call_soon(self._loop.stop)  # once all who wait have been told


class _Loop(asyncio.SelectorEventLoop):
    """Finds hosts at the end of a program too, when no thread can be started for it."""

    async def getaddrinfo(self, *where: Any, **options: Any) -> Any:
        try:
            return await super().getaddrinfo(*where, **options)
        except RuntimeError:
            return socket.getaddrinfo(*where, **options)


async def _cut() -> None:
    """Cancel all other tasks, and wait for their ends and those of generators nobody reads on."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_PATIENCE)
    await asyncio.get_running_loop().shutdown_asyncgens()


def _result_of(asked: concurrent.futures.Future[Result]) -> Result:
    try:
        return asked.result()
    except BaseException:
        asked.cancel()
        raise


def _failed(asked: concurrent.futures.Future[None]) -> bool:
    return asked.done() and (asked.cancelled() or asked.exception() is not None)
