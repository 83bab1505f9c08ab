"""A loop in a thread of its own, with one Publisher, for callers without ``async``."""

import asyncio
import concurrent.futures
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar

from penstock.worker.publisher.client import Publisher
from penstock.worker.sending.outgoing import PublishFailed

Result = TypeVar("Result")
Work = Callable[[Publisher], Awaitable[Result]]

CLOSED = (
    "the Publisher was closed before this was done: close it, or leave its `with`, only when all "
    "threads are done with it"
)
WITHIN = (
    "this would wait for the Publisher within its own thread, where callbacks of its futures run, "
    "and so for ever: begin it with start(lambda bus: bus.publish(...)), which does not wait, or "
    "call it in another thread"
)
FORKED = "this was begun in the process that this one was forked from: begin it again here"

_PATIENCE = 5.0
"""Seconds in which what is cancelled must end."""

_here = threading.local()
"""``bus`` is the Publisher that this thread works for, if any."""

_others = list["PublisherThread"]()
"""Of the process that this one was forked from. They are kept, so that nothing here closes what is
open there.
"""


class PublisherThread:
    """The thread runs from the first moment; `open` connects. Any threads may use it. What comes
    ``after`` another one, with the same Publisher, begins when that has ended.

    Signal handlers may use it too, also amid its methods: so the lock is reentrant, and nothing
    here waits while it holds the lock.
    """

    def __init__(self, bus: Publisher, *, after: Self | None = None) -> None:
        self.bus = bus
        self.connected = False
        self.ended: str | None = None
        """Why nothing begins any more."""
        self._opening: concurrent.futures.Future[None] | None = None
        self._leaving: concurrent.futures.Future[None] | None = None
        self._cutting = False
        self._lock = threading.RLock()
        self._loop = _Loop()
        former = None if after is None else after._thread  # noqa: SLF001  (of this very class)
        self._thread: threading.Thread = threading.Thread(
            target=self._work, args=(former,), name="penstock publisher", daemon=True
        )
        self._thread.start()

    def open(self) -> None:
        """Connect. Idempotent; tries again if it failed before. Raises SourceUnavailable."""
        if self.connected:
            return
        self._must_be_elsewhere()
        with self._lock:
            if self._opening is None or _failed(self._opening):
                self._opening = self._begin(self._connect)
            opening = self._opening
        _result_of(opening)

    def run(self, work: Work[Result]) -> Result:
        """The result of ``work``, which runs in the loop; an interrupt cancels it. Raises
        RuntimeError in the loop's own thread.
        """
        self._must_be_elsewhere()
        return _result_of(self.start(work))

    def start(self, work: Work[Result]) -> concurrent.futures.Future[Result]:
        """Begin with ``work``. What is not done when all is closed raises PublishFailed."""
        if self._is_here():  # who closes it may hold the lock, and waits for this thread
            return self._begin(work)
        with self._lock:
            return self._begin(work)

    def follow(self, asked: Awaitable[Result]) -> concurrent.futures.Future[Result]:
        """For other threads: what becomes of ``asked``, which belongs to the loop."""
        return asyncio.run_coroutine_threadsafe(self._told(lambda _: asked), self._loop)

    def close(self) -> None:
        """Close the Publisher, which waits for confirmations and raises what it raises, cut off
        what is still under way, and end the thread. Idempotent; whoever calls it while it is under
        way waits too. In the loop's own thread it does not wait.
        """
        with self._lock:
            if self.ended is not None and (self._leaving is None or self._leaving.done()):
                return
            self.ended = CLOSED
            if self._leaving is None:
                self._leaving = asyncio.run_coroutine_threadsafe(self._leave(), self._loop)
            leaving = self._leaving
        if self._is_here():  # a callback, or here the last reference was dropped
            return
        try:
            _result_of(leaving)
        except concurrent.futures.CancelledError:  # another thread that closes it was interrupted
            raise PublishFailed(CLOSED) from None
        finally:
            self._thread.join()

    def disown(self) -> None:
        """For a process that was forked: there is no such thread here."""
        self._lock = threading.RLock()  # another thread may have held it
        self.ended = FORKED
        _others.append(self)

    def _is_here(self) -> bool:
        return getattr(_here, "bus", None) is self.bus

    def _must_be_elsewhere(self) -> None:
        if self._is_here():
            raise RuntimeError(WITHIN)

    def _work(self, former: threading.Thread | None) -> None:
        _here.bus = self.bus
        if former is not None:
            former.join()
        self._loop.run_forever()
        self._loop.close()

    def _begin(self, work: Work[Result]) -> concurrent.futures.Future[Result]:
        if self.ended is not None:
            raise PublishFailed(self.ended)
        told = self._told(work)
        try:
            return asyncio.run_coroutine_threadsafe(told, self._loop)
        except RuntimeError:  # just now a signal handler has closed all
            told.close()
            raise PublishFailed(CLOSED) from None

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
                self.connected = False
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
