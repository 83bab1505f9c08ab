"""Ending tasks that do not listen."""

import asyncio

from penstock.worker.ending import end
from tests.support.waiting import PATIENCE


async def test_a_task_that_loses_a_cancellation_is_asked_again() -> None:
    lost = 0

    async def deaf() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
                if lost == 2:
                    raise

    tasks = [asyncio.create_task(deaf()), asyncio.create_task(asyncio.sleep(0))]
    await asyncio.wait(tasks[1:])  # and so both have begun
    async with asyncio.timeout(PATIENCE):
        await end(*tasks)
    assert tasks[0].cancelled()
    assert tasks[1].done()
