"""From events to rows: each policy folds as SQL does, and the order is the same for everybody."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.cells import Cells
from penstock.schemas.event import Event
from penstock.schemas.event_type import Group
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.folds import Changes, Folded, fold
from penstock.worker.pipeline.plan import Plan, fold_states, make_plan
from tests.support.generated import EventMaker

CATALOGUE = Catalogue.load()
BEGUN = datetime(2026, 11, 1, tzinfo=UTC)


def event(
    number: int, *, version: int = 0, second: int = 0, kind: str = "agents.heartbeat"
) -> Event:
    return Event(
        kind=CATALOGUE.types[kind],
        id=f"id-{number:03}",
        time=BEGUN + timedelta(seconds=second),
        entity="a",
        version=version,
        source="/s",
        actor=None,
        project=None,
        corr=None,
        cause=None,
        data=None,
        raw=Raw(b"{}"),
    )


def generated(kinds: Sequence[str], count: int, seed: int = 1) -> list[Event]:
    maker = EventMaker(random.Random(seed), [f"e-{n}" for n in range(20)], 3000)
    decoder = Decoder(CATALOGUE, Window(CATALOGUE, {}, past="unlimited"), max_bytes=1 << 20)
    made = [maker.message(CATALOGUE.types[kinds[n % len(kinds)]], n) for n in range(count)]
    return [found for found in decoder.decode(made) if isinstance(found, Event)]


def folded(group: Group, changes: Sequence[tuple[str, Event, tuple[Any, ...]]]) -> Folded:
    """Changes folded in two parts, so that the second meets what the first left."""
    found: Folded = {}
    middle = len(changes) // 2
    for part in (changes[:middle], changes[middle:]):
        keys = [(key,) for key, _, _ in part]
        told = Changes(keys, [e for _, e, _ in part], [cells for _, _, cells in part])
        fold(
            found,
            told,
            Cells(lambda _, cells: list(map(tuple, cells))),
            group,
            distinct=not told.repeated,
        )
    return found


LAST = Group("t", "last", ("x",), ("version", "version_at", "version_event"))
FIRST = Group("t", "first", ("x",), ("created_at", "created_event"))
RANK = Group("t", "rank", ("x",), order=("new", "busy", "done"))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("group", "cells", "expected"),
    [
        (LAST, ["a", "b", "c", "d"], (3, BEGUN + timedelta(seconds=1), "id-002", "c")),
        (FIRST, ["a", "b", "c", "d"], (BEGUN, "id-000", "a")),
        (Group("t", "max", ("x",)), [3, None, 7, 5], (7,)),
        (Group("t", "min", ("x",)), [3, None, 7, 5], (3,)),
        (Group("t", "max", ("x",)), [None, None, None, None], (None,)),
        (Group("t", "add", ("x",)), [3, None, 7, 5], (15,)),
        (RANK, ["new", "done", "busy", "new"], ("done",)),
        (Group("t", "once", ("x",)), ["text", "text", "text", "text"], ("text",)),
    ],
    ids=lambda found: found.kind if isinstance(found, Group) else None,
)
def test_a_policy_gives_the_same_in_any_order(
    group: Group, cells: list[Any], expected: tuple[Any, ...], seed: int
) -> None:
    events = [
        event(0, version=1, second=0),
        event(1, version=3, second=0),
        event(2, version=3, second=1),
        event(3, version=2, second=9),
    ]
    changes = [("k", e, (cell,)) for e, cell in zip(events, cells, strict=True)]
    other = ("other", event(9), (cells[0],))
    random.Random(seed).shuffle(changes)
    found = folded(group, [*changes, other])
    assert found["k",] == expected
    assert found.keys() == {("k",), ("other",)}


def test_equal_versions_are_told_apart_by_time_and_then_by_id() -> None:
    later, earlier = event(1, version=1, second=2), event(2, version=1, second=1)
    assert folded(LAST, [("k", later, ("l",)), ("k", earlier, ("e",))])["k",][-1] == "l"
    one, two = event(1), event(2)
    assert folded(LAST, [("k", two, (2,)), ("k", one, (1,))])["k",][-1] == 2
    assert folded(FIRST, [("k", two, (2,)), ("k", one, (1,))])["k",][-1] == 1


def everything(seed: int = 1) -> list[Event]:
    return generated(list(CATALOGUE.types), 400, seed)


def test_histories_and_states_are_sorted_and_have_each_key_once() -> None:
    plan = make_plan(everything())
    assert [found.table for found in plan.history] == sorted({h.table for h in plan.history})
    for history in plan.history:
        ids = [record[history.columns.index("event_id")] for record in history.records]
        assert ids == sorted(ids)
    assert [state.table for state in plan.states] == sorted({s.table for s in plan.states})
    for state in plan.states:
        keys = [row[: len(CATALOGUE.keys[state.table])] for row in state.rows]
        assert keys == sorted(set(keys))
    for parents in plan.stubs.values():
        assert parents == sorted(set(parents))
    for keys in plan.touched.values():
        assert keys == sorted(set(keys))


def comparable(plan: Plan) -> dict[str, Any]:
    found = msgspec.structs.asdict(plan)
    del found["events"]
    return found


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_events_does_not_change_the_plan(seed: int) -> None:
    events = everything()
    expected = comparable(make_plan(events))
    random.Random(seed).shuffle(events)
    assert comparable(make_plan([*events, *events[:50]])) == expected, "some of them come twice"


def test_only_what_is_new_changes_state_and_everything_is_touched() -> None:
    events = generated(["agents.heartbeat"], 60)
    plan = make_plan(events)
    new = {(e.id, e.time) for e in events[:20]}
    fresh = plan.only(new)
    assert fresh.events == events[:20]
    assert fresh.states == make_plan(events[:20]).states
    assert fresh.touched == plan.touched
    assert not plan.only(set()).states


@pytest.mark.parametrize("name", CATALOGUE.types)
def test_rows_that_nobody_else_changes_are_what_folding_makes_of_them(name: str) -> None:
    some = generated([name], 30)
    kind = CATALOGUE.types[name]
    for count in (3, 30):
        in_two = [(kind, some[:1]), (kind, some[1:count])]
        assert fold_states([(kind, some[:count])]) == fold_states(in_two)


def test_events_without_a_history_always_count() -> None:
    plan = make_plan(generated(["messages.sent"], 10))
    assert len(plan.only(set()).events) == 10


def test_times_are_those_of_the_relation_that_is_partitioned() -> None:
    log = [kind.name for kind in CATALOGUE.types.values() if kind.history is not None]
    by_relation: dict[str, list[str]] = {}
    for name in log:
        history = CATALOGUE.types[name].history
        assert history is not None
        by_relation.setdefault(history.relation, []).append(name)
    events = generated(log, 200)
    plan = make_plan(events)
    assert {"events.log_tasks", "agents.heartbeat", "audit.log"} <= by_relation.keys()
    for relation, names in by_relation.items():
        expected = {e.time for e in events if e.kind.name in names}
        assert plan.times(relation, "occurred_at") >= expected
        assert len(expected) > 0
    assert plan.times("events.log_tasks", "occurred_at") == {
        e.time for e in events if e.kind.name in by_relation["events.log_tasks"]
    }


def test_a_fan_out_gives_a_row_for_each_item() -> None:
    kind, state = next(
        (kind, state)
        for kind in CATALOGUE.types.values()
        for state in kind.states
        if state.items is not None
    )
    events = generated([kind.name], 30)
    [rows] = [found for found in make_plan(events).states if found.table == state.table]
    assert state.items is not None
    expected = {state.key(e, item) for e in events for item in state.items(e)}
    assert {row[: len(state.key_columns)] for row in rows.rows} >= expected


def test_of_different_events_with_one_id_and_time_the_first_stays() -> None:
    """As it would if they came in batches of their own."""
    [made], [task] = generated(["agents.heartbeat"], 1), generated(["tasks.created"], 1)
    first, second = (msgspec.structs.replace(made, actor=name) for name in ("first", "second"))
    assert [e.actor for e in make_plan([first, second]).events] == ["first"]
    other = msgspec.structs.replace(task, id=made.id, time=made.time)
    kept = make_plan([first, other, second, other]).events
    assert [e.kind.name for e in kept] == ["agents.heartbeat", "tasks.created"], "another history"
