"""From events to what one transaction writes. Pure: no I/O, no clock.

History rows are grouped by table and sorted by key; state changes are folded per row by the column
policies of `penstock.schemas.mapping` and sorted by key. As the order is the same everywhere, two
transactions never deadlock.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from itertools import chain, repeat
from operator import add, itemgetter
from typing import Any

import msgspec

from penstock.schemas.cells import NO_ITEMS, Cell
from penstock.schemas.event import Event
from penstock.schemas.event_type import EventType, Group, State, Touch
from penstock.worker.pipeline.folds import Changes, Folded, Key, fold, stated
from penstock.worker.pipeline.ports import DeadLetter, KvTouch


class HistoryRows(msgspec.Struct, frozen=True):
    """Rows of one history table, sorted by event id, one per event id and time."""

    table: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    records: list[tuple[Any, ...]]


class StateRows(msgspec.Struct, frozen=True):
    """Folded changes of one state table, sorted by key.

    ``groups`` are the column groups that any row states. A row has the cells of the key, then those
    of each group, with NULLs for a group that it does not state. ``begun`` is True if every row
    states its ``first`` group, so that probably none is stored yet.
    """

    table: str
    groups: tuple[Group, ...]
    rows: list[tuple[Any, ...]]
    begun: bool


class Plan(msgspec.Struct, frozen=True):
    """What a batch writes to PostgreSQL, and which rows it hydrates afterwards.

    ``stubs`` maps a parent table to the referenced keys, each with the text it was made from;
    ``due`` a function to the keys of what it has to work out anew; ``letters`` is what is kept of
    messages that are no events.
    """

    events: Sequence[Event]
    history: list[HistoryRows]
    states: list[StateRows]
    stubs: dict[str, list[tuple[str, str]]]
    touched: dict[KvTouch, list[Key]]
    due: dict[str, list[Key]]
    letters: Sequence[DeadLetter] = ()

    def only(self, new: Collection[tuple[str, datetime]]) -> "Plan":
        """The same plan, reduced to the ``new`` events and their state changes.

        Events without a history stay in: their policies make a repetition harmless.
        """
        fresh = [e for e in self.events if e.kind.history is None or (e.id, e.time) in new]
        kinds = by_type(fresh)
        return msgspec.structs.replace(
            self, events=fresh, states=fold_states(kinds), stubs=find_stubs(kinds)
        )

    def times(self, relation: str, column: str) -> set[datetime]:
        """What this batch writes to ``column``, the partition key of the table ``relation``."""
        found: set[datetime] = set()
        for kind, same in by_type(self.events):
            history = kind.history
            if history is not None and history.relation == relation:
                index = history.columns.index(column)
                found.update([row[index] for row in history.row.rows(same, NO_ITEMS)])
            for state in kind.states:
                if state.table == relation and column in state.key_columns:
                    index = state.key_columns.index(column)
                    found.update([key[index] for key in changes_of(state, same).keys])
        return found


ByType = Sequence[tuple[EventType, Sequence[Event]]]
"""Events, those of each type together."""


def make_plan(events: Sequence[Event], letters: Sequence[DeadLetter] = ()) -> Plan:
    """Plan a batch. An event that is in it twice counts once."""
    distinct = unique(events)
    kinds = by_type(distinct)
    touched, due = find_afterwards(kinds)
    return Plan(
        events=distinct,
        history=group_history(kinds),
        states=fold_states(kinds),
        stubs=find_stubs(kinds),
        touched=touched,
        due=due,
        letters=letters,
    )


def unique(events: Sequence[Event]) -> Sequence[Event]:
    """The events without repetitions: in CloudEvents, source and id identify an event. The first
    one stays, as it would if the others came in later batches.
    """
    if len({e.id for e in events}) == len(events):
        return events
    found: dict[tuple[str, datetime, str, str], Event] = {}
    for e in events:
        found.setdefault((e.id, e.time, *_kept_in(e.kind)), e)
    return list(found.values())


def _kept_in(kind: EventType) -> tuple[str, str]:
    """The history of a type: a table, and there a domain. What has none is compared by its type."""
    table = kind.history.table if kind.history is not None else kind.name
    return table, kind.name.partition(".")[0]


def by_type(events: Sequence[Event]) -> ByType:
    """The events of each type together, so that what a type asks for is looked up once."""
    found: dict[str, list[Event]] = {}
    for e in events:
        same = found.get(e.kind.name)
        if same is None:
            found[e.kind.name] = [e]
        else:
            same.append(e)
    return [(same[0].kind, same) for same in found.values()]


def group_history(kinds: ByType) -> list[HistoryRows]:
    """History rows by table, sorted by event id."""
    tables: dict[str, HistoryRows] = {}
    for kind, same in kinds:
        rows = kind.history
        if rows is not None:
            found = tables.setdefault(
                rows.table, HistoryRows(rows.table, rows.key, rows.columns, [])
            )
            found.records.extend(rows.row.rows(same, NO_ITEMS))
    for found in tables.values():
        found.records.sort(key=itemgetter(found.columns.index("event_id")))
    return [tables[name] for name in sorted(tables)]


def find_stubs(kinds: ByType) -> dict[str, list[tuple[str, str]]]:
    """The parents that the events refer to, by table, sorted by key. One that is named by its UUID
    and by a text stands there twice.
    """
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for kind, same in kinds:
        for table, reference in kind.references:
            found[table].update([pair for e in same if (pair := reference(e)) is not None])
        for table, listed in kind.listed_references:
            found[table].update(chain.from_iterable(map(listed, same)))
    return {table: sorted(pairs) for table, pairs in sorted(found.items()) if pairs}


def find_afterwards(kinds: ByType) -> tuple[dict[KvTouch, list[Key]], dict[str, list[Key]]]:
    """The rows to hydrate, and the keys of what is to be derived, each once."""
    touched: dict[Touch, set[Key]] = defaultdict(set)
    due: dict[str, set[Key]] = defaultdict(set)
    for kind, same in kinds:
        for rule, key in kind.touches:
            touched[rule].update(key.rows(same, NO_ITEMS))
        for function, key in kind.derives:
            due[function].update(key.rows(same, NO_ITEMS))
    return (
        {KvTouch(*rule): _sorted_keys(keys) for rule, keys in touched.items()},
        {function: _sorted_keys(keys) for function, keys in due.items()},
    )


def fold_states(kinds: ByType) -> list[StateRows]:
    """Fold the events' changes into one row per table and key."""
    tables: dict[str, list[tuple[State, Changes]]] = defaultdict(list)
    for kind, same in kinds:
        for state in kind.states:
            if (changes := changes_of(state, same)).keys:
                tables[state.table].append((state, changes))
    return [_state_rows(table, told) for table, told in sorted(tables.items())]


