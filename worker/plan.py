"""From events to what one transaction writes. Pure: no input, no output, no clock.

History rows are grouped by table and sorted by key; state changes are folded per row by the column
policies of `schemas.mapping` and sorted by key. Equal order everywhere means that two transactions
never wait for each other in a circle.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

import msgspec

from schemas.catalogue import Group, Rows
from schemas.event import Event
from schemas.rows import Cells
from worker.ports import KvTouch

Key = tuple[Any, ...]
Cell = tuple[Any, ...]
Folded = dict[Key, Any]


class HistoryRows(msgspec.Struct, frozen=True):
    """Rows of one history table, sorted by event id, one per event id and time."""

    rows: Rows
    records: list[tuple[Any, ...]]


class StateRows(msgspec.Struct, frozen=True):
    """Folded changes of one state table: column by column, rows sorted by key.

    ``groups`` are the groups that any row states. ``columns`` holds the key columns and then those
    of the groups, each with one cell per row; a row that does not state a group has NULLs there.
    """

    table: str
    groups: tuple[Group, ...]
    columns: list[tuple[Any, ...]]


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
    seen = {(e.id, e.time): e for e in events}
    return events if len(seen) == len(events) else list(seen.values())


def group_history(events: Sequence[Event]) -> list[HistoryRows]:
    """History rows by table, sorted by event id."""
    tables: dict[str, HistoryRows] = {}
    for e in events:
        rows = e.spec.history
        if rows is not None:
            found = tables.get(rows.table)
            if found is None:
                found = tables[rows.table] = HistoryRows(rows, [])
            found.records.append(rows.row(e, None))
    for found in tables.values():
        first = found.rows.columns.index("event_id")
        found.records.sort(key=lambda record: record[first])
    return [tables[name] for name in sorted(tables)]


def find_stubs(events: Sequence[Event]) -> dict[str, list[tuple[str, str]]]:
    """The parents that the events refer to, by table, sorted by key."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for e in events:
        for table, reference in e.spec.references:
            pair = reference(e)
            if pair is not None:
                found[table][pair[0]] = pair[1]
    return {table: sorted(keys.items()) for table, keys in sorted(found.items())}


def find_touched(events: Sequence[Event]) -> dict[KvTouch, list[Key]]:
    """The rows to hydrate, each once."""
    found: dict[tuple[str, tuple[str, ...]], set[Key]] = {}
    for e in events:
        for rule, key in e.spec.touches:
            keys = found.get(rule)
            if keys is None:
                keys = found[rule] = set()
            keys.add(key(e, None))
    return {KvTouch(*rule): sorted(keys) for rule, keys in found.items()}


def fold_states(events: Sequence[Event]) -> list[StateRows]:
    """Fold the events' changes into one row per table and key."""
    tables: dict[str, dict[Group, Folded]] = defaultdict(dict)
    for e in events:
        for state in e.spec.states:
            groups = tables[state.table]
            for item in state.items(e) if state.items else _ONE:
                key = state.key(e, item)
                for group, cells in state.groups:
                    folded = groups.get(group)
                    if folded is None:
                        folded = groups[group] = {}
                    _FOLDS[group.kind](folded, key, e, item, cells, group)
    return [_state_rows(table, tables[table]) for table in sorted(tables) if tables[table]]


_ONE: tuple[None] = (None,)


def _state_rows(table: str, groups: dict[Group, Folded]) -> StateRows:
    ordered = sorted(groups, key=lambda group: (group.kind, group.columns))
    keys = sorted({key for folded in groups.values() for key in folded})
    columns: list[tuple[Any, ...]] = list(zip(*keys, strict=True))
    for group in ordered:
        folded = groups[group]
        width = len(group.guard) + len(group.columns)
        absent = (None,) * width
        if group.guard:
            cells = [_flat(folded.get(key), absent) for key in keys]
        else:
            cells = [folded.get(key, absent) for key in keys]
        columns.extend(zip(*cells, strict=True))
    return StateRows(table, tuple(ordered), columns)


def _flat(held: tuple[Cell, Cell] | None, absent: Cell) -> Cell:
    return absent if held is None else held[0] + held[1]


def _last(folded: Folded, key: Key, e: Event, item: Any, cells: Cells, _group: Group) -> None:
    guard = (e.version, e.time, e.id)
    held = folded.get(key)
    if held is None or guard > held[0]:
        folded[key] = (guard, cells(e, item))


def _first(folded: Folded, key: Key, e: Event, item: Any, cells: Cells, _group: Group) -> None:
    guard = (e.time, e.id)
    held = folded.get(key)
    if held is None or guard < held[0]:
        folded[key] = (guard, cells(e, item))


def _once(folded: Folded, key: Key, e: Event, item: Any, cells: Cells, _group: Group) -> None:
    if key not in folded:
        folded[key] = cells(e, item)


def _combine(choose: Callable[[Any, Any], Any]) -> Callable[..., None]:
    """A fold that takes each column by itself; NULL says nothing."""

    def fold(folded: Folded, key: Key, e: Event, item: Any, cells: Cells, _group: Group) -> None:
        new = cells(e, item)
        held = folded.get(key)
        if held is not None:
            new = tuple(
                [
                    b if a is None else a if b is None else choose(a, b)
                    for a, b in zip(held, new, strict=True)
                ]
            )
        folded[key] = new

    return fold


def _rank(folded: Folded, key: Key, e: Event, item: Any, cells: Cells, group: Group) -> None:
    new = cells(e, item)
    held = folded.get(key)
    if held is None or group.order.index(new[0]) > group.order.index(held[0]):
        folded[key] = new


_FOLDS: dict[str, Callable[..., None]] = {
    "last": _last,
    "first": _first,
    "once": _once,
    "max": _combine(max),
    "min": _combine(min),
    "add": _combine(lambda a, b: a + b),
    "rank": _rank,
}
