"""Sends messages until they are confirmed: in batches, with retries, in bounded memory."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Unpack

import nats.errors
from nats.aio.client import Client

from penstock.worker.ending import end
from penstock.worker.errors import PenstockError
from penstock.worker.logger import Logger
from penstock.worker.nats.client import close
from penstock.worker.nats.connection import connect, reads, revive
from penstock.worker.nats.options import NatsOptions
from penstock.worker.nats.published import STREAM_FULL, malformed, refusal, request_of, size_of
from penstock.worker.nats.reading import NatsReading
from penstock.worker.nats.receipts import ReceiptInbox
from penstock.worker.nats.requests import (
    ATOMIC_DISABLED,
    BATCH_LIMIT,
    Ack,
    Inbox,
    ack_of,
    unfit,
)
from penstock.worker.nats.state_reader import BucketReader
from penstock.worker.nats.wire import BatchParser
from penstock.worker.sending.outgoing import (
    Confirmation,
    Outgoing,
    PublishFailed,
    PublishRefused,
    Queue,
)
from penstock.worker.sending.ports import Outlet, Sending
from penstock.worker.sending.unconfirmed import Limits, Unconfirmed
from penstock.worker.wording import why

log = Logger(__name__)

_BATCH_BYTES = 1024 * 1024
"""Most bytes of one write, so that a slow stream still answers before the patience ends."""

_ATOMIC_LEAST = 20
"""Fewest messages of an atomic batch. The server makes files for each, which costs as much as to
write this many messages one by one, even where each is flushed to the disk (`sync_interval`).
"""

_PATIENCE_SECONDS = 5.0
_RECONNECT_POLL_SECONDS = 0.05
_PAUSE_SECONDS = 0.5
_NO_STREAM_SECONDS = 2.0
"""For how long "no stream" may mean that the stream has no leader at the moment."""

_DEAF = (
    "no answer can be received, so whether it was stored is not known: ask for the permission to "
    "subscribe to the inbox, _INBOX.> or your inbox_prefix"
)
_denied = re.compile(r'permissions violation for publish to "([^"]+)"', re.IGNORECASE).search
_deafened = re.compile(r'permissions violation for subscription to "([^"]+)"', re.IGNORECASE).search


@asynccontextmanager
async def open_sender(server: str | NatsOptions, sending: Sending) -> AsyncIterator[Outlet]:
    """A sender with its own connection. Raises SourceUnavailable."""
    options = NatsOptions(url=server) if isinstance(server, str) else server
    nc = await connect(options, name=sending.name)
    sender = NatsSender(nc, atomic=sending.atomic, **sending.limits)
    receipts = ReceiptInbox(nc)
    try:
        await sender.open()
        yield Outlet(sender, BucketReader(nc, sending.bucket), receipts, NatsReading(nc))
    finally:
        receipts.close()
        await sender.close()
        await close(nc)


class NatsSender:
    """Publishes bytes to streams until confirmed, each stored once within the duplicate window.

    While ``limits`` are reached, `send` waits for room. ``atomic``: use atomic batches if the
    stream accepts them.
    """

    def __init__(self, nc: Client, *, atomic: bool = True, **limits: Unpack[Limits]) -> None:
        self._nc = nc
        self._inbox = Inbox(nc, _PATIENCE_SECONDS)
        self._unconfirmed = Unconfirmed(**limits)
        self._atomic = atomic
        self._singly: dict[str, int] = {}
        self._queues: dict[str, Queue] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._in_flight: dict[str, list[Outgoing]] = {}
        self._deaf = -1

    async def open(self) -> None:
        """Start listening for answers."""
        await self._inbox.open()
        BatchParser.of(self._nc).on_reset(self, self._inbox.interrupt)
        self._listen_for_denials()

    async def send(
        self, subject: str, payload: bytes, msg_id: str, reply_to: str = ""
    ) -> asyncio.Future[Confirmation]:
        """Queue a message as soon as there is room; see `Sender.send`."""
        message = await self._unconfirmed.take(subject, payload, msg_id, reply_to)
        if message.confirmed.done():  # closed meanwhile
            return message.confirmed
        reason = malformed(subject, msg_id)
        if reason is None:
            self._queue(subject.partition(".")[0]).put(message)
        else:
            message.fail(PublishRefused(f"{subject!r} cannot be sent: {reason}"))
        return message.confirmed

    async def flush(self, patience: float | None = None) -> None:
        """Wait until every message is confirmed, refused or given up. See `Unconfirmed.none`."""
        await self._unconfirmed.none(patience)

    async def close(self) -> None:
        """Stop at once. What is unconfirmed fails with PublishFailed. Idempotent."""
        error = PublishFailed("the publisher was closed before this was confirmed")
        self._unconfirmed.close(error)
        await end(*self._tasks.values())
        self._tasks.clear()
        self._fail_all(error)

    def _fitting(self, batch: list[Outgoing]) -> list[Outgoing]:
        """The messages that are still unconfirmed and that the server will accept.

        Checked before each attempt, because a server may come back with a smaller limit. A message
        that is too large fails; the others do not.
        """
        for message in batch:
            if reason := unfit(self._nc, message.subject, size_of(message)):
                message.fail(PublishRefused(f"{message.subject!r} cannot be sent: {reason}"))
        return [message for message in batch if not message.confirmed.done()]

    def _queue(self, domain: str) -> Queue:
        """The queue of a domain, and so of a stream: a batch has messages of one stream only."""
        queue = self._queues.setdefault(domain, Queue())
        if domain not in self._tasks:
            work = self._work(domain, queue)
            task = self._tasks[domain] = asyncio.create_task(work, name=f"publish {domain}")
            task.add_done_callback(partial(self._ended, domain))
        return queue

    def _ended(self, domain: str, task: asyncio.Task[None]) -> None:
        """A bug here must not leave callers waiting; the next message starts a new task."""
        if not task.cancelled() and (error := task.exception()):
            log.error("publish_failed", domain=domain, exc_info=error)
            del self._tasks[domain]
            self._fail_all(PublishFailed(f"the publisher itself failed: {error!r}"))

    async def _work(self, domain: str, queue: Queue) -> None:
        while True:
            batch = await queue.take(BATCH_LIMIT, _BATCH_BYTES)
            self._in_flight[domain] = batch
            try:
                await self._connected()
                await self._deliver(domain, batch)
            except (nats.errors.Error, OSError) as exc:
                log.warning("publish_interrupted", domain=domain, error=why(exc))
                await self._recover()
            del self._in_flight[domain]
            rest = _unsettled(batch)
            if rest:
                queue.put_back(rest)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _connected(self) -> None:
        while not self._nc.is_connected:
            if self._nc.is_closed:
                error = self._nc.last_error
                reason = why(error) if error else "it was closed"
                self._fail_all(PublishFailed(f"the connection is closed for good: {reason}"))
                return
            await asyncio.sleep(_RECONNECT_POLL_SECONDS)

    async def _deliver(self, domain: str, batch: list[Outgoing]) -> None:
        """One attempt at a batch: atomically if possible, otherwise, or if refused, one by one.

        Refusing a whole batch, a stream does not say why; for single messages it says which one is
        a duplicate, too large, or finds no room.
        """
        batch = self._fitting(batch)
        if not batch:
            return
        generation = self._nc.stats["reconnects"]
        if generation == self._deaf:
            _refuse_all(batch, _DEAF)
            return
        atomic = self._atomic and self._singly.get(domain) != generation
        if atomic and len(batch) >= _ATOMIC_LEAST:
            answer = await self._inbox.ask_atomic([request_of(message) for message in batch])
            if answer is None:
                await self._recover()
                return
            reply = ack_of(answer)
            if reply.error is None and reply.count == len(batch):
                _confirm_all(batch, reply)
                return
            if reply.error is None or reply.error.err_code == ATOMIC_DISABLED:
                # Without a count, an older server took them one by one. Until the next reconnect.
                self._singly[domain] = generation
        answers = await self._inbox.ask([request_of(message) for message in batch])
        for index, answer in answers:
            self._settle(batch[index], ack_of(answer))
        if len(answers) < len(batch):
            await self._recover()

    def _settle(self, message: Outgoing, reply: Ack) -> None:
        error = reply.error
        if error is None:
            message.confirm(Confirmation(reply.stream, reply.seq, reply.duplicate))
        elif error.code == 503 and not error.err_code:  # noqa: PLR2004  (no responders)
            self._without_stream(message)
        elif error.code < 500 or error.err_code in STREAM_FULL:  # noqa: PLR2004  (as in HTTP)
            message.fail(refusal(message, reply, error))

    def _without_stream(self, message: Outgoing) -> None:
        present = asyncio.get_running_loop().time()
        if message.refused_since is None:
            message.refused_since = present
        if present - message.refused_since >= _NO_STREAM_SECONDS:
            message.fail(
                PublishRefused(
                    f"no stream takes {message.subject!r}: create it with `penstock provision`, "
                    "or correct the event's type"
                )
            )

    async def _recover(self) -> None:
        """After silence, reconnect if the reading task has died: such a connection looks alive."""
        if self._nc.is_connected and not reads(self._nc):
            await revive(self._nc)

    def _fail_all(self, error: PenstockError) -> None:
        for batch in self._in_flight.values():
            for message in batch:
                message.fail(error)
        for queue in self._queues.values():
            for message in queue.empty():
                message.fail(error)

    def _listen_for_denials(self) -> None:
        """Watch the connection's error handler, the only place where denials are reported."""
        report = self._nc._error_cb  # noqa: SLF001  (nats-py takes it at connect alone)

        async def listen(error: Exception) -> None:
            found = _denied(str(error))
            if found:
                self._deny(found[1])
            found = _deafened(str(error))
            if found and self._inbox.hears(found[1]):
                self._deaf = self._nc.stats["reconnects"]
                self._inbox.interrupt()
            await report(error)

        self._nc._error_cb = listen  # noqa: SLF001

    def _deny(self, subject: str) -> None:
        for batch in self._in_flight.values():
            for message in batch:
                if message.subject.lower() == subject.lower():
                    text = f"not allowed to publish on {message.subject!r}: grant this permission"
                    message.fail(PublishRefused(text))
        self._inbox.interrupt()


def _unsettled(batch: Sequence[Outgoing]) -> list[Outgoing]:
    return [message for message in batch if not message.confirmed.done()]


def _refuse_all(batch: Sequence[Outgoing], why: str) -> None:
    for message in batch:
        message.fail(PublishRefused(f"{message.subject!r}: {why}"))


def _confirm_all(batch: Sequence[Outgoing], reply: Ack) -> None:
    first = reply.seq - len(batch) + 1
    for sequence, message in enumerate(batch, first):
        message.confirm(Confirmation(reply.stream, sequence))
