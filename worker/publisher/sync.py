"""`Publisher` without ``async``: for scripts and notebooks, also where a loop runs already."""

import concurrent.futures
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Literal, Self, TypeVar, Unpack, overload

from penstock.schemas.event import EventData
from penstock.worker.publisher import client
from penstock.worker.publisher.client import RECEIPT_SECONDS
from penstock.worker.publisher.encoding import Attributes
from penstock.worker.publisher.states import NO_DEFAULT
from penstock.worker.publisher.thread import PublisherThread
from penstock.worker.sending.outgoing import Confirmation, PublishFailed
from penstock.worker.sending.ports import Server
from penstock.worker.sending.receipts import Receipt
from penstock.worker.sending.state import StateValue

Result = TypeVar("Result")


class Publisher:
    """As `penstock.Publisher`, with the same arguments; methods return when the work is done. Any
    threads may share it. It is closed on leaving ``with``, by `close`, or when the program ends;
    calls of other threads that are under way then raise PublishFailed.

    In a process that was forked it connects anew when it is first used, and closing it there leaves
    that of the parent open.
    """

    def __init__(
        self, server: str | Server = "nats://127.0.0.1:4222", *, source: str, **options: Any
    ) -> None:
        self._make = partial(client.Publisher, server, source=source, **options)
        self._bus = self._make()
        self._lock = threading.Lock()
        self._thread: PublisherThread | None = None
        self._at_exit: weakref.finalize[[], Any] | None = None
        self._outlasts = False
        self._inherited = False

    def open(self) -> Self:
        """Connect; for a notebook, which has no ``with``. Idempotent. Raises SourceUnavailable."""
        with self._lock:
            thread = self._started()
        try:
            thread.open()
        except BaseException:
            if not (self._outlasts or thread.connected):
                self.close()
            raise
        return self

    def prepare(self) -> Self:
        """For who publishes until the very end of a program, and calls `close` then, as exporters
        do: start the thread now, for then none can be started, and leave closing to `close`. `open`
        connects, then too.
        """
        with self._lock:
            self._outlasts = True
            self._started()
        return self

    def close(self) -> None:
        """Wait for confirmations, as `penstock.Publisher` does on leaving; raises what it raises.
        Idempotent.
        """
        with self._lock:
            self._inherited = False
            try:
                if self._thread is not None:
                    self._thread.close()
            finally:
                self._thread = None
                if self._at_exit is not None:
                    self._at_exit.detach()

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
        thread = self._opened()
        if receipt:
            return thread.run(
                lambda bus: bus.publish(event, receipt=True, timeout=timeout, **attributes)
            )
        return thread.run(lambda bus: bus.publish(event, **attributes))

    def publish_soon(
        self, event: EventData, **attributes: Unpack[Attributes]
    ) -> concurrent.futures.Future[Confirmation]:
        """Publish, and wait only for room; the future is one of threads."""
        thread = self._opened()

        async def begin(bus: client.Publisher) -> concurrent.futures.Future[Confirmation]:
            return thread.follow(await bus.publish_soon(event, **attributes))

        return thread.run(begin)

    def start(
        self, work: Callable[[client.Publisher], Awaitable[Result]]
    ) -> concurrent.futures.Future[Result]:
        """Begin with ``work``, which is given the `penstock.Publisher` of the thread: for what has
        no method here, such as reads.
        """
        return self._opened().start(work)

    def flush(self) -> None:
        """Wait until nothing is unconfirmed."""
        self._opened().run(lambda bus: bus.flush())

    def state(self, agent_id: str, key: str, default: Any = NO_DEFAULT) -> StateValue:
        """See `penstock.Publisher.state`."""
        return self._opened().run(lambda bus: bus.state(agent_id, key, default))

    def status(self, agent_id: str) -> StateValue:
        """See `penstock.Publisher.status`."""
        return self._opened().run(lambda bus: bus.status(agent_id))

    def wait_for(
        self, agent_id: str, key: str, *, version: int = 0, timeout: float | None = 30.0
    ) -> StateValue:
        """See `penstock.Publisher.wait_for`."""
        return self._opened().run(
            lambda bus: bus.wait_for(agent_id, key, version=version, timeout=timeout)
        )

    def watch(self, agent_id: str, key: str) -> Iterator[StateValue | None]:
        """See `penstock.Publisher.watch`."""
        thread = self._opened()
        changes = thread.bus.watch(agent_id, key)
        try:
            while True:
                yield thread.run(lambda _: anext(changes))
        finally:
            with suppress(PublishFailed):  # the Publisher was closed, and so is this
                thread.run(lambda _: changes.aclose())

    def _opened(self) -> PublisherThread:
        thread = self._thread
        if thread is not None and thread.connected:
            return thread
        if self._inherited:
            self.open()
            return self._opened()
        raise RuntimeError("the Publisher is not open: use `with Publisher(...)`, or open()")

    def _started(self) -> PublisherThread:
        if self._thread is None or self._thread.ended is not None:
            self._thread = PublisherThread(self._bus)
            self._at_exit = weakref.finalize(self, self._thread.close)
            _publishers.add(self)
        if self._at_exit is not None:
            self._at_exit.atexit = not self._outlasts
        return self._thread

    def _forked(self) -> None:
        """The thread and the connection are those of the parent: begin without them."""
        self._lock = threading.Lock()  # another thread may have held it
        if self._thread is None:
            return
        self._inherited = self._thread.connected and self._thread.ended is None
        self._thread.disown()
        self._thread = None
        self._bus = self._make()
        if self._outlasts:
            self._started()


_publishers = weakref.WeakSet[Publisher]()


def _all_forked() -> None:
    for publisher in list(_publishers):
        publisher._forked()  # noqa: SLF001  (of this very class)


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_all_forked)
