"""Waiting for a condition with a deadline, never for a guessed time.

Deadlines are generous, because they only say when to give up: a shorter one makes no test faster,
and with a long one a slow machine fails no test that should pass.
"""

import asyncio
import time
from collections.abc import Callable
from inspect import isawaitable

PATIENCE = 60.0
"""Seconds after which a test gives up."""

_AGAIN_SECONDS = 0.02

Condition = Callable[[], object]
"""Returns something true once it holds; may be async. A failing assertion in it means "not yet",
and its text appears in the failure.
"""


async def until(condition: Condition, seconds: float = PATIENCE) -> None:
    """Wait until ``condition`` holds; fail with its last value."""
    seen: object = "no answer"
    try:
        async with asyncio.timeout(seconds) as limit:
            while not _holds(seen := await _ask(condition)):  # noqa: ASYNC110  (any condition)
                await asyncio.sleep(_AGAIN_SECONDS)
    except TimeoutError:
        if not limit.expired():
            raise
        raise AssertionError(f"not within {seconds:g} s; last seen: {seen!r}") from None


async def stays(condition: Condition, seconds: float) -> None:
    """Fail as soon as ``condition`` does not hold during ``seconds``: for what must not change."""
    over = time.monotonic() + seconds
    while time.monotonic() < over:
        assert _holds(seen := await _ask(condition)), f"it did not last: {seen!r}"
        await asyncio.sleep(_AGAIN_SECONDS)


async def _ask(condition: Condition) -> object:
    try:
        answer = condition()
        return await answer if isawaitable(answer) else answer
    except AssertionError as not_yet:
        return not_yet


def _holds(answer: object) -> bool:
    return bool(answer) and not isinstance(answer, AssertionError)
