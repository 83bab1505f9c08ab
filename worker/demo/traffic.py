"""Publishes the events of simulated agents, some of them twice and some of them broken."""

import asyncio
from collections import deque
from collections.abc import Sequence

import msgspec

from penstock.worker.demo.agents import Crowd, Said, broken
from penstock.worker.publisher import Attributes, Confirmation, Publisher, encode, subject_of, uuid7
from penstock.worker.publisher.encoding import now

_TICK_SECONDS = 0.02
_TWICE = 100
"""Every Nth event is sent again, in a way that the streams' own check for duplicates misses."""
_ON_ALL = 5
"""Every Nth event goes over all brokers at once."""
_BROKEN = 150
"""Every Nth event is followed by a broken one."""
_LATER_SECONDS = 1.0


class Sent(msgspec.Struct):
    """What was published so far. ``confirmed`` messages are stored in the streams, each separately.

    ``twice`` and ``broken`` count those that are meant to become duplicates and dead letters;
    ``unlogged`` those of the seed that leave no row of their own behind.
    """

    confirmed: int = 0
    twice: int = 0
    broken: int = 0
    unlogged: int = 0
    failures: list[str] = []

    def settled(self, done: asyncio.Future[Confirmation]) -> None:
        """Count a confirmation, or keep what went wrong."""
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self.failures.append(str(error))
        elif not done.cancelled() and not done.result().duplicate:
            self.confirmed += 1


class Traffic:
    """Publishes ``rate`` events of a crowd per second, evenly; counts them in ``sent``.

    ``buses`` take turns. If there are several, some events go over all of them, as from agents that
    do not rely on a single broker.
    """

    def __init__(self, buses: Sequence[Publisher], crowd: Crowd, rate: float) -> None:
        self.buses = buses
        self._crowd = crowd
        self._rate = rate
        self._again: deque[tuple[float, Publisher, Said, Attributes]] = deque()
        self.sent = Sent()

    async def run(self, seconds: float) -> None:
        """Publish for ``seconds``, then send the remaining repetitions, and wait for all."""
        loop = asyncio.get_running_loop()
        begun, said = loop.time(), 0
        while (elapsed := loop.time() - begun) < seconds:
            while said < elapsed * self._rate:
                said += 1
                await self._say(said)
            await self._repeat(loop.time())
            await asyncio.sleep(_TICK_SECONDS)
        await self._repeat(float("inf"))
        for bus in self.buses:
            await bus.flush()

    async def _say(self, number: int) -> None:
        said = self._crowd.next()
        attributes = Attributes(
            id=uuid7(),
            time=said.time or now(),
            source=f"/agents/{said.agent}",
            sequence=said.sequence,
            actor=said.agent,
        )
        for bus in self._carriers(number):
            sent = await bus.publish_soon(said.event, **attributes)
            sent.add_done_callback(self.sent.settled)
        if number % _TWICE == 0:
            due = asyncio.get_running_loop().time() + _LATER_SECONDS
            self._again.append((due, self._bus(number // _TWICE), said, attributes))
        if number % _BROKEN == 0:
            subject, body = broken(number // _BROKEN)
            self.sent.broken += 1
            await self._send(self._bus(number // _BROKEN), subject, body, uuid7())

    def _carriers(self, number: int) -> Sequence[Publisher]:
        if number % _ON_ALL:
            return [self._bus(number)]
        self.sent.twice += len(self.buses) - 1
        return self.buses

    def _bus(self, number: int) -> Publisher:
        return self.buses[number % len(self.buses)]

    async def _repeat(self, present: float) -> None:
        """Send again what is due, under a Nats-Msg-Id that the stream does not know."""
        while self._again and self._again[0][0] <= present:
            _, bus, said, attributes = self._again.popleft()
            body = encode(said.event, **attributes)
            self.sent.twice += 1
            await self._send(bus, subject_of(said.event), body, f"again-{attributes['id']}")

    async def _send(self, bus: Publisher, subject: str, body: bytes, msg_id: str) -> None:
        (await bus.send(subject, body, msg_id)).add_done_callback(self.sent.settled)
