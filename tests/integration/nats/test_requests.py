"""Requests over one inbox: answers find their request, and nobody waits for what does not come."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError

from penstock.worker.nats.requests import NO_STREAM, Inbox, ack_of
from tests.support.bucket import make_bucket
from tests.support.connecting import connected


@pytest.fixture
async def client(nats_url: str) -> AsyncIterator[Client]:
    async with connected(nats_url) as client:
        yield client


async def answer_even(message: Msg) -> None:
    if int(message.data) % 2 == 0:
        await message.respond(message.data)


async def test_each_answer_has_the_number_of_its_request(client: Client) -> None:
    await client.subscribe("echo", cb=answer_even)
    inbox = Inbox(client, 30)
    asked = [[("echo", "", b"%d" % (n * 2)) for n in range(begin, 1_000)] for begin in range(5)]
    for begin, answers in enumerate(await asyncio.gather(*map(inbox.ask, asked))):
        assert {n: int(frame[3]) for n, frame in answers} == {
            n: (n + begin) * 2 for n in range(1_000 - begin)
        }
    await inbox.close()


async def test_what_came_is_kept_when_the_rest_does_not(client: Client) -> None:
    await client.subscribe("echo", cb=answer_even)
    answers = await Inbox(client, 1).ask([("echo", "", b"%d" % n) for n in range(10)])
    assert sorted(n for n, _ in answers) == [0, 2, 4, 6, 8]


async def test_patience_lasts_as_long_as_answers_come(client: Client) -> None:
    async def slowly(message: Msg) -> None:
        for _ in range(6):
            await asyncio.sleep(0.3)
            await message.respond(b"")

    await client.subscribe("slow", cb=slowly)
    answers = await Inbox(client, 1.5).ask([("slow", "", b"")], 6)
    assert len(answers) == 6


async def test_an_interrupted_call_ends_with_what_it_has(client: Client) -> None:
    inbox = Inbox(client, 60)
    await client.subscribe("mute")
    await inbox.open()
    call = asyncio.create_task(inbox.ask([("mute", "", b"")]))
    await client.flush()
    began = time.monotonic()
    inbox.interrupt()
    assert await call == []
    assert time.monotonic() - began < 5


async def test_an_atomic_batch_is_one_answer(client: Client) -> None:
    await make_bucket(client, "BATCH", atomic=True)
    inbox = Inbox(client, 5)
    requests = [(f"$KV.BATCH.k{n}", "Own: header\r\n" if n % 2 else "", b"") for n in range(10)]
    frame = await inbox.ask_atomic(requests)
    assert frame is not None
    ack = ack_of(frame)
    assert (ack.count, ack.seq, ack.error) == (10, 10, None)
    nowhere = await inbox.ask([("nowhere", "", b"")])
    assert ack_of(nowhere[0][1]) is NO_STREAM


async def test_a_closed_connection_is_told(client: Client) -> None:
    inbox = Inbox(client, 5)
    await client.close()
    with pytest.raises(ConnectionClosedError):
        await inbox.ask([("echo", "", b"")])
    await inbox.close()
