"""When a batch leaves: at once if a message comes alone, with company if more keep coming."""

import asyncio
from itertools import pairwise
from typing import NamedTuple

import pytest

from penstock.worker.pipeline import intake as module
from penstock.worker.pipeline.intake import Intake
from tests.support.waiting import PATIENCE


class Sized(NamedTuple):
    size: int = 1


def intake(**more: float) -> Intake[Sized]:
    given = {"batch_size": 100, "batch_bytes": 1_000, "linger": 2 * PATIENCE, **more}
    return Intake(
        batch_size=int(given["batch_size"]),
        batch_bytes=int(given["batch_bytes"]),
        linger=given["linger"],
    )


async def taken(source: Intake[Sized]) -> tuple[int, float]:
    """The next batch, stored and settled at once: how many, and when it was taken."""
    batch, size = await source.batch()
    source.settled(len(batch), size)
    return len(batch), asyncio.get_running_loop().time()


@pytest.fixture
def long_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """So long that a busy machine is not taken for it."""
    monkeypatch.setattr(module, "_APART_SECONDS", 2 * PATIENCE)


@pytest.mark.usefixtures("long_pause")
async def test_messages_that_come_alone_go_at_once() -> None:
    source, clock = intake(), asyncio.get_running_loop().time
    for _ in range(20):
        source.add([Sized()], 1)
        came = clock()
        count, left = await taken(source)
        assert count == 1
        assert left - came < PATIENCE


async def test_small_batches_that_keep_coming_are_some_way_apart() -> None:
    source = intake()

    async def arrive() -> None:
        for _ in range(100):
            source.add([Sized(), Sized()], 2)
            await asyncio.sleep(0.001)
        source.stop()

    arriving = asyncio.create_task(arrive())
    found = []
    while not source.stopped:
        found.append(await taken(source))
    await arriving
    assert sum(count for count, _ in found) + len(source) == 200
    whole = found[:-1]  # the last may have been ended by the stop
    assert all(later - earlier > 0.006 for (_, earlier), (_, later) in pairwise(whole))


@pytest.mark.usefixtures("long_pause")
async def test_a_full_batch_waits_for_nothing() -> None:
    source, clock = intake(batch_size=3), asyncio.get_running_loop().time
    source.add([Sized()] * 12, 12)
    begun = clock()
    assert [(await taken(source))[0] for _ in range(4)] == [3, 3, 3, 3]
    assert clock() - begun < PATIENCE


@pytest.mark.usefixtures("long_pause")
async def test_without_linger_what_is_there_is_taken() -> None:
    source, clock = intake(linger=0.0), asyncio.get_running_loop().time
    begun = clock()
    for _ in range(3):
        source.add([Sized(), Sized()], 2)
        assert (await taken(source))[0] == 2
    assert clock() - begun < PATIENCE
