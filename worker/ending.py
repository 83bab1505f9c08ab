"""Ending tasks and connections, whatever they wait for."""

import asyncio
from collections.abc import Coroutine
from typing import Any

_AGAIN_SECONDS = 0.5


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended.

    nats-py, aiormq and `asyncio.wait_for` of Python 3.11 lose a cancellation that comes at a bad
    moment; then the task goes on, and whoever waited for it would wait for ever.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN_SECONDS)


async def within(seconds: float, closing: Coroutine[Any, Any, object]) -> None:
    """Let a connection close itself for so long at most; what it raises does not matter any more.

    Not `asyncio.timeout`: its one cancellation may be lost, see `end`.
    """
    task = asyncio.create_task(closing, name="closing")
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        await end(task)
        if not task.cancelled():
            task.exception()  # seen, so that asyncio does not report it
