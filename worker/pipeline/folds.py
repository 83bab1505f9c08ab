"""Folding the changes of many events into one per row: one fold for each column policy.

``folded`` maps a key to the cells of its row, which begin with the guard if the group has one.
Cells are only made for events that may win, which are few where entities repeat.
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, reduce
from operator import attrgetter
from typing import Any

import msgspec

from penstock.schemas.event import Event
from penstock.schemas.event_type import Group
from penstock.schemas.rows import Cells

Key = tuple[Any, ...]
Cell = tuple[Any, ...]
Folded = dict[Key, Cell]


class Changes(msgspec.Struct, frozen=True):
    """What events of one type say about the rows of one table.

    ``keys``, ``events`` and ``items`` are parallel, one change each. ``items`` may be infinite.
    """

    keys: Sequence[Key]
    events: Sequence[Event]
    items: Iterable[Any]

    @property
    def repeated(self) -> bool:
        """True if two of them are about one row."""
        return len(set(self.keys)) < len(self.keys)


Fold = Callable[[Folded, Changes, Cells, Group], None]


def fold(folded: Folded, changes: Changes, cells: Cells, group: Group, *, distinct: bool) -> None:
    """Fold the changes of ``group``, whose cells ``cells`` makes, into ``folded``.

    ``distinct`` says that no two of the changes are about one row.
    """
    chosen = _alone if distinct and not folded else _FOLDS[group.kind]
    chosen(folded, changes, cells, group)


def _alone(folded: Folded, changes: Changes, cells: Cells, group: Group) -> None:
    """If no two events are about one row, there is nothing to decide."""
    found: Iterable[Cell] = map(cells, changes.events, changes.items)
    if group.kind in _GUARDS:
        found = map(operator.add, map(_GUARDS[group.kind], changes.events), found)
    folded.update(zip(changes.keys, found, strict=False))


def _winner(wins: Callable[[Cell, Cell], bool], guard_of: Callable[[Event], Cell]) -> Fold:
    """A fold that keeps the cells of the event whose guard ``wins``."""

    def fold(folded: Folded, changes: Changes, cells: Cells, group: Group) -> None:
        events, best = changes.events, dict[Key, tuple[Cell, Event, Any]]()
        guards = map(guard_of, events)
        for key, guard, e, item in zip(changes.keys, guards, events, changes.items, strict=False):
            held = best.get(key)
            if held is None or wins(guard, held[0]):
                best[key] = (guard, e, item)
        width = len(group.guard)
        for key, (guard, e, item) in best.items():
            held = folded.get(key)
            if held is None or wins(guard, held[:width]):
                folded[key] = guard + cells(e, item)

    return fold


def _once(folded: Folded, changes: Changes, cells: Cells, _group: Group) -> None:
    for key, e, item in zip(changes.keys, changes.events, changes.items, strict=False):
        held = folded.get(key)
        if held is None:
            folded[key] = cells(e, item)
        elif None in held:  # another event may say what this one did not
            found = cells(e, item)
            folded[key] = tuple([b if a is None else a for a, b in zip(held, found, strict=True)])


def _combined(choose: Callable[[Iterable[Any]], Any]) -> Fold:
    """A fold that treats each column separately and ignores NULL."""

    def fold(folded: Folded, changes: Changes, cells: Cells, _group: Group) -> None:
        gathered: dict[Key, list[Cell]] = {}
        made = map(cells, changes.events, changes.items)
        for key, new in zip(changes.keys, made, strict=False):
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


def _rank(folded: Folded, changes: Changes, cells: Cells, group: Group) -> None:
    rank, made = group.order.index, map(cells, changes.events, changes.items)
    for key, new in zip(changes.keys, made, strict=False):
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
    "max": _combined(max),
    "min": _combined(min),
    "add": _combined(partial(reduce, operator.add)),
    "rank": _rank,
}
