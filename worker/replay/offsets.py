"""A set of offsets that are nearly in order: few ranges, however many they are."""

from bisect import bisect_right
from collections.abc import Iterable


class OffsetSet:
    """Offsets as ranges ``[first, after)``, sorted and apart from each other."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._ranges = sorted(ranges)

    def __contains__(self, offset: int) -> bool:
        at = bisect_right(self._ranges, (offset, _FURTHEST)) - 1
        return at >= 0 and offset < self._ranges[at][1]

    def add(self, offset: int) -> None:
        """Add one. Cheap behind the last one, and nearly there."""
        at = bisect_right(self._ranges, (offset, _FURTHEST)) - 1
        if at >= 0 and offset < self._ranges[at][1]:
            return
        first, after, low, high = offset, offset + 1, at + 1, at + 1
        if at >= 0 and self._ranges[at][1] == first:
            first, low = self._ranges[at][0], at
        if high < len(self._ranges) and self._ranges[high][0] == after:
            after, high = self._ranges[high][1], high + 1
        self._ranges[low:high] = [(first, after)]

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The ranges, sorted."""
        return list(self._ranges)


_FURTHEST = 2**64
