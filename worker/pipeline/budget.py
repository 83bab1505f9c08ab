"""The memory that all streams of a worker may use together, in bytes of messages.

Every stream has a floor that no other stream can use, so none starves. The rest goes to the streams
that ask first. The sum stays within the limit, with one exception: a stream that holds nothing may
take one message that is larger than its floor.
"""

from collections.abc import Callable


class Budget:
    """A limit, shared by ``streams`` streams. Not thread-safe."""

    def __init__(self, limit: int, streams: int, batch_bytes: int) -> None:
        self.limit = limit
        self.floor = min(batch_bytes, limit // max(1, streams))
        """What each stream may always hold; no batch should be larger."""
        self._common = limit - streams * self.floor
        self._shares: list[Share] = []
        self._refused: dict[Share, Callable[[], None]] = {}

    @property
    def used(self) -> int:
        """Bytes that all streams hold or have asked for."""
        return sum([share.used for share in self._shares])

    def share(self) -> "Share":
        """A new share, for one more stream."""
        share = Share(self)
        self._shares.append(share)
        return share

    def fits(self, used: int, more: int) -> bool:
        """Whether a stream that uses ``used`` bytes may use ``more`` in addition."""
        above = max(0, used + more - self.floor)
        if not above or not used:
            return True
        taken = sum([max(0, share.used - self.floor) for share in self._shares])
        return taken + above - max(0, used - self.floor) <= self._common

    def wake_later(self, share: "Share", wake: Callable[[], None]) -> None:
        """Call ``wake`` once, when bytes are freed; the share that waits longest comes first."""
        self._refused.setdefault(share, wake)

    def refuses(self, share: "Share") -> bool:
        """Whether ``share`` asked for more than is left, and nothing was freed since."""
        return share in self._refused

    def freed(self) -> None:
        """Bytes were freed: let the shares that were refused try again."""
        waiting, self._refused = self._refused, {}
        for wake in waiting.values():
            wake()


class Share:
    """What one stream uses: bytes ``held`` (received and not settled) and ``asked`` (its broker may
    still send them). ``floor`` is what it may always use. ``wake`` is called when it is worth
    asking again after a refusal.
    """

    def __init__(self, budget: Budget) -> None:
        self.floor = budget.floor
        self.held = self.asked = 0
        self.wake: Callable[[], None] = lambda: None
        self._budget = budget

    @property
    def used(self) -> int:
        """Bytes that count against the limit."""
        return self.held + self.asked

    @property
    def refused(self) -> bool:
        """Whether it waits for others to free some."""
        return self._budget.refuses(self)

    def allows(self, more: int) -> bool:
        """Whether ``more`` bytes may be asked for now."""
        if self._budget.fits(self.used, more):
            return True
        self._budget.wake_later(self, self._woken)
        return False

    def hold(self, size: int) -> None:
        """Add ``size`` received bytes; a negative ``size`` removes settled ones.

        Call this before `ask` with less: bytes that go from asked to held are not free for others.
        """
        self.held += size
        if size < 0:
            self._budget.freed()

    def ask(self, size: int) -> None:
        """Set the number of bytes that the broker may still send."""
        less, self.asked = size < self.asked, size
        if less:
            self._budget.freed()

    def _woken(self) -> None:
        self.wake()


def unlimited() -> Share:
    """A share without a limit, for a source outside a worker."""
    return Budget(2**63, 1, 2**62).share()
