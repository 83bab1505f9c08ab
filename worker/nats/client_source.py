"""The client path for JetStream: nats-py's own ``fetch`` and ``ack``. A fallback, slow but simple.

Its known weaknesses:

- it costs several times the CPU per message;
- a message with a header ``Status:`` is taken for a status of the server. It is skipped,
  redelivered after the ack wait, and skipped again; messages that were fetched with it may wait as
  long;
- nats-py's parser takes a vertical tab or a form feed in a subject, which are legal, for the end of
  a word, and a subject that is not UTF-8 ends its reading: it reconnects until such a message is
  deleted from the stream;
- a fetch cannot be limited by bytes. It is handed out in parts, and no fetch begins while the
  stream's share of the memory is used up;
- a fetch in progress delays stopping by up to a second.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from penstock.worker.errors import SourceUnavailable
from penstock.worker.nats.api import Consumer, Epochs
from penstock.worker.nats.connection import revive
from penstock.worker.nats.headers import attributes_of
from penstock.worker.nats.message import LETTER_HEADER, JetStreamMessage, places
from penstock.worker.nats.options import ReadingOptions
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.budget import Share
from penstock.worker.pipeline.decode.spellings import attribute_of
from penstock.worker.pipeline.intake import Intake
from penstock.worker.pipeline.ports import NO_HEADERS, Backlog, Message
from penstock.worker.wording import why

log = structlog.get_logger()

_POLL_SECONDS = 1.0
_LEAST_SECONDS = 0.01
_PAUSE_SECONDS = 0.25


_CHANGING = ("content-type", LETTER_HEADER.lower())


class ClientMessage(JetStreamMessage, kw_only=True):
    """Keeps nats-py's message, which knows how to settle itself."""

    delivery: Msg

    @property
    def headers(self) -> Mapping[str, str]:
        return self.delivery.headers or NO_HEADERS

    @property
    def raw_headers(self) -> bytes:
        """As far as nats-py tells: without blanks at the ends, and of equal names the last."""
        lines = [f"{name}: {value}\r\n" for name, value in self.headers.items()]
        return f"NATS/1.0\r\n{''.join(lines)}\r\n".encode() if lines else b""

    @property
    def attributes(self) -> Mapping[str, str]:
        return attributes_of(
            (name.encode(), value.encode()) for name, value in self.headers.items()
        )

    @classmethod
    def of(cls, delivery: Msg) -> Self:
        """Wrap one delivery."""
        names = [name.lower() for name in delivery.headers or ()]
        changed = any(name in _CHANGING or attribute_of(name) for name in names)
        reply = delivery.reply.encode()
        [deliveries], [offset] = places([reply])
        return cls(
            subject=delivery.subject,
            body=delivery.data,
            plain=not changed,
            reply=reply,
            deliveries=deliveries,
            offset=offset,
            delivery=delivery,
        )


