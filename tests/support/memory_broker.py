"""The room of a third broker: all that Penstock needs for reading, provisioning and sending.

The broker itself is `tests.support.memory_server`.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import Any, Self

from penstock.worker.brokers.ports import Copy, GivenUp, Lent, Offsets, Waiting
from penstock.worker.brokers.scope import Scope
from penstock.worker.difference import Difference
from penstock.worker.errors import PenstockError, SourceUnavailable, TopologyError
from penstock.worker.finding import Finding, Verdict
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.budget import Share
from penstock.worker.pipeline.intake import Intake
from penstock.worker.pipeline.ports import Backlog, Message
from penstock.worker.pipeline.receipts import NoReplies
from penstock.worker.pipeline.source import WatchedSource
from penstock.worker.sending.outgoing import Confirmation, PublishRefused
from penstock.worker.sending.ports import Outlet, Sending
from penstock.worker.sending.reads import Answering
from penstock.worker.settings.keys import Settings
from tests.support.memory_server import MemoryMessage, MemoryServer, Stream

_TICK_SECONDS = 0.1
_AHEAD = 2
"""Batches that a reader takes before they are fetched."""


SERVER = MemoryServer()
"""The one server of this process, for every address."""


class MemorySource:
    """One reader of a stream."""

    transport = "memory"

    def __init__(
        self,
        server: MemoryServer,
        name: str,
        *,
        batch_size: int,
        batch_bytes: int,
        linger: float,
        share: Share | None = None,
    ) -> None:
        self.name = name
        self._server = server
        self._stream = server.streams[name]
        self._most, self._most_bytes = _AHEAD * batch_size, _AHEAD * batch_bytes
        self._intake: Intake[MemoryMessage] = Intake(
            batch_size=batch_size, batch_bytes=batch_bytes, linger=linger, share=share
        )
        self._intake.share.wake = self.pull
        self._mine: dict[int, MemoryMessage] = {}
        self._lost = False
        self._watcher: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> bool:
        return self._server.up and not self._lost

    async def __aenter__(self) -> Self:
        self._stream.readers.append(self)
        self._watcher = asyncio.create_task(self._watch(), name=f"watch {self.name}")
        self.pull()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        self.cut()

    async def fetch(self) -> Batch:
        messages, size = await self._intake.batch()
        self.pull()
        return Batch(messages, size, self, epoch=self._stream.epoch)

    def stop(self) -> None:
        self._intake.stop()

    async def ack(self, batch: Batch) -> None:
        for message in self._settled(batch):
            self._stream.forget(message)

    async def nack(self, batch: Batch, delay: float) -> None:
        again = self._settled(batch)
        asyncio.get_running_loop().call_later(delay, self._stream.put_back, again)

    async def backlog(self) -> Backlog:
        if not self.healthy:
            raise SourceUnavailable("the memory broker is away")
        held = self._stream.held.values()
        again = sum(message.times > 1 for message in held)
        return Backlog(pending=len(self._stream.waiting), ack_pending=len(held), redelivered=again)

    def pull(self) -> None:
        """Take what is waiting, as far as there is room."""
        intake, stream = self._intake, self._stream
        while self.healthy and stream.waiting and not intake.stopped and self._has_room():
            message = stream.take()
            self._mine[message.place] = message
            intake.add([message], message.size)

    def _has_room(self) -> bool:
        intake, size = self._intake, self._stream.waiting[0].size
        room = len(intake) < self._most and (not intake or intake.size < self._most_bytes)
        return room and intake.share.allows(size)

    def attach(self, stream: Stream) -> None:
        """Read another stream of that name; what is held of the old one is gone."""
        self._intake.drain()
        self._mine.clear()
        self._stream = stream
        stream.readers.append(self)
        self.pull()

    def let_go(self) -> None:
        """Return everything unsettled, as a server does when it loses a connection."""
        self._intake.drain()
        mine, self._mine = list(self._mine.values()), {}
        self._stream.put_back(mine)

    def cut(self) -> None:
        """Lose the connection for good."""
        self._lost = True
        self._intake.fail(SourceUnavailable("the connection is lost"))
        with suppress(ValueError):
            self._stream.readers.remove(self)
        self.let_go()

    def _settled(self, batch: Batch) -> Sequence[Message]:
        """Those that are still this reader's."""
        self._intake.settled(len(batch), batch.size)
        mine = [m for m in batch.messages if self._mine.get(m.offset or 0) is m]
        for message in mine:
            del self._mine[message.offset or 0]
        self.pull()
        return mine

    async def _watch(self) -> None:
        """Resume reading if the server has forgotten this reader."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            if not self._lost and self not in self._stream.readers:
                self._stream.readers.append(self)
            self.pull()


class MemorySender:
    """Every message is confirmed at once."""

    async def send(
        self, subject: str, payload: bytes, msg_id: str, reply_to: str = ""
    ) -> asyncio.Future[Confirmation]:
        assert not reply_to
        confirmed = asyncio.get_running_loop().create_future()
        try:
            confirmed.set_result(SERVER.publish(subject, payload, {"Nats-Msg-Id": msg_id}))
        except PublishRefused as refused:
            confirmed.set_exception(refused)
        return confirmed

    async def flush(self, patience: float | None = None) -> None:
        """Nothing is ever unconfirmed."""


class MemoryBroker:
    """The streams that the settings and the catalogue ask for."""

    transport = MemorySource.transport
    keeps = False

    def __init__(self, settings: Settings, streams: Mapping[str, Sequence[str]]) -> None:
        self._settings = settings
        self._streams = streams

    async def provision(self, *, dry_run: bool) -> list[Difference]:
        missing = [name for name in self._streams if name not in SERVER.streams]
        for name in missing if not dry_run else ():
            SERVER.make(name, self._streams[name])
        return [Difference.absence(f"stream {name}", fixed=not dry_run) for name in missing]

    async def check(self) -> list[Difference]:
        missing = await self.provision(dry_run=True)
        if missing:
            raise TopologyError("; ".join(str(difference) for difference in missing))
        return []

    async def examine(self) -> list[Finding]:
        return [Finding(Verdict.GOOD, "memory of this process")]

    async def waiting(self, stream: str, offsets: Offsets) -> Waiting:  # noqa: ARG002  (it keeps its own)
        found = SERVER.streams[stream]
        return Waiting(pending=len(found.waiting), ack_pending=len(found.held))

    async def settled(self, stream: str) -> None:
        """Its messages have no offsets that outlive a connection."""

    async def again(self, stream: str, offsets: Sequence[int]) -> Sequence[Message]:  # noqa: ARG002
        return ()

    def source(self, stream: str, lent: Lent) -> AbstractAsyncContextManager[WatchedSource]:
        settings = self._settings
        return MemorySource(
            SERVER,
            stream,
            batch_size=settings.batch_size,
            batch_bytes=settings.batch_bytes,
            linger=settings.linger,
            share=lent.share,
        )

    @asynccontextmanager
    async def outlet(self) -> AsyncIterator[Outlet]:
        yield Outlet(MemorySender())

    @asynccontextmanager
    async def replies(self) -> AsyncIterator[NoReplies]:
        yield NoReplies()

    def serving(self, reads: Answering) -> AbstractAsyncContextManager[None]:  # noqa: ARG002
        """It carries no reads."""
        return nullcontext()

    async def given_up(self) -> GivenUp | None:
        """It gives up nothing."""
        return None

    async def resend(self, copies: Sequence[Copy]) -> list[PenstockError | None]:
        outcomes: list[PenstockError | None] = []
        for copy in copies:
            try:
                SERVER.publish(copy.subject, copy.body, {"Nats-Msg-Id": copy.requeue_id})
                outcomes.append(None)
            except PublishRefused as refused:
                outcomes.append(refused)
        return outcomes

    def headers_with(self, headers: bytes, changes: Mapping[str, str]) -> bytes:  # noqa: ARG002  (it has none)
        return headers


async def open_broker(scope: Scope) -> MemoryBroker:
    """As the registry asks for it."""
    streams = {name: scope.catalogue.streams[name] for name in scope.streams}
    return MemoryBroker(scope.settings, streams)


@asynccontextmanager
async def open_sender(server: Any, sending: Sending) -> AsyncIterator[Outlet]:  # noqa: ARG001  (there is one server)
    """As the registry asks for it."""
    yield Outlet(MemorySender())
