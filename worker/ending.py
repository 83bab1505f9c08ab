"""Ending tasks and connections, whatever they are waiting for."""

import asyncio
from collections.abc import Coroutine
from typing import Any

_AGAIN_SECONDS = 0.5


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks again and again until they have ended.

    nats-py, aiormq and `asyncio.wait_for` of Python 3.11 swallow a cancellation that comes at a bad
    moment; the task then continues, and waiting for it would never return.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN_SECONDS)


async def within(seconds: float, closing: Coroutine[Any, Any, object]) -> None:
    """Let a connection close itself, for at most ``seconds``, and ignore what it raises.

    Unlike `asyncio.timeout`, this works even if a cancellation is swallowed; see `end`.
    """
    task = asyncio.create_task(closing, name="closing")
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        await end(task)
        if not task.cancelled():
            task.exception()  # mark it as retrieved, so that asyncio does not report it
