"""Events published all the time, and what became of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from penstock.schemas.event import EventData
from penstock.schemas.tasks import TaskUpdated
from penstock.schemas.vocabulary import TaskStatus
from penstock.worker.publisher import Publisher
from penstock.worker.publisher.encoding import uuid7
from tests.support.connecting import connected
from tests.support.waiting import until

STREAM = "TASK_EXECUTION"
EVENT = TaskUpdated(task_id="t-1", status=TaskStatus.RUNNING)


@asynccontextmanager
async def traffic(nats_url: str, event: EventData = EVENT) -> AsyncIterator[set[str]]:
    """Publishes all the time; what was confirmed is in the set. Ends with everything confirmed."""
    confirmed = set[str]()
    over = asyncio.Event()

    async def publish() -> None:
        async with Publisher(nats_url, source="/tests") as bus:
            while not over.is_set():
                ids = [uuid7() for _ in range(20)]
                await asyncio.gather(*(bus.publish(event, id=chosen) for chosen in ids))
                confirmed.update(ids)

    task = asyncio.create_task(publish())
    try:
        yield confirmed
    finally:
        over.set()
        await task


async def stored(database: str) -> list[str]:
    connection = await asyncpg.connect(database)
    try:
        rows = await connection.fetch("SELECT event_id::text FROM events.log")
    finally:
        await connection.close()
    return [found for (found,) in rows]


async def grown(database: str, by: int) -> None:
    """Wait for ``by`` events more."""
    before = len(await stored(database))

    async def more() -> bool:
        return len(await stored(database)) >= before + by

    await until(more)


async def all_of(database: str, confirmed: set[str]) -> None:
    async def there() -> bool:
        return confirmed <= set(await stored(database))

    await until(there)
    found = await stored(database)
    assert len(found) == len(set(found)) == len(confirmed)


async def hardly_any_again(nats_url: str, count: int, stops: int) -> None:
    """Fail if more than a few of ``count`` messages were delivered again for ``stops`` workers.

    What the server has just picked for a request that ends reaches nobody, and it picks it again.
    """
    async with connected(nats_url) as client:
        info = await client.jetstream().consumer_info(STREAM, "penstock")
        assert info.delivered is not None
        assert info.delivered.stream_seq == count
        again = info.delivered.consumer_seq - count
        assert again <= 5 * stops, f"{again} of {count} messages were delivered again"
