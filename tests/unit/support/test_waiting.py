"""The one way to wait: patient with what comes late, and clear about what never came."""

import asyncio

import pytest

from tests.support.waiting import stays, until


class Counter:
    """Counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def reached(self, count: int) -> bool:
        self.asked += 1
        return self.asked >= count

    async def reached_later(self, count: int) -> bool:
        await asyncio.sleep(0)
        return self.reached(count)


async def test_it_asks_until_the_condition_holds() -> None:
    counter = Counter()
    await until(lambda: counter.reached(3))
    assert counter.asked == 3
    await until(lambda: counter.reached_later(5))
    assert counter.asked == 5


async def test_it_fails_with_what_was_last_seen() -> None:
    seen = iter(range(1000))

    async def enough() -> bool:
        count = next(seen)
        assert count == 1000, f"{count} rows"
        return True

    with pytest.raises(AssertionError, match=r"not within 0\.1 s; last seen: .*\d rows"):
        await until(enough, 0.1)
    with pytest.raises(AssertionError, match="last seen: 0"):
        await until(lambda: 0, 0.1)


async def test_a_condition_that_never_answers_is_given_up_too() -> None:
    with pytest.raises(AssertionError, match="last seen: 'no answer'"):
        await until(asyncio.Event().wait, 0.1)


async def test_an_error_of_the_condition_is_not_hidden() -> None:
    async def late() -> None:
        raise TimeoutError("the server's own")

    with pytest.raises(TimeoutError, match="the server's own"):
        await until(late)
    with pytest.raises(ZeroDivisionError):
        await until(lambda: 1 / 0)


async def test_what_has_to_last_is_watched() -> None:
    counter = Counter()
    await stays(lambda: not counter.reached(10_000), 0.1)
    assert counter.asked > 1
    with pytest.raises(AssertionError, match="it did not last: False"):
        await stays(lambda: not counter.reached(0), 0.1)
