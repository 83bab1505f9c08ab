"""Which acknowledgements say that these deliveries are settled, in the fewest words."""

from collections.abc import Iterable


class Tags:
    """The delivery tags of one channel: 1, 2, 3 and so on, each settled once, in any order.

    The server is told of all up to one of them at once. Those that are ahead of one not settled yet
    are kept back: soon they are part of such an "all", while told singly each of them would be a
    write of its own to the log of a quorum queue, which a channel that ends may not live to see.
    """

    def __init__(self) -> None:
        self.floor = 0
        self._above: set[int] = set()
        self._told: set[int] = set()

    def open(self, tag: int) -> bool:
        """True if ``tag`` is not settled yet."""
        return tag > self.floor and tag not in self._above

    def unsettled(self, last: int) -> int:
        """How many are, if ``last`` was the last that was delivered."""
        return last - self.floor - len(self._above)

    @property
    def kept_back(self) -> int:
        """How many are settled here and not told to the server."""
        return len(self._above) - len(self._told)

    def settle(self, tags: Iterable[int], *, told: bool = False) -> int | None:
        """The tag to be settled with all before it, if any. ``told``: the server knows of these.

        Tags that are settled already are left out. The server ends the channel if a tag is settled
        twice, also as the last of many; so what is returned has never been told.
        """
        fresh = {tag for tag in tags if self.open(tag)}
        self._above |= fresh
        if told:
            self._told |= fresh
        through = None
        while self.floor + 1 in self._above:
            self.floor += 1
            self._above.remove(self.floor)
            if self.floor in self._told:
                self._told.remove(self.floor)
            else:
                through = self.floor
        return through

    def tell(self) -> list[int]:
        """Those that were kept back, to be settled singly now."""
        kept = sorted(self._above - self._told)
        self._told.update(kept)
        return kept
