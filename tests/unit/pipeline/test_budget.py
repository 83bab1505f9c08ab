"""The worker's memory: the sum stays within the limit, and no stream starves."""

import random
from functools import partial

import pytest

from penstock.worker.pipeline.budget import Budget, Share, unlimited


def test_a_stream_alone_may_have_everything() -> None:
    share = Budget(100, 1, 10).share()
    share.ask(50)
    assert share.allows(50)
    assert not share.allows(51)


def test_nobody_can_take_the_floor_of_another() -> None:
    budget = Budget(100, 3, 20)
    greedy, second, third = (budget.share() for _ in range(3))
    greedy.hold(60)
    assert not greedy.allows(1)
    assert second.allows(20)
    assert not second.allows(21) or second.used == 0
    second.ask(20)
    third.ask(20)
    assert budget.used == 100
    assert not second.allows(1)


def test_floors_shrink_until_all_streams_fit() -> None:
    budget = Budget(100, 8, 50)
    assert budget.floor == 12
    shares = [budget.share() for _ in range(8)]
    for share in shares:
        share.ask(budget.floor)
    assert budget.used <= 100
    assert not any(share.allows(budget.floor) for share in shares)


def test_who_holds_nothing_may_always_take_a_message_of_any_size() -> None:
    budget = Budget(100, 2, 50)
    other, share = budget.share(), budget.share()
    other.hold(1000)
    assert share.allows(1000)
    share.hold(1)
    assert not share.allows(1000)


def test_what_is_freed_wakes_those_who_were_refused_in_the_order_of_their_asking() -> None:
    budget = Budget(100, 4, 10)
    first, *rest = (budget.share() for _ in range(4))
    first.hold(70)
    woken: list[int] = []
    for number, share in enumerate(rest):
        share.hold(10)
        share.wake = partial(woken.append, number)
        assert not share.allows(10)
    assert woken == []
    first.hold(-10)
    assert woken == [0, 1, 2]
    first.hold(-10)
    assert woken == [0, 1, 2], "nobody has asked since"


def test_asking_for_less_frees() -> None:
    budget = Budget(100, 2, 40)
    first, second = budget.share(), budget.share()
    first.ask(60)
    second.hold(40)
    woken: list[bool] = []
    second.wake = lambda: woken.append(second.allows(20))
    assert not second.allows(20)
    first.ask(50)
    assert woken == [False]
    first.ask(40)
    assert woken == [False, True]


def test_without_a_limit_everything_is_allowed() -> None:
    share = unlimited()
    share.hold(2**50)
    assert share.allows(2**50)


@pytest.mark.parametrize("seed", range(5))
def test_six_busy_streams_stay_within_the_limit_and_all_move(seed: int) -> None:
    """Each asks for batches whenever it may, gets them in pieces and settles them in any order."""
    rng = random.Random(seed)
    budget = Budget(100_000, 6, 8_000)
    streams = [Stream(budget.share(), rng, budget.floor) for _ in range(6)]
    for _ in range(20_000):
        rng.choice(streams).step()
        assert budget.used <= budget.limit
    assert min(stream.settled for stream in streams) > 100


class Stream:
    """A stream that always has more."""

    def __init__(self, share: Share, rng: random.Random, batch: int) -> None:
        self._share, self._rng, self._batch = share, rng, batch
        self._in_work: list[int] = []
        self.settled = 0
        share.wake = self._ask

    def step(self) -> None:
        self._rng.choice([self._ask, self._receive, self._receive, self._settle])()

    def _ask(self) -> None:
        if self._share.allows(self._batch):
            self._share.ask(self._share.asked + self._batch)

    def _receive(self) -> None:
        size = min(self._share.asked, self._rng.randrange(1, self._batch))
        if size:
            self._share.hold(size)  # first: nobody else is to take what is only changing hands
            self._share.ask(self._share.asked - size)
            self._in_work.append(size)

    def _settle(self) -> None:
        if self._in_work:
            self._share.hold(-self._in_work.pop(self._rng.randrange(len(self._in_work))))
            self.settled += 1
