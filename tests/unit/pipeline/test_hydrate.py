"""Rounds of hydration: batches share them, and nobody waits for one that does not come."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence

import pytest

from penstock.worker.ending import end
from penstock.worker.errors import StateStoreUnavailable
from penstock.worker.pipeline import hydrate as module
from penstock.worker.pipeline.hydrate import Hydrator
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.mirror import LeftOut, Mirror
from penstock.worker.pipeline.ports import KvRow, KvTouch
from penstock.worker.pipeline.postponed import Key, Touched
from tests.support.waiting import PATIENCE, until

STATUS = KvTouch("agents.kv_status", ("agent_id",))
SIGN_OF_LIFE = KvTouch("agents.kv_status", ("agent_id",), lazy=True)


class Rows:
    """Has a row for every key that is asked for."""

    async def read(self, touched: Mapping[KvTouch, Sequence[Key]]) -> AsyncGenerator[list[KvRow]]:
        keys = [str(key) for keys in touched.values() for (key,) in keys]
        yield [KvRow(bucket="memory", key=key, guard=b"[1]", value=b"{}") for key in keys]


class Bucket:
    """Remembers what each round brought; ``full`` refuses everything."""

    bucket = "memory"

    def __init__(self, *, full: bool = False) -> None:
        self.rounds: list[list[str]] = []
        self.full = full

    async def put(self, rows: Sequence[KvRow]) -> int:
        if self.full:
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


def lazily(*keys: str) -> Touched:
    return {SIGN_OF_LIFE: [(key,) for key in keys]}


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


async def test_what_is_touched_lazily_comes_together_and_later() -> None:
    bucket = Bucket()
    hydrator = Hydrator(Rows(), to(memory=bucket), interval=0.2)
    begun = time.monotonic()
    keeping = asyncio.create_task(hydrator.keep_up())
    for key in ("a", "b", "a"):
        await hydrator.hydrate(lazily(key))
    assert bucket.rounds == []
    await until(lambda: bucket.rounds)
    assert time.monotonic() - begun >= 0.1, "not before it is due"
    assert bucket.rounds == [["a", "b"]]
    await end(keeping)


async def test_another_change_takes_along_what_was_put_off() -> None:
    bucket = Bucket()
    hydrator = Hydrator(Rows(), to(memory=bucket), interval=600)
    await hydrator.hydrate(lazily("a", "b"))
    await hydrator.hydrate(touched("a"))
    assert bucket.rounds == [["a"]]
    await hydrator.finish(asyncio.get_running_loop().time() + PATIENCE)
    assert bucket.rounds == [["a"], ["b"]]
    assert len(hydrator.postponed) == 0


async def test_what_the_bucket_did_not_take_is_tried_again() -> None:
    bucket = Bucket(full=True)
    hydrator = Hydrator(Rows(), to(memory=bucket), interval=0.05)
    await hydrator.hydrate(lazily("a"))
    with pytest.raises(StateStoreUnavailable):
        await hydrator.hydrate(touched("a"))  # such a batch comes again; what it took along stays
    await hydrator.finish(asyncio.get_running_loop().time() + PATIENCE)
    assert len(hydrator.postponed) == 1, "a worker that stops leaves it to the next comparison"
    keeping = asyncio.create_task(hydrator.keep_up())
    await asyncio.sleep(0)
    bucket.full = False
    await until(lambda: bucket.rounds)
    assert bucket.rounds == [["a"]]
    await end(keeping)


async def test_without_an_interval_nothing_waits() -> None:
    bucket = Bucket()
    hydrator = Hydrator(Rows(), to(memory=bucket))
    await hydrator.hydrate(lazily("a"))
    assert bucket.rounds == [["a"]]
    await hydrator.keep_up()  # returns: there is nothing to keep up with
