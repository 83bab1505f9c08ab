"""Requests whose answers come as one message, as one per request, or as a run of messages.

nats-py's ``request`` takes one answer for one request, and much longer for it. The bucket needs a
thousand answers in flight together, and answers of a thousand messages.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from penstock.worker.nats.wire import BatchParser, Frame, publish, send

Heard = TypeVar("Heard")


class Request(msgspec.Struct, frozen=True):
    """A message to send; ``header`` is a whole block. Unless ``answered`` no reply is asked for."""

    subject: str
    payload: bytes
    header: bytes = b""
    answered: bool = True


class Call(Generic[Heard]):
    """Gathers answers until there are ``limit``, or one is the ``last``."""

    def __init__(self, limit: int, last: Callable[[Heard], bool]) -> None:
        self.answers: list[tuple[int, Heard]] = []
        self.done = asyncio.Event()
        self._limit = limit
        self._last = last

    def take(self, index: int, answer: Heard) -> None:
        """Keep the answer to request number ``index``."""
        self.answers.append((index, answer))
        if len(self.answers) == self._limit or self._last(answer):
            self.done.set()


def _never(_answer: Frame) -> bool:
    return False


class Replies:
    """One wildcard inbox for all requests of its owner. Opens itself; `close` is idempotent."""

    def __init__(self, nc: Client, timeout: float) -> None:
        self._nc = nc
        self._timeout = timeout
        self._inbox = nc.new_inbox()
        self._calls: dict[bytes, Call[Frame]] = {}
        self._made = 0
        self._subscription: Subscription | None = None

    async def close(self) -> None:
        """Stop listening."""
        if self._subscription is not None and not self._nc.is_closed:
            BatchParser.of(self._nc).unregister(self._subscription._id)  # noqa: SLF001
            await self._subscription.unsubscribe()
        self._subscription = None

    async def ask(
        self, requests: Sequence[Request], limit: int, last: Callable[[Frame], bool] = _never
    ) -> list[tuple[int, Frame]]:
        """Send all requests and return their answers, each with the number of its request.

        Ends with ``limit`` answers, with the ``last``, or with those that came within the time-out.
        Raises the client's errors.
        """
        await self._open()
        self._made += 1
        name = f"{self._made:x}"
        call = self._calls[name.encode()] = Call(limit, last)
        reply = f"{self._inbox}.{name}-"
        commands = [
            publish(r.subject, f"{reply}{index}" if r.answered else "", r.header, r.payload)
            for index, r in enumerate(requests)
        ]
        try:
            send(self._nc, b"".join(commands))
            await asyncio.wait_for(call.done.wait(), self._timeout)
        except TimeoutError:
            pass
        finally:
            del self._calls[name.encode()]
        return call.answers

    async def _open(self) -> None:
        if self._nc.is_closed:
            raise nats.errors.ConnectionClosedError
        if self._subscription is None:
            self._subscription = await self._nc.subscribe(f"{self._inbox}.*")
            BatchParser.of(self._nc).register(self._subscription._id, self._receive)  # noqa: SLF001

    def _receive(self, frames: list[Frame]) -> None:
        for frame in frames:
            name, _, index = frame[0].rpartition(b".")[2].partition(b"-")
            call = self._calls.get(name)
            if call is not None:  # else its caller has given up
                call.take(int(index), frame)