def changes_of(state: State, events: Sequence[Event]) -> Changes:
    """What events of one type say about the rows of ``state``: one change per event or per item."""
    if state.items is None:
        return Changes(state.key.rows(events, NO_ITEMS), events)
    pairs = [(e, item) for e in events for item in state.items(e)]
    events, items = [e for e, _ in pairs], [item for _, item in pairs]
    return Changes(state.key.rows(events, items), events, items)


def _state_rows(table: str, told: Sequence[tuple[State, Changes]]) -> StateRows:
    if len(told) == 1 and not told[0][1].repeated:
        return _unfolded(table, *told[0])
    groups: dict[Group, Folded] = {}
    for state, changes in told:
        distinct = not changes.repeated
        for group, cells in state.groups:
            fold(groups.setdefault(group, {}), changes, cells, group, distinct=distinct)
    return _folded(table, groups)


def _unfolded(table: str, state: State, changes: Changes) -> StateRows:
    """Where every row is changed once, by one type of events, each change is a row."""
    ordered = sorted(state.groups, key=lambda pair: _place(pair[0]))
    rows: Iterable[Cell] = changes.keys
    for group, cells in ordered:
        rows = map(add, rows, stated(changes, cells, group))
    groups = tuple([group for group, _ in ordered])
    begun = any(group.kind == "first" for group in groups)
    return StateRows(table, groups, _in_order(rows, len(state.key_columns)), begun)


def _folded(table: str, groups: dict[Group, Folded]) -> StateRows:
    ordered = sorted(groups, key=_place)
    keys = _sorted_keys(set().union(*groups.values()))
    rows = keys
    for group in ordered:
        absent = (None,) * (len(group.guard) + len(group.columns))
        rows = list(map(add, rows, map(groups[group].get, keys, repeat(absent))))
    begun = any(group.kind == "first" and len(groups[group]) == len(keys) for group in ordered)
    return StateRows(table, tuple(ordered), rows, begun)


def _place(group: Group) -> tuple[str, tuple[str, ...]]:
    """What the groups of a table are sorted by."""
    return group.kind, group.columns


def _sorted_keys(keys: Collection[Key]) -> list[Key]:
    return _in_order(keys, len(next(iter(keys), ())))


def _in_order(rows: Iterable[Cell], width: int) -> list[Cell]:
    """Sorted by the key, which each has for itself in its first ``width`` cells. Where that is one,
    by the cell, which compares faster than a tuple.
    """
    return sorted(rows, key=itemgetter(0) if width == 1 else None)
