"""Requests whose answers come as one message, as one per request, or as a run of messages.

nats-py's ``request`` takes one answer for one request. The bucket needs a thousand answers in
flight together, and answers of a thousand messages.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription


class Request(msgspec.Struct, frozen=True):
    """One message to send. Without ``answered`` no reply is asked for."""

    subject: str
    payload: bytes
    headers: dict[str, str] | None = None
    answered: bool = True


class Call:
    """Gathers answers until there are ``limit``, or one is the ``last``."""

    def __init__(self, limit: int, last: Callable[[Msg], bool]) -> None:
        self.answers: list[tuple[int, Msg]] = []
        self.done = asyncio.Event()
        self._limit = limit
        self._last = last

    def take(self, index: int, message: Msg) -> None:
        """Keep the answer to request number ``index``."""
        self.answers.append((index, message))
        if len(self.answers) == self._limit or self._last(message):
            self.done.set()


def _never(_message: Msg) -> bool:
    return False


class Replies:
    """One wildcard inbox for all requests of its owner. Opens itself; `close` is idempotent."""

    def __init__(self, nc: Client, timeout: float) -> None:
        self._nc = nc
        self._timeout = timeout
        self._inbox = nc.new_inbox()
        self._calls: dict[str, Call] = {}
        self._made = 0
        self._subscription: Subscription | None = None

    async def close(self) -> None:
        """Stop listening."""
        if self._subscription is not None and not self._nc.is_closed:
            await self._subscription.unsubscribe()
        self._subscription = None

    async def ask(
        self, requests: Sequence[Request], limit: int, last: Callable[[Msg], bool] = _never
    ) -> list[tuple[int, Msg]]:
        """Send all requests and return their answers, each with the number of its request.

        Ends with ``limit`` answers, with the ``last``, or with those that came within the time-out.
        Raises the client's errors.
        """
        if self._subscription is None:
            self._subscription = await self._nc.subscribe(f"{self._inbox}.*", cb=self._receive)
        self._made += 1
        name = str(self._made)
        call = self._calls[name] = Call(limit, last)
        try:
            await self._send(requests, f"{self._inbox}.{name}-")
            await asyncio.wait_for(call.done.wait(), self._timeout)
        except TimeoutError:
            pass
        finally:
            del self._calls[name]
        return call.answers

    async def _send(self, requests: Sequence[Request], prefix: str) -> None:
        # The client swallows a cancellation while it waits for its socket, so a time-out around
        # this loop would be lost; a deadline of its own is not.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        for index, request in enumerate(requests):
            reply = f"{prefix}{index}" if request.answered else ""
            await self._nc.publish(
                request.subject, request.payload, reply=reply, headers=request.headers
            )
            if loop.time() > deadline:
                raise TimeoutError

    async def _receive(self, message: Msg) -> None:
        name, _, index = message.subject.rpartition(".")[2].partition("-")
        call = self._calls.get(name)
        if call is not None:  # else its caller has given up
            call.take(int(index), message)
