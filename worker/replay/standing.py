"""Where a run stands in a source without offsets: one that is read piece by piece, in an order."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec

Place = tuple[str, str, str]
"""Where a message stands in such a source; places are in its order."""


class Piece:
    """What was read together, by its places. ``left`` are those that are not settled yet; nothing
    behind ``end`` is read before all of them are.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        self.end = places[-1]
        self.left = set(places)


class Standing(msgspec.Struct, frozen=True):
    """Everything up to ``mark`` is settled, and these places ``beyond`` it: parts of a piece are
    settled in any order.
    """

    mark: Place | None = None
    beyond: Collection[Place] = frozenset()

    @classmethod
    def of(cls, mark: Any, beyond: Iterable[Any]) -> "Standing":
        """From JSON."""
        return cls(mark and tuple(mark), frozenset(map(tuple, beyond)))

    def __contains__(self, place: Place) -> bool:
        return (self.mark is not None and place <= self.mark) or place in self.beyond

    def after(self, settled: Iterable[Place], piece: Piece) -> "Standing":
        """With these places of ``piece`` settled too."""
        known = {*self.beyond, *[place for place in settled if place not in self]}
        left = [place for place in piece.left if place not in known and place not in self]
        if left:
            first = min(left)
            mark = max((place for place in known if place < first), default=self.mark)
        else:
            mark = piece.end
        return Standing(mark, frozenset([one for one in known if mark is None or one > mark]))
