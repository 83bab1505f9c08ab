"""Folding the changes of many events into one per row: one fold for each column policy.

``folded`` maps a key to the cells of its row, which begin with the guard if the group has one.
Where a guard decides, changes are sorted by it, and a dict keeps the last for each key; cells are
only made for what it keeps.
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, reduce
from operator import attrgetter, itemgetter
from typing import Any

import msgspec

from penstock.schemas.cells import NO_ITEMS, Cell, Cells
from penstock.schemas.event import Event
from penstock.schemas.event_type import Group

Key = tuple[Any, ...]
Folded = dict[Key, Cell]


class Changes(msgspec.Struct, frozen=True):
    """What events of one type say about the rows of one table.

    ``keys``, ``events`` and ``items`` are parallel, one change each; ``items`` is None if the
    events do not fan out.
    """

    keys: Sequence[Key]
    events: Sequence[Event]
    items: Sequence[Any] | None = None

    @property
    def repeated(self) -> bool:
        """True if two of them are about one row."""
        return len(set(self.keys)) < len(self.keys)

    def cells(self, cells: Cells) -> list[Cell]:
        """What ``cells`` makes of each."""
        return cells.rows(self.events, NO_ITEMS if self.items is None else self.items)

    def chosen(self, places: Iterable[int]) -> "Changes":
        """Those at these places, in this order."""
        keys, events, items = self.keys, self.events, self.items
        wanted = list(places)
        return Changes(
            [keys[place] for place in wanted],
            [events[place] for place in wanted],
            None if items is None else [items[place] for place in wanted],
        )


Fold = Callable[[Folded, Changes, Cells, Group], None]


def fold(folded: Folded, changes: Changes, cells: Cells, group: Group, *, distinct: bool) -> None:
    """Fold the changes of ``group``, whose cells ``cells`` makes, into ``folded``.

    ``distinct`` says that no two of the changes are about one row.
    """
    chosen = _alone if distinct and not folded else _FOLDS[group.kind]
    chosen(folded, changes, cells, group)


def stated(changes: Changes, cells: Cells, group: Group) -> Iterable[Cell]:
    """What each change by itself says about ``group``."""
    found = changes.cells(cells)
    if group.kind not in _GUARDS:
        return found
    return map(operator.add, map(_GUARDS[group.kind], changes.events), found)


def _alone(folded: Folded, changes: Changes, cells: Cells, group: Group) -> None:
    """If no two events are about one row, there is nothing to decide."""
    folded.update(zip(changes.keys, stated(changes, cells, group), strict=True))


def _winner(wins: Callable[[Cell, Cell], bool], guard_of: Callable[[Event], Cell]) -> Fold:
    """A fold that keeps the cells of the event whose guard ``wins``."""
    least = wins((0,), (1,))

    def fold(folded: Folded, changes: Changes, cells: Cells, group: Group) -> None:
        guards = list(map(guard_of, changes.events))
        order = sorted(range(len(guards)), key=guards.__getitem__, reverse=least)
        best = dict(zip(map(changes.keys.__getitem__, order), order, strict=True)).values()
        left, width = changes.chosen(best), len(group.guard)
        made = zip(left.keys, map(guards.__getitem__, best), left.cells(cells), strict=True)
        for key, guard, found in made:
            held = folded.get(key)
            if held is None or wins(guard, held[:width]):
                folded[key] = guard + found

    return fold


def _once(folded: Folded, changes: Changes, cells: Cells, _group: Group) -> None:
    keys, made = changes.keys, changes.cells(cells)
    once = dict(zip(keys, made, strict=True))
    agreed = list(map(once.__getitem__, keys)) == made
    for key, found in once.items() if agreed else zip(keys, made, strict=True):
        held = folded.get(key)
        if held is None:
            folded[key] = found
        elif held != found and None in held:  # another event may say what this one did not
            folded[key] = tuple([b if a is None else a for a, b in zip(held, found, strict=True)])


def _combined(choose: Callable[[Iterable[Any]], Any]) -> Fold:
    """A fold that treats each column separately and ignores NULL."""

    def fold(folded: Folded, changes: Changes, cells: Cells, _group: Group) -> None:
        gathered: dict[Key, list[Cell]] = {}
        for key, new in zip(changes.keys, changes.cells(cells), strict=True):
            found = gathered.get(key)
            if found is None:
                gathered[key] = [folded[key], new] if key in folded else [new]
            else:
                found.append(new)
        for key, found in gathered.items():
            folded[key] = found[0] if len(found) == 1 else _column_wise(choose, found)

    return fold


def _column_wise(choose: Callable[[Iterable[Any]], Any], rows: Sequence[Cell]) -> Cell:
    stated = [[cell for cell in column if cell is not None] for column in zip(*rows, strict=True)]
    return tuple([choose(cells) if cells else None for cells in stated])


def _extreme(choose: Callable[[Iterable[Any]], Any], *, least: bool) -> Fold:
    """A fold that keeps the greatest or the least value; of one column by sorting."""
    by_column = _combined(choose)

    def fold(folded: Folded, changes: Changes, cells: Cells, group: Group) -> None:
        if len(group.columns) > 1 or folded:
            by_column(folded, changes, cells, group)
            return
        made = zip(changes.keys, changes.cells(cells), strict=True)
        told = [pair for pair in made if pair[1][0] is not None]
        if len(told) < len(changes.keys):
            folded.update(dict.fromkeys(changes.keys, (None,)))
        told.sort(key=itemgetter(1), reverse=least)
        folded.update(told)

    return fold


def _rank(folded: Folded, changes: Changes, cells: Cells, group: Group) -> None:
    rank = group.order.index
    for key, new in zip(changes.keys, changes.cells(cells), strict=True):
        held = folded.get(key)
        if held is None or rank(new[0]) > rank(held[0]):
            folded[key] = new


_GUARDS: Mapping[str, Callable[[Event], Cell]] = {
    "last": attrgetter("version", "time", "id"),
    "first": attrgetter("time", "id"),
}
_FOLDS: Mapping[str, Fold] = {
    "last": _winner(operator.gt, _GUARDS["last"]),
    "first": _winner(operator.lt, _GUARDS["first"]),
    "once": _once,
    "max": _extreme(max, least=False),
    "min": _extreme(min, least=True),
    "add": _combined(partial(reduce, operator.add)),
    "rank": _rank,
}
