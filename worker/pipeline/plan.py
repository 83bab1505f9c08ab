"""From events to what one transaction writes. Pure: no input, no output, no clock.

History rows are grouped by table and sorted by key; state changes are folded per row by the column
policies of `penstock.schemas.mapping` and sorted by key. Equal order everywhere means that two
transactions never wait for each other in a circle.
"""

import operator
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial, reduce
from itertools import chain, repeat
from operator import attrgetter, itemgetter
from typing import Any

import msgspec

from penstock.schemas.event import Event
from penstock.schemas.event_type import Group, Rows
from penstock.schemas.rows import Cells
from penstock.worker.pipeline.ports import KvTouch

Key = tuple[Any, ...]
Cell = tuple[Any, ...]
Folded = dict[Key, Cell]
Fold = Callable[[Folded, Sequence[Key], Sequence[Event], Iterable[Any], Cells, Group], None]


class HistoryRows(msgspec.Struct, frozen=True):
    """Rows of one history table, sorted by event id, one per event id and time."""

    rows: Rows
    records: list[tuple[Any, ...]]


class StateRows(msgspec.Struct, frozen=True):
    """Folded changes of one state table, sorted by key.

    ``groups`` are the groups that any row states. A row holds the cells of the key and then those
    of the groups, of which it has NULLs where it does not state one. ``begun`` is True if every
    row states how it began, so that probably none is there yet.
    """

    table: str
    groups: tuple[Group, ...]
    rows: list[tuple[Any, ...]]
    begun: bool


class Plan(msgspec.Struct, frozen=True):
    """What a batch writes to PostgreSQL, and which rows it hydrates afterwards.

    ``stubs`` maps a parent table to its referenced keys with the text they were made from.
    """

    events: Sequence[Event]
    history: list[HistoryRows]
    states: list[StateRows]
    stubs: dict[str, list[tuple[str, str]]]
    touched: dict[KvTouch, list[Key]]

    def only(self, new: Collection[tuple[str, datetime]]) -> "Plan":
        """The same plan with the state changes of the ``new`` events alone.

        Events without a history always count: their policies make a repetition harmless.
        """
        fresh = [e for e in self.events if e.spec.history is None or (e.id, e.time) in new]
        return msgspec.structs.replace(self, states=fold_states(fresh), stubs=find_stubs(fresh))

    def times(self, table: str, column: str) -> set[datetime]:
        """The values that this batch writes to the partition column ``column`` of ``table``."""
        found: set[datetime] = set()
        for history in self.history:
            if history.rows.table == table:
                index = history.rows.columns.index(column)
                found.update(record[index] for record in history.records)
        for e in self.events:
            for state in e.spec.states:
                if state.table == table and column in state.key_columns:
                    found.add(state.key(e, None)[state.key_columns.index(column)])
        return found


def make_plan(events: Sequence[Event]) -> Plan:
    """Plan a batch. An event that stands in it twice counts once."""
    distinct = unique(events)
    return Plan(
        events=distinct,
        history=group_history(distinct),
        states=fold_states(distinct),
        stubs=find_stubs(distinct),
        touched=find_touched(distinct),
    )


def unique(events: Sequence[Event]) -> Sequence[Event]:
    """The events without repetitions. CloudEvents identity is source and id: one id, one event."""
    if len({e.id for e in events}) == len(events):
        return events
    return list({(e.id, e.time): e for e in events}.values())


def by_type(events: Sequence[Event]) -> list[tuple[Any, list[Event]]]:
    """The events of each type together, so that what a type asks for is looked up once."""
    found: dict[str, list[Event]] = {}
    for e in events:
        same = found.get(e.spec.name)
        if same is None:
            found[e.spec.name] = [e]
        else:
            same.append(e)
    return [(same[0].spec, same) for same in found.values()]


def group_history(events: Sequence[Event]) -> list[HistoryRows]:
    """History rows by table, sorted by event id."""
    tables: dict[str, HistoryRows] = {}
    for kind, same in by_type(events):
        rows = kind.history
        if rows is not None:
            found = tables.setdefault(rows.table, HistoryRows(rows, []))
            found.records.extend(map(rows.row, same, _NO_ITEMS))
    for found in tables.values():
        found.records.sort(key=itemgetter(found.rows.columns.index("event_id")))
    return [tables[name] for name in sorted(tables)]


