"""The end of a month, by a clock of the servers' own, while events flow."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec

from penstock.schemas import AgentHeartbeat
from penstock.schemas.tasks import TaskUpdated
from penstock.schemas.vocabulary import TaskStatus
from penstock.worker.publisher import Publisher
from tests.support.waiting import until

SECONDS_AFTER = 10.0

_NONE_AHEAD = """
UPDATE partitions.policy SET premake = 0;
DO $$ DECLARE relation regclass; BEGIN
    FOR relation IN SELECT l.relation FROM partitions.life AS l WHERE l.lower_bound > now() LOOP
        EXECUTE format('DROP TABLE %s', relation);
    END LOOP;
END $$
"""
_HISTORIES = ("agents.heartbeat", "events.log")
_FOUND = """
SELECT count(*) FILTER (WHERE occurred_at < $1), count(*) FILTER (WHERE occurred_at >= $1),
       max(extract(epoch FROM recorded_at - occurred_at))::float8
FROM {}
"""


class Turned(msgspec.Struct, frozen=True, kw_only=True):
    """Events ``before`` and ``after`` the end of the month, for how many seconds one of them waited
    at most, and how many partitions were made for them.
    """

    before: int
    after: int
    longest: float
    made: int


def ends_in(seconds: float) -> tuple[datetime, timedelta]:
    """The end of this month, and by how much a clock is ahead that reaches it in ``seconds``."""
    now = datetime.now(UTC)
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    end = (first + timedelta(days=32)).replace(day=1)
    return end, end - timedelta(seconds=seconds) - now


async def none_ahead(connection: asyncpg.Connection) -> None:
    """Of every table only the partition of the present is there."""
    await connection.execute(_NONE_AHEAD)


async def turn_over(
    connection: asyncpg.Connection, url: str, *, end: datetime, ahead: timedelta, rate: int
) -> Turned:
    """Publish, beside a worker that runs, until the month has been over for a while. Nothing may be
    lost.
    """
    assert datetime.now(UTC) + ahead < end, "the servers came too late"
    partitions = await _partitions(connection)
    count = await _publish(url, until=end + timedelta(seconds=SECONDS_AFTER), lead=ahead, rate=rate)
    before, after, longest = 0, 0, 0.0

    async def stored() -> bool:
        nonlocal before, after, longest
        found = [await connection.fetchrow(_FOUND.format(name), end) for name in _HISTORIES]
        earlier, later, waited = zip(*found, strict=True)
        before, after, longest = sum(earlier), sum(later), max(waited)
        assert before + after == count
        return True

    await until(stored)
    assert await connection.fetchval("SELECT count(*) FROM bus.dead_letter") == 0
    made = await _partitions(connection) - partitions
    return Turned(before=before, after=after, longest=longest, made=made)


async def _partitions(connection: asyncpg.Connection) -> int:
    found: int = await connection.fetchval("SELECT count(*) FROM partitions.life")
    return found


async def _publish(url: str, *, until: datetime, lead: timedelta, rate: int) -> int:
    """Heartbeats, which go by the day, and now and then what goes by the month."""
    loop = asyncio.get_running_loop()
    began, number = loop.time(), 0
    async with Publisher(url, source="/tests") as bus:
        while (now := datetime.now(UTC) + lead) < until:
            await asyncio.sleep(began + number / rate - loop.time())
            if number % 10:
                await bus.publish_soon(AgentHeartbeat(agent_id=f"a-{number % 50}"), time=now)
            else:
                task = TaskUpdated(task_id=f"t-{number % 50}", status=TaskStatus.RUNNING)
                await bus.publish_soon(task, time=now)
            number += 1
        await bus.flush()
    return number
