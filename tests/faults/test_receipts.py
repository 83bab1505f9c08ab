"""Receipts while the worker is killed again and again: each that comes is true."""

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from penstock.schemas.agents import AgentHeartbeat
from penstock.worker.embedded import EmbeddedNats
from penstock.worker.embedded.rabbitmq import EmbeddedRabbit
from penstock.worker.publisher import (
    EventRejected,
    OutcomeUnknown,
    Publisher,
    encode,
    subject_of,
    uuid7,
)
from penstock.worker.publisher.encoding import now
from tests.support.waiting import until
from tests.support.workers import WorkerProcess, environment

pytestmark = pytest.mark.faults
EVENTS = 10_000
AT_ONCE = 100
EACH_BAD = 100
ALIVE_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
EVENT = AgentHeartbeat(agent_id="a-1")


class Sent(NamedTuple):
    event_id: str
    body: bytes
    outcome: str


async def send(bus: Publisher, number: int) -> Sent:
    """One event, asked about until its outcome is known. Every hundredth is wrong."""
    chosen = uuid7()
    body = encode(EVENT, id=chosen, time=now(), source="/test")
    if number % EACH_BAD == 0:
        body = body.replace(b'"data":{}', b'"data":{"load":"high"}')
    while True:
        try:
            receipt = await (await bus.ask(subject_of(EVENT), body, chosen, PATIENCE_SECONDS))
        except EventRejected as rejected:
            return Sent(chosen, body, rejected.reason)
        except OutcomeUnknown:
            continue
        return Sent(chosen, body, receipt.outcome)


async def send_all(bus: Publisher) -> list[Sent]:
    turns = asyncio.Semaphore(AT_ONCE)

    async def in_turn(number: int) -> Sent:
        async with turns:
            return await send(bus, number)

    return await asyncio.gather(*map(in_turn, range(EVENTS)))


async def kill_again_and_again(worker: WorkerProcess, kills: list[float]) -> None:
    """One second of work after each start."""
    while True:
        await asyncio.sleep(ALIVE_SECONDS)
        await worker.kill()
        kills.append(time.monotonic())
        await worker.start()
        await until(lambda: worker.said("worker_started"))


async def check(rows: asyncpg.Connection, sent: list[Sent]) -> None:
    stored = {
        str(event_id): count
        for event_id, count in await rows.fetch(
            "SELECT event_id, count(*) FROM agents.heartbeat GROUP BY event_id"
        )
    }
    letters = {
        (bytes(b), r) for b, r in await rows.fetch("SELECT body, reason FROM bus.dead_letter")
    }
    for one in sent:
        if one.outcome in ("stored", "duplicate"):
            assert stored.get(one.event_id) == 1, one
        else:
            assert (one.body, one.outcome) in letters, one
    wrong = [one for number, one in enumerate(sent) if number % EACH_BAD == 0]
    assert {one.outcome for one in wrong} == {"invalid_data"}
    assert len(stored) == EVENTS - len(wrong)


async def run(url: str, settings: dict[str, str], rows: asyncpg.Connection, log: Path) -> None:
    kills: list[float] = []
    async with WorkerProcess(settings, log) as worker:
        await worker.start()
        await until(lambda: worker.said("worker_started"))
        async with Publisher(url, source="/test") as bus:
            killer = asyncio.create_task(kill_again_and_again(worker, kills))
            try:
                begun = time.monotonic()
                sent = await send_all(bus)
            finally:
                killer.cancel()
        seconds = time.monotonic() - begun
        await check(rows, sent)
    outcomes = dict(Counter(one.outcome for one in sent))
    print(f"{url.partition(':')[0]}: {outcomes} in {seconds:.0f} s, {len(kills)} kills")
    assert len(kills) > 1


async def test_on_nats(database: str, tmp_path: Path) -> None:
    rows = await asyncpg.connect(database)
    async with EmbeddedNats() as server:
        await run(server.url, environment(server.url, database), rows, tmp_path / "log")
    await rows.close()


@pytest.mark.usefixtures("rabbitmq_package")
async def test_on_rabbitmq(database: str, tmp_path: Path, nats_url: str) -> None:
    rows = await asyncpg.connect(database)
    async with EmbeddedRabbit() as server:
        more = {"brokers": "rabbitmq", "rabbitmq_url": server.url}
        await run(server.url, environment(nats_url, database, **more), rows, tmp_path / "log")
    await rows.close()
