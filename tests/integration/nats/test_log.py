"""When a part of a stream has been read to its end."""

import pytest
from nats.aio.client import Client

from penstock.worker.errors import TopologyError
from penstock.worker.nats.log import JetStreamLog
from penstock.worker.nats.options import ReadingOptions
from penstock.worker.pipeline.budget import Budget
from penstock.worker.pipeline.source import Span
from tests.support.connecting import connected
from tests.support.waiting import until

STREAM = "PART"


async def fill(client: Client, count: int) -> None:
    stream = client.jetstream()
    await stream.add_stream(name=STREAM, subjects=["part.>"])
    for number in range(count):
        await stream.publish("part.a", b"%d" % number)


def log_of(client: Client) -> JetStreamLog:
    reading = ReadingOptions(
        durable="again",
        batch_size=10,
        batch_bytes=1 << 20,
        linger=0.01,
        ack_wait=30.0,
        heartbeat=5.0,
    )
    return JetStreamLog(client, STREAM, Span(), reading, Budget(1 << 26, 1, 1 << 20).share())


async def test_it_is_over_once_all_is_acknowledged(nats_url: str) -> None:
    async with connected(nats_url) as client:
        await fill(client, 5)
        async with log_of(client) as log:
            batch = await log.fetch()
            assert not await log.over(None)
            await log.ack(batch)
            await until(lambda: log.over(None))


@pytest.mark.parametrize("passed", [None, 1])
async def test_a_stream_that_was_made_anew_does_not_end_it(
    nats_url: str, passed: int | None
) -> None:
    """Its consumer there has nothing to deliver, and acknowledged nothing of what went."""
    async with connected(nats_url) as client:
        await fill(client, 5)
        async with log_of(client) as log:
            await client.jetstream().delete_stream(STREAM)
            await fill(client, 0)
            with pytest.raises(TopologyError, match="deleted and created again"):
                await log._begin()
            assert not await log.over(passed)
