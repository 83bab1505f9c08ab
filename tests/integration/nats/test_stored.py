"""Messages by their sequence, beside the consumers."""

import time
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig

from penstock.worker.errors import SourceUnavailable
from penstock.worker.nats import stored
from tests.support.connecting import connected

STREAM = "AGENTS"
BODIES = [b"one", b"", bytes(range(256))]
HEADERS = {"ce-type": "agents.heartbeat", "content-type": "application/json"}


@pytest.fixture
async def client(nats_url: str) -> AsyncIterator[Client]:
    async with connected(nats_url) as found:
        config = StreamConfig(name=STREAM, subjects=["agents.>"])
        await found.jetstream().add_stream(config)
        yield found


async def test_a_message_is_read_again_as_it_came(client: Client) -> None:
    js = client.jetstream()
    for number, body in enumerate(BODIES):
        headers = HEADERS if number == 1 else None
        await js.publish(f"agents.a-{number}.heartbeat", body, headers=headers)
    await js.delete_msg(STREAM, 1)
    second, third = await stored.again(client, STREAM, [1, 2, 3, 4])
    assert (second.offset, second.body, second.plain) == (2, b"", False)
    assert second.attributes == {"type": "agents.heartbeat"}
    assert (third.offset, third.subject, third.body) == (3, "agents.a-2.heartbeat", BODIES[2])
    assert third.plain
    assert third.deliveries == 1
    assert third.stored_at is not None
    assert abs(third.stored_at - time.time()) < 60


async def test_what_is_settled_and_what_is_gone(client: Client) -> None:
    js = client.jetstream()
    reader = await js.pull_subscribe("agents.>", "penstock", stream=STREAM)
    for _ in range(6):
        await js.publish("agents.a.heartbeat", b"{}")
    for message in await reader.fetch(4):
        await message.ack_sync()
    await js.delete_msg(STREAM, 3)
    await js.purge_stream(STREAM, seq=2)
    found = await stored.settled(client, STREAM, "penstock")
    assert (found.first, found.upto, found.gone) == (2, 4, frozenset({3}))
    with pytest.raises(SourceUnavailable, match="run `penstock provision`"):
        await stored.settled(client, STREAM, "nobody")
