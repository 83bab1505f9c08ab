"""Which acknowledgements say that these deliveries are settled, in the fewest words."""

from collections.abc import Iterable


class Tags:
    """The delivery tags of one channel: 1, 2, 3 and so on, each settled once, in any order."""

    def __init__(self) -> None:
        self.floor = 0
        self._above: set[int] = set()

    def open(self, tag: int) -> bool:
        """True if ``tag`` is not settled yet."""
        return tag > self.floor and tag not in self._above

    def unsettled(self, last: int) -> int:
        """How many are, if ``last`` was the last that was delivered."""
        return last - self.floor - len(self._above)

    def settle(self, tags: Iterable[int]) -> tuple[int | None, list[int]]:
        """The tag to be settled with all before it, if any, and those to be settled singly.

        Tags that are settled already are left out. The server ends the channel if a tag is settled
        twice, also as the last of many; so the first is always one of ``tags``.
        """
        fresh = sorted(tag for tag in set(tags) if self.open(tag))
        self._above.update(fresh)
        while self.floor + 1 in self._above:
            self.floor += 1
            self._above.remove(self.floor)
        below = [tag for tag in fresh if tag <= self.floor]
        return (below[-1] if below else None), fresh[len(below) :]
