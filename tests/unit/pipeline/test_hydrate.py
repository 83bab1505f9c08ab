"""Rounds of hydration: batches share them, and nobody waits for one that does not come."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest

from penstock.worker.errors import StateStoreUnavailable
from penstock.worker.pipeline import hydrate as module
from penstock.worker.pipeline.hydrate import Hydrator, Touched
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.mirror import LeftOut, Mirror
from penstock.worker.pipeline.ports import KvRow, KvTouch
from tests.support.waiting import PATIENCE

STATUS = KvTouch("agents.kv_status", ("agent_id",))


class Rows:
    """Has a row for every key that is asked for."""

    async def read(self, touched: Touched) -> AsyncGenerator[list[KvRow]]:
        keys = [str(key) for keys in touched.values() for (key,) in keys]
        yield [KvRow(bucket="memory", key=key, guard=[1], value=b"{}") for key in keys]


class Bucket:
    """Remembers what each round brought; ``full`` refuses everything."""

    bucket = "memory"

    def __init__(self, *, full: bool = False) -> None:
        self.rounds: list[list[str]] = []
        self._full = full

    async def put(self, rows: Sequence[KvRow]) -> int:
        if self._full:
            raise StateStoreUnavailable("no space left")
        self.rounds.append(sorted(row.key for row in rows))
        return len(rows)

    def forget(self) -> None:
        """It remembers nothing."""

    async def ping(self) -> None:
        """It is there."""


def to(**stores: Bucket) -> Mirror:
    metrics = Metrics()
    return Mirror(stores, metrics, LeftOut(metrics))


def touched(*keys: str) -> Touched:
    return {STATUS: [(key,) for key in keys]}


async def committed(hydrator: Hydrator, keys: Touched, commit: asyncio.Event) -> None:
    with hydrator.expecting():
        await commit.wait()
    await hydrator.hydrate(keys)


async def test_batches_that_commit_close_together_share_a_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_GATHER_SECONDS", PATIENCE)  # a busy machine is no reason to go
    bucket = Bucket()
    hydrator = Hydrator(Rows(), to(memory=bucket))
    first, second = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as batches:
        batches.create_task(committed(hydrator, touched("a", "b"), first))
        batches.create_task(committed(hydrator, touched("b", "c"), second))
        await asyncio.sleep(0)
        first.set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert bucket.rounds == [], "it waits for the second"
        second.set()
    assert bucket.rounds == [["a", "b", "c"]]


async def test_a_batch_that_hangs_holds_up_no_other() -> None:
    bucket = Bucket()
    hydrator = Hydrator(Rows(), to(memory=bucket))
    with hydrator.expecting():
        async with asyncio.timeout(PATIENCE):
            await hydrator.hydrate(touched("a"))
    assert bucket.rounds == [["a"]]


async def test_all_batches_of_a_round_that_fails_are_told() -> None:
    hydrator = Hydrator(Rows(), to(memory=Bucket(full=True)))
    outcomes = await asyncio.gather(
        hydrator.hydrate(touched("a")), hydrator.hydrate(touched("b")), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [StateStoreUnavailable] * 2