def find_stubs(events: Sequence[Event]) -> dict[str, list[tuple[str, str]]]:
    """The parents that the events refer to, by table, sorted by key."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for kind, same in by_type(events):
        for table, reference in kind.references:
            found[table].update([pair for e in same if (pair := reference(e)) is not None])
    return {table: sorted(keys.items()) for table, keys in sorted(found.items()) if keys}


def find_touched(events: Sequence[Event]) -> dict[KvTouch, list[Key]]:
    """The rows to hydrate, each once."""
    found: dict[tuple[str, tuple[str, ...]], set[Key]] = defaultdict(set)
    for kind, same in by_type(events):
        for rule, key in kind.touches:
            found[rule].update(map(key, same, _NO_ITEMS))
    return {KvTouch(*rule): sorted(keys) for rule, keys in found.items()}


def fold_states(events: Sequence[Event]) -> list[StateRows]:
    """Fold the events' changes into one row per table and key."""
    tables: dict[str, dict[Group, Folded]] = defaultdict(dict)
    for kind, same in by_type(events):
        for state in kind.states:
            changes, items = same, _NO_ITEMS
            if state.items is not None:
                pairs = [(e, item) for e in same for item in state.items(e)]
                changes, items = [e for e, _ in pairs], [item for _, item in pairs]
            keys = list(map(state.key, changes, items))
            repeated = len(set(keys)) < len(keys)
            for group, cells in state.groups:
                folded = tables[state.table].setdefault(group, {})
                fold = _FOLDS[group.kind] if folded or repeated else _alone
                fold(folded, keys, changes, items, cells, group)
    return [
        _state_rows(table, groups)
        for table, groups in sorted(tables.items())
        if any(groups.values())
    ]


_NO_ITEMS: Iterable[Any] = repeat(None)
"""What row functions get as the item where a type fans out over nothing."""


def _state_rows(table: str, groups: dict[Group, Folded]) -> StateRows:
    ordered = sorted(groups, key=lambda group: (group.kind, group.columns))
    keys = sorted(set().union(*groups.values()))
    parts: list[Iterable[Cell]] = [keys]
    for group in ordered:
        absent = (None,) * (len(group.guard) + len(group.columns))
        parts.append(map(groups[group].get, keys, repeat(absent)))
    begun = any(group.kind == "first" and len(groups[group]) == len(keys) for group in ordered)
    rows = [tuple(chain.from_iterable(cells)) for cells in zip(*parts, strict=True)]
    return StateRows(table, tuple(ordered), rows, begun)


# The folds: ``folded`` maps a key to the cells of its row, the guard first where the group has one.
# Cells are only made for the events that may win, which are few where entities repeat.


def _alone(
    folded: Folded,
    keys: Sequence[Key],
    events: Sequence[Event],
    items: Iterable[Any],
    cells: Cells,
    group: Group,
) -> None:
    """Where no two events are about one row there is nothing to decide."""
    found: Iterable[Cell] = map(cells, events, items)
    if group.kind in _GUARDS:
        found = map(operator.add, map(_GUARDS[group.kind], events), found)
    folded.update(zip(keys, found, strict=False))


def _winner(wins: Callable[[Cell, Cell], bool], guard_of: Callable[[Event], Cell]) -> Fold:
    """A fold that keeps the cells of the event whose guard ``wins``."""

    def fold(
        folded: Folded,
        keys: Sequence[Key],
        events: Sequence[Event],
        items: Iterable[Any],
        cells: Cells,
        group: Group,
    ) -> None:
        best: dict[Key, tuple[Cell, Event, Any]] = {}
        for key, guard, e, item in zip(keys, map(guard_of, events), events, items, strict=False):
            held = best.get(key)
            if held is None or wins(guard, held[0]):
                best[key] = (guard, e, item)
        width = len(group.guard)
        for key, (guard, e, item) in best.items():
            held = folded.get(key)
            if held is None or wins(guard, held[:width]):
                folded[key] = guard + cells(e, item)

    return fold


def _once(
    folded: Folded,
    keys: Sequence[Key],
    events: Sequence[Event],
    items: Iterable[Any],
    cells: Cells,
    _group: Group,
) -> None:
    for key, e, item in zip(keys, events, items, strict=False):
        if key not in folded:
            folded[key] = cells(e, item)


def _combined(choose: Callable[[Iterable[Any]], Any]) -> Fold:
    """A fold that takes each column by itself; NULL says nothing."""

    def fold(
        folded: Folded,
        keys: Sequence[Key],
        events: Sequence[Event],
        items: Iterable[Any],
        cells: Cells,
        _group: Group,
    ) -> None:
        gathered: dict[Key, list[Cell]] = {}
        for key, new in zip(keys, map(cells, events, items), strict=False):
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


def _rank(
    folded: Folded,
    keys: Sequence[Key],
    events: Sequence[Event],
    items: Iterable[Any],
    cells: Cells,
    group: Group,
) -> None:
    rank = group.order.index
    for key, new in zip(keys, map(cells, events, items), strict=False):
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
