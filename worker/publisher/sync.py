"""`Publisher` without ``async``: for scripts and notebooks, also where a loop runs already."""

import asyncio
import concurrent.futures
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, Literal, Self, TypeVar, Unpack, overload

from penstock.schemas.event import EventData
from penstock.worker.publisher import client
from penstock.worker.publisher.client import RECEIPT_SECONDS
from penstock.worker.publisher.encoding import Attributes
from penstock.worker.publisher.states import NO_DEFAULT
from penstock.worker.sending.outgoing import Confirmation
from penstock.worker.sending.ports import Server
from penstock.worker.sending.receipts import Receipt
from penstock.worker.sending.state import StateValue

Result = TypeVar("Result")


class _Thread:
    """A loop in a thread of its own, with one open Publisher."""

    def __init__(self, bus: client.Publisher) -> None:
        self._bus = bus
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="penstock publisher", daemon=True
        )
        self._thread.start()
        try:
            self.run(bus.__aenter__())
        except BaseException:
            self._end()
            raise

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of ``work``; an interrupt cancels it."""
        asked = self.start(work)
        try:
            return asked.result()
        except BaseException:
            asked.cancel()
            raise

    def start(self, work: Coroutine[Any, Any, Result]) -> concurrent.futures.Future[Result]:
        """Begin with ``work``."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Close the Publisher, which waits for confirmations, and end the thread."""
        try:
            self.run(self._bus.__aexit__(None, None, None))
        finally:
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Publisher:
    """As `penstock.Publisher`, with the same arguments; methods return when the work is done. Any
    threads may share it. It is closed on leaving ``with``, by `close`, or when the program ends.
    """

    def __init__(
        self, server: str | Server = "nats://127.0.0.1:4222", *, source: str, **options: Any
    ) -> None:
        self._bus = client.Publisher(server, source=source, **options)
        self._lock = threading.Lock()
        self._thread: _Thread | None = None
        self._at_exit: weakref.finalize[[], Self] | None = None

    def open(self) -> Self:
        """Connect; for a notebook, which has no ``with``. Idempotent. Raises SourceUnavailable."""
        with self._lock:
            if self._thread is None:
                self._thread = _Thread(self._bus)
                self._at_exit = weakref.finalize(self, self._thread.close)
        return self

    def close(self) -> None:
        """Wait for confirmations, as `penstock.Publisher` does on leaving; raises what it raises.
        Idempotent.
        """
        with self._lock:
            self._thread = None
            if self._at_exit is not None:
                self._at_exit()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *exc: object) -> None:
        self.close()

    @overload
    def publish(
        self,
        event: EventData,
        *,
        receipt: Literal[False] = False,
        **attributes: Unpack[Attributes],
    ) -> Confirmation: ...
    @overload
    def publish(
        self,
        event: EventData,
        *,
        receipt: Literal[True],
        timeout: float | None = RECEIPT_SECONDS,
        **attributes: Unpack[Attributes],
    ) -> Receipt: ...
    def publish(
        self,
        event: EventData,
        *,
        receipt: bool = False,
        timeout: float | None = RECEIPT_SECONDS,
        **attributes: Unpack[Attributes],
    ) -> Confirmation | Receipt:
        """See `penstock.Publisher.publish`."""
        if receipt:
            return self._opened().run(
                self._bus.publish(event, receipt=True, timeout=timeout, **attributes)
            )
        return self._opened().run(self._bus.publish(event, **attributes))

    def publish_soon(
        self, event: EventData, **attributes: Unpack[Attributes]
    ) -> concurrent.futures.Future[Confirmation]:
        """Publish, and wait only for room; the future is one of threads."""
        thread = self._opened()
        return thread.start(_outcome(thread.run(self._bus.publish_soon(event, **attributes))))

    def start(
        self, work: Callable[[client.Publisher], Coroutine[Any, Any, Result]]
    ) -> concurrent.futures.Future[Result]:
        """Begin with ``work``, which is given the `penstock.Publisher` of the thread: for what has
        no method here, such as reads.
        """
        return self._opened().start(work(self._bus))

    def flush(self) -> None:
        """Wait until nothing is unconfirmed."""
        self._opened().run(self._bus.flush())

    def state(self, agent_id: str, key: str, default: Any = NO_DEFAULT) -> StateValue:
        """See `penstock.Publisher.state`."""
        return self._opened().run(self._bus.state(agent_id, key, default))

    def status(self, agent_id: str) -> StateValue:
        """See `penstock.Publisher.status`."""
        return self._opened().run(self._bus.status(agent_id))

    def wait_for(
        self, agent_id: str, key: str, *, version: int = 0, timeout: float | None = 30.0
    ) -> StateValue:
        """See `penstock.Publisher.wait_for`."""
        waiting = self._bus.wait_for(agent_id, key, version=version, timeout=timeout)
        return self._opened().run(waiting)

    def watch(self, agent_id: str, key: str) -> Iterator[StateValue | None]:
        """See `penstock.Publisher.watch`."""
        thread = self._opened()
        changes = self._bus.watch(agent_id, key)
        try:
            while True:
                yield thread.run(_next(changes))
        finally:
            thread.run(changes.aclose())

    def _opened(self) -> _Thread:
        if self._thread is None:
            raise RuntimeError("the Publisher is not open: use `with Publisher(...)`, or open()")
        return self._thread


async def _outcome(asked: asyncio.Future[Result]) -> Result:
    return await asked


async def _next(changes: AsyncGenerator[Result]) -> Result:
    return await anext(changes)
