"""Events published all the time, and what became of them."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from nats.aio.msg import Msg

from penstock.schemas.event import EventData
from penstock.schemas.tasks import TaskUpdated
from penstock.schemas.vocabulary import TaskStatus
from penstock.worker.nats.message import places
from penstock.worker.publisher import Publisher
from penstock.worker.publisher.encoding import uuid7
from tests.support.connecting import connected, connection_to
from tests.support.waiting import until

STREAM = "TASK_EXECUTION"
_APART_SECONDS = 0.05
EVENT = TaskUpdated(task_id="t-1", status=TaskStatus.RUNNING)


@asynccontextmanager
async def traffic(nats_url: str, event: EventData = EVENT) -> AsyncIterator[set[str]]:
    """Publishes all the time, at most 400 events a second: the machine has other work too.

    What was confirmed is in the set. Ends with everything confirmed.
    """
    confirmed = set[str]()
    over = asyncio.Event()

    async def publish() -> None:
        async with Publisher(nats_url, source="/tests") as bus:
            while not over.is_set():
                ids = [uuid7() for _ in range(20)]
                await asyncio.gather(*(bus.publish(event, id=chosen) for chosen in ids))
                confirmed.update(ids)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), _APART_SECONDS)

    task = asyncio.create_task(publish())
    try:
        yield confirmed
    finally:
        over.set()
        await task


async def grown(database: str, by: int) -> None:
    """Wait for ``by`` events more."""
    async with connection_to(database) as connection:
        before = await count_of(connection)

        async def more() -> bool:
            return await count_of(connection) >= before + by

        await until(more)


async def all_of(database: str, confirmed: set[str]) -> None:
    """Wait until ``confirmed`` is stored; fail if anything is there twice, or more than that."""
    async with connection_to(database) as connection:

        async def there() -> bool:
            return await count_of(connection) >= len(confirmed)

        await until(there)
    assert Counter(await stored(database)) == Counter(confirmed)


async def stored(database: str) -> list[str]:
    """The ids of everything in the history."""
    async with connection_to(database) as connection:
        rows = await connection.fetch("SELECT event_id::text FROM events.log")
    return [found for (found,) in rows]


async def count_of(connection: asyncpg.Connection) -> int:
    found: int = await connection.fetchval("SELECT count(*) FROM events.log")
    return found


@asynccontextmanager
async def settlements(nats_url: str) -> AsyncIterator["Settlements"]:
    """Hears what workers tell the server from now on about each message of the stream."""
    async with connected(nats_url) as client:
        heard = Settlements()
        subject = f"$JS.ACK.{STREAM}.>"
        await client.subscribe(
            subject, cb=heard.take, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        await client.flush()
        yield heard


class Settlements:
    """What became of every message that reached a worker, by its place in the stream."""

    def __init__(self) -> None:
        self._stored = Counter[int]()
        self._returned = Counter[int]()

    async def take(self, told: Msg) -> None:
        _, [offset] = places([told.subject.encode()])
        if told.data == b"+ACK":
            self._stored[offset] += 1
        elif told.data.startswith(b"-"):
            self._returned[offset] += 1

    async def each_once(self, count: int) -> None:
        """Wait until all of ``count`` messages are stored: each by one worker and by that worker
        once, and none was returned by another.

        For workers with an ack wait that is longer than a test: what one had taken along would not
        come again in time.
        """
        await until(lambda: len(self._stored) == count)
        assert set(self._stored.values()) == {1}
        assert not self._returned


LONG = "600s"
"""An ack wait after which no test still runs."""
