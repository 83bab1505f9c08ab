"""The memory that all streams of a worker may hold together, in bytes of messages.

Every stream has a floor that nobody can take from it, so none starves; what is left above the
floors is for whoever asks first. So the sum stays within the limit, but for messages larger than a
floor, of which a stream that holds nothing may take one.
"""

from collections.abc import Callable


class Budget:
    """A limit, and the shares of ``streams`` streams in it. Not for use by several threads."""

    def __init__(self, limit: int, streams: int, batch_bytes: int) -> None:
        self.limit = limit
        self.floor = min(batch_bytes, limit // max(1, streams))
        """What each stream may hold in any case; no batch should be larger."""
        self._common = limit - streams * self.floor
        self._shares: list[Share] = []
        self._refused: dict[Share, Callable[[], None]] = {}

    @property
    def used(self) -> int:
        """What all streams hold or have asked for."""
        return sum([share.used for share in self._shares])

    def share(self) -> "Share":
        """The share of one more stream."""
        share = Share(self)
        self._shares.append(share)
        return share

    def fits(self, used: int, more: int) -> bool:
        """Whether one who uses ``used`` may use ``more``."""
        above = max(0, used + more - self.floor)
        if not above or not used:
            return True
        taken = sum([max(0, share.used - self.floor) for share in self._shares])
        return taken + above - max(0, used - self.floor) <= self._common

    def wake_later(self, share: "Share", wake: Callable[[], None]) -> None:
        """Call ``wake`` once, when something is freed; who waits longest comes first."""
        self._refused.setdefault(share, wake)

    def freed(self) -> None:
        """Something was freed: let those try again who were refused."""
        waiting, self._refused = self._refused, {}
        for wake in waiting.values():
            wake()


class Share:
    """What one stream uses: ``held``, which it received and has not settled, and ``asked``, which
    its broker may still send. ``floor`` is what it may use in any case. ``wake`` is called when it
    is worth asking again after a refusal.
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

    def allows(self, more: int) -> bool:
        """Whether ``more`` bytes may be asked for now."""
        if self._budget.fits(self.used, more):
            return True
        self._budget.wake_later(self, self._woken)
        return False

    def hold(self, size: int) -> None:
        """So many bytes were received; a negative ``size`` says that they are settled.

        Say so before asking for less: what only changes hands is for nobody else.
        """
        self.held += size
        if size < 0:
            self._budget.freed()

    def ask(self, size: int) -> None:
        """So many bytes are asked for by now."""
        less, self.asked = size < self.asked, size
        if less:
            self._budget.freed()

    def _woken(self) -> None:
        self.wake()


def unlimited() -> Share:
    """A share for a source that stands alone."""
    return Budget(2**63, 1, 2**62).share()
