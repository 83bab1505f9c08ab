"""Keys whose rows the bucket may get later: mostly of agents of which only a heartbeat is new."""

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice, takewhile
from typing import Any

from penstock.worker.pipeline.ports import KvTouch

Key = tuple[Any, ...]
Touched = Mapping[KvTouch, Collection[Key]]

_MOST = 100_000
"""Keys that wait at most, about 250 bytes each; what comes on top of them goes at once."""

_SLICES = 10
"""Into how many parts an interval is cut; what is due is looked for once in each."""


class Postponed:
    """Keys that wait, each for at most ``interval`` seconds however often it is touched meanwhile.

    ``clock`` tells seconds that only grow.
    """

    def __init__(
        self, interval: float, *, most: int = _MOST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.slice = interval / _SLICES
        self._patience = interval - self.slice
        self._most = most if interval else 0
        self._clock = clock
        self._due: dict[KvTouch, dict[Key, float]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._due.values()))

    def put_off(self, touched: Touched) -> dict[KvTouch, set[Key]]:
        """Make the lazy ones wait. Returns what goes now: the others, and those without room. A key
        that goes now waits no longer.
        """
        now: dict[KvTouch, set[Key]] = {}
        for rule, keys in touched.items():
            plain = KvTouch(rule.view, rule.columns)
            if left := self._wait(plain, keys) if rule.lazy else keys:
                now.setdefault(plain, set()).update(left)
        for rule, keys in now.items():
            if waiting := self._due.get(rule):
                _drop(waiting, keys)
        return now

    def again(self, touched: Touched) -> None:
        """These did not get there: as far as they may have waited before, they wait once more."""
        for rule, keys in touched.items():
            if rule in self._due:
                self._wait(rule, keys)

    def take(self, limit: int, *, early: bool = False) -> dict[KvTouch, list[Key]]:
        """Take at most ``limit`` keys of each kind, the oldest first: those that are due, or with
        ``early`` any.
        """
        now = math.inf if early else self._clock()
        found: dict[KvTouch, list[Key]] = {}
        for rule, waiting in self._due.items():
            if keys := list(islice(_until(now, waiting), limit)):
                found[rule] = keys
                _drop(waiting, keys)
        return found

    def _wait(self, rule: KvTouch, keys: Collection[Key]) -> Collection[Key]:
        """Returns those for which there is no room."""
        if not self._most:
            return keys
        waiting = self._due.setdefault(rule, {})
        fresh = [key for key in keys if key not in waiting]
        room = max(self._most - len(self), 0)
        waiting.update(dict.fromkeys(fresh[:room], self._clock() + self._patience))
        return fresh[room:]


def _until(now: float, waiting: Mapping[Key, float]) -> Iterator[Key]:
    """The keys that are due; as all wait equally long, they stand in the order of being due."""
    return takewhile(lambda key: waiting[key] <= now, waiting)


def _drop(waiting: dict[Key, float], keys: Collection[Key]) -> None:
    for key in keys:
        waiting.pop(key, None)
