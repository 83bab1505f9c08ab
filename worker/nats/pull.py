"""Pull requests, one at a time per inbox, so that it is known exactly what each may still deliver.

The requests and their answers: nats-architecture-and-design, ADR-13.
"""

import asyncio
import contextlib
from collections.abc import Callable
from enum import Enum

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from penstock.worker.nats.wire import BatchParser, Frame, send, size_of
from penstock.worker.pipeline.budget import Share

_LIFE_SECONDS = 2.0
_PAUSE_SECONDS = 0.25
_QUIET_SECONDS = 0.1


class PullPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to request: ``subject``, messages and bytes per request. In ``heartbeat`` seconds there
    must be a sign of life.
    """

    subject: str
    messages: int
    bytes: int
    heartbeat: float

    @property
    def expires(self) -> float:
        """How many seconds a request lives. Its end is the sign of life, and a worker that stops
        waits for it.
        """
        return min(_LIFE_SECONDS, self.heartbeat)


class Verdict(Enum):
    """What a status of the server means for a request."""

    ALIVE = "nothing to do"
    ENDED = "ask again"
    PAUSED = "ask again a little later"
    GONE = "look whether the consumer is still there"
    REFUSED = "this request will never be served"


_DESCRIBED = (
    (b"consumer deleted", Verdict.GONE),
    (b"batch completed", Verdict.ENDED),
    (b"message size exceeds maxbytes", Verdict.ENDED),
    (b"exceeded maxrequest", Verdict.REFUSED),
    (b"push based", Verdict.REFUSED),
)
_CODES = {
    b"100": Verdict.ALIVE,
    b"400": Verdict.REFUSED,
    b"404": Verdict.ENDED,
    b"408": Verdict.ENDED,
    b"503": Verdict.GONE,
}


def verdict_of(header: bytes | None) -> tuple[Verdict, str]:
    """The verdict for a status line, such as ``NATS/1.0 409 Consumer Deleted``, and its text."""
    line = (header or b"").partition(b"\r\n")[0]
    code, description = line[9:12], line[12:].strip().lower()
    for text, verdict in _DESCRIBED:
        if code == b"409" and text in description:
            return verdict, line.decode("utf-8", "replace")
    # Leadership change, server shutdown, too many waiting or unacknowledged, and unknown ones.
    return _CODES.get(code, Verdict.PAUSED), line.decode("utf-8", "replace")


class Pull:
    """One inbox. ``messages`` and ``bytes`` say what may still arrive."""

    def __init__(self, nc: Client, plan: PullPlan, subscription: Subscription) -> None:
        self.messages = 0
        self.bytes = 0
        self._nc = nc
        self._plan = plan
        self._subscription = subscription
        self._deadline = 0.0
        self._delivered = False
        self._limited = True

    @classmethod
    async def on_new_inbox(
        cls,
        nc: Client,
        plan: PullPlan,
        receiver: Callable[["Pull", list[Frame]], None],
    ) -> "Pull":
        """Subscribe to a new inbox; ``receiver`` gets what arrives."""
        subscription = await nc.subscribe(nc.new_inbox())
        pull = cls(nc, plan, subscription)
        BatchParser.of(nc).register(subscription._id, lambda frames: receiver(pull, frames))  # noqa: SLF001
        return pull

    @property
    def open(self) -> bool:
        """True while the server owes messages or a final status."""
        return self.messages > 0

    @property
    def flowing(self) -> bool:
        """True while a request is open that has brought messages."""
        return self.open and self._delivered

    def ask(self, now: float) -> None:
        """Send a request. After a message that was too large: for one message of any size."""
        plan = self._plan
        self.messages, self.bytes = plan.messages if self._limited else 1, plan.bytes
        self._deadline = now + plan.expires + 2 * plan.heartbeat
        self._delivered = False
        request = {
            "batch": self.messages,
            "expires": int(plan.expires * 1e9),
        }
        if self._limited:
            request["max_bytes"] = plan.bytes
        self._limited = True
        body = msgspec.json.encode(request)
        line = f"PUB {plan.subject} {self._subscription.subject} {len(body)}\r\n"
        send(self._nc, line.encode() + body + b"\r\n")

    def received(self, frames: list[Frame]) -> tuple[list[Frame], int, list[bytes | None]]:
        """Split frames into messages, their total bytes, and the header blocks of statuses.

        A message of the stream always has a reply subject, whatever its headers; a status has none.
        """
        delivered = [frame for frame in frames if frame[1]]
        statuses = [frame[2] for frame in frames if not frame[1]]
        size = size_of(delivered)
        if delivered:
            self._delivered = True
            self.messages = max(0, self.messages - len(delivered))
            self.bytes = max(0, self.bytes - size) if self.messages else 0
        return delivered, size, statuses

    def judge(self, header: bytes | None) -> tuple[Verdict, str]:
        """Process a status, and return what it means."""
        verdict, text = verdict_of(header)
        if verdict is not Verdict.ALIVE:
            self._limited = self._delivered or "MaxBytes" not in text
            self.end()
        return verdict, text

    def end(self) -> None:
        """The request is over: nothing more will arrive for it."""
        self.messages = self.bytes = 0

    def overdue(self, now: float) -> bool:
        """True if the server should have ended the request long ago, and so has forgotten it."""
        return self.open and now > self._deadline

    async def stop_deliveries(self) -> None:
        """Unsubscribe; what is on its way is still received. Idempotent."""
        if self._subscription._id in self._nc._subs:  # noqa: SLF001
            with contextlib.suppress(nats.errors.Error):
                await self._subscription.unsubscribe()

    def forget(self) -> None:
        """Receive no more. Idempotent."""
        self.end()
        BatchParser.of(self._nc).unregister(self._subscription._id)  # noqa: SLF001


class Pulls:
    """The requests of one source: up to ``count`` at a time, on inboxes of one generation.

    What they may still deliver counts against ``share``.
    """

    def __init__(
        self,
        nc: Client,
        plan: PullPlan,
        count: int,
        receiver: Callable[[Pull, list[Frame]], None],
        share: Share,
    ) -> None:
        self._nc = nc
        self._plan = plan
        self._count = count
        self._receiver = receiver
        self._share = share
        self._pulls: list[Pull] = []
        self._paused_until = 0.0

    async def begin(self) -> None:
        """Begin a generation; nothing is requested yet."""
        await self.drop()
        for _ in range(self._count):
            self._pulls.append(await Pull.on_new_inbox(self._nc, self._plan, self._receiver))

    @property
    def owed(self) -> int:
        """Messages that the server may still send. While there are any, it says so when their time
        is over.
        """
        return sum([pull.messages for pull in self._pulls])

    @property
    def _owed_bytes(self) -> int:
        return sum([pull.bytes for pull in self._pulls])

    def ask(self, waiting: int, waiting_bytes: int) -> None:
        """Keep as many requests open as there is room for, given what is waiting already.

        All together never exceed ``count`` times the messages and bytes of a request. An idle
        stream keeps only one request open, because what is requested counts as used memory.
        """
        self._share.ask(self._owed_bytes)
        now = asyncio.get_running_loop().time()
        if now < self._paused_until:
            return
        plan, ahead = self._plan, self._count - 1
        for pull in self._pulls:
            messages, size = waiting + self.owed, waiting_bytes + self._owed_bytes
            if messages > ahead * plan.messages or size > ahead * plan.bytes:
                return
            if not pull.open:
                idle = not waiting and messages >= plan.messages
                if idle or not self._share.allows(plan.bytes):
                    return
                pull.ask(now)
                self._share.ask(self._owed_bytes)

    def pause(self, then: Callable[[], None]) -> None:
        """Request nothing for a moment, then call ``then``."""
        loop = asyncio.get_running_loop()
        self._paused_until = loop.time() + _PAUSE_SECONDS
        loop.call_at(self._paused_until + 0.001, then)

    def give_up_overdue(self) -> None:
        """End the requests that the server has forgotten."""
        now = asyncio.get_running_loop().time()
        for pull in self._pulls:
            if pull.overdue(now):
                pull.end()

    async def run_out(self) -> None:
        """While messages flow, let the requests end by themselves. What the server has picked for a
        request just before its inbox goes reaches nobody, and it sends that once more. Messages may
        pause: only requests that have brought nothing are left open.
        """
        clock = asyncio.get_running_loop().time
        over, owed = clock() + 2 * self._plan.expires, -1
        while self.owed and clock() < over:
            if self.owed == owed and not any(pull.flowing for pull in self._pulls):
                break
            owed = self.owed
            await asyncio.sleep(_QUIET_SECONDS)

    async def stop_deliveries(self) -> None:
        """Unsubscribe; what is on its way is still received."""
        for pull in self._pulls:
            await pull.stop_deliveries()

    async def drop(self) -> None:
        """End the generation. Idempotent."""
        while self._pulls:
            pull = self._pulls.pop()
            await pull.stop_deliveries()
            pull.forget()
            self._share.ask(self._owed_bytes)