class ClientJetStreamSource:
    """A durable pull consumer, as `nats.source.JetStreamSource`, read by nats-py."""

    transport = "nats"

    def __init__(
        self, nc: Client, stream: str, reading: ReadingOptions, share: Share | None = None
    ) -> None:
        self.name = stream
        self._nc = nc
        self._reading = reading
        self._consumer = Consumer(nc, stream, reading.durable)
        self._intake: Intake[JetStreamMessage] = Intake(
            batch_size=reading.batch_size,
            batch_bytes=reading.batch_bytes,
            linger=0.0,
            share=share,
        )
        self._taken = asyncio.Event()
        self._intake.share.wake = self._taken.set
        self._handed_out: dict[bytes, ClientMessage] = {}
        self._epochs: Epochs | None = None
        self._answered = 0.0
        self._subscription: Any = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def healthy(self) -> bool:
        here = self._nc.is_connected and self._intake.failure is None and not self._quiet
        return here and self._consumer.lacking is None

    async def __aenter__(self) -> Self:
        await self._check()
        self._subscription = await self._nc.jetstream().pull_subscribe_bind(
            durable=self._consumer.durable, stream=self.name
        )
        self._tasks = [
            asyncio.create_task(self._collect(), name=f"fetch-{self.name}"),
            asyncio.create_task(self._extend(), name=f"extend-{self.name}"),
        ]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.stop()
        collecting, extending = self._tasks
        extending.cancel()
        await asyncio.wait({collecting, extending}, timeout=2 * _POLL_SECONDS)
        collecting.cancel()
        await asyncio.wait({collecting})
        with contextlib.suppress(nats.errors.Error, SourceUnavailable):
            await self._subscription.unsubscribe()
            self._hand_out(self._intake.drain())
            for delivery in self._settled(list(self._handed_out.values())):
                await delivery.nak()
            await self._consumer.info()

    def stop(self) -> None:
        self._intake.stop()
        self._taken.set()

    async def fetch(self) -> Batch:
        messages, size = await self._intake.batch()
        if self._intake.stopped and not messages:
            await asyncio.wait(self._tasks[:1])  # a fetch in progress
            messages, size = self._intake.rest()
        self._hand_out(messages)
        self._taken.set()
        epoch = self._epochs.stream if self._epochs else ""
        return Batch(messages, size, self, epoch=epoch)

    async def ack(self, batch: Batch) -> None:
        self._intake.settled(len(batch), batch.size)
        for delivery in self._settled(batch.messages):
            with contextlib.suppress(nats.errors.Error):
                await delivery.ack()

    async def nack(self, batch: Batch, delay: float) -> None:
        self._intake.settled(len(batch), batch.size)
        for delivery in self._settled(batch.messages):
            with contextlib.suppress(nats.errors.Error):
                await delivery.nak(delay or None)

    def _settled(self, messages: Sequence[Message]) -> list[Msg]:
        """Remove these from those handed out; messages of an older epoch are ignored."""
        out = self._handed_out
        replies = [m.reply for m in messages if isinstance(m, ClientMessage) and m.reply in out]
        return [out.pop(reply).delivery for reply in replies]

    async def backlog(self) -> Backlog:
        return await self._consumer.backlog()

    def _hand_out(self, messages: Sequence[Message]) -> None:
        self._handed_out |= {m.reply: m for m in messages if isinstance(m, ClientMessage)}

    async def _check(self) -> None:
        """Learn the current epochs. Raises SourceUnavailable."""
        epochs = await self._consumer.epochs()
        if self._epochs not in {None, epochs}:
            log.warning("stream_recreated", source=self.name, dropped=len(self._intake))
            self._intake.drain()
            self._handed_out.clear()
        self._epochs = epochs
        self._intake.fail(None)
        self._heard()

    def _heard(self) -> None:
        self._answered = asyncio.get_running_loop().time()

    @property
    def _quiet(self) -> bool:
        silence = asyncio.get_running_loop().time() - self._answered
        return silence >= 2 * self._reading.heartbeat + _POLL_SECONDS

    async def _collect(self) -> None:
        """Fetch a batch whenever the previous one has been taken."""
        reconnects = self._nc.stats["reconnects"]
        while not self._intake.stopped:
            try:
                if reconnects != self._nc.stats["reconnects"] or self._intake.failure:
                    reconnects = self._nc.stats["reconnects"]
                    await self._check()
                deliveries = await self._fetch()
            except (SourceUnavailable, nats.errors.Error, OSError) as exc:
                self._intake.fail(SourceUnavailable(f"{self.name}: {why(exc)}"))
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            if self._quiet:
                log.warning("source_silent", source=self.name)
                await revive(self._nc)
                self._heard()
            if deliveries:
                messages = [ClientMessage.of(delivery) for delivery in deliveries]
                self._intake.add(messages, sum(message.size for message in messages))
            await self._room()
            if deliveries:
                self._heard()

    async def _room(self) -> None:
        """Wait until everything has been taken and there is memory for more."""
        intake = self._intake
        while not intake.stopped and (intake or not intake.share.allows(intake.batch_bytes)):
            self._taken.clear()
            await self._taken.wait()

    async def _fetch(self) -> list[Msg]:
        """One message within the poll time, then more within the linger. May be empty."""
        deliveries = await self._ask(1, _POLL_SECONDS)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + max(self._reading.linger, _LEAST_SECONDS)
        while deliveries and (lacking := self._reading.batch_size - len(deliveries)) > 0:
            if (left := deadline - loop.time()) < _LEAST_SECONDS / 2:
                break
            try:
                deliveries += await self._ask(lacking, left)
            except (nats.errors.Error, OSError) as exc:
                log.warning("fetch_interrupted", source=self.name, error=why(exc))
                break
        return deliveries

    async def _ask(self, count: int, seconds: float) -> list[Msg]:
        heartbeat = seconds / 4 if seconds >= _POLL_SECONDS else None
        try:
            found: list[Msg] = await self._subscription.fetch(
                count, timeout=seconds, heartbeat=heartbeat
            )
        except nats.js.errors.FetchTimeoutError:  # nothing but heartbeats
            self._heard()
            return []
        except TimeoutError:
            return []
        except KeyError as exc:
            log.warning("fetch_interrupted", source=self.name, status=str(exc))
            return []
        self._heard()
        return found

    async def _extend(self) -> None:
        """Tell the server at every third of the ack wait that messages are in progress."""
        while True:
            await asyncio.sleep(self._reading.ack_wait / 3)
            with contextlib.suppress(nats.errors.Error):
                for message in list(self._handed_out.values()):
                    await message.delivery.in_progress()
