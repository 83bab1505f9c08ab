"""Any order, any duplication, any cut into batches: the same events leave the same rows, and the
same derived values.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.schemas.event_type import EventType
from penstock.schemas.fields import element, extra, field_types
from penstock.schemas.identity import entity_uuid
from penstock.worker.pipeline.commit import Committer
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.derive import Deriver
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.ports import DeadLetter, Message
from penstock.worker.postgres.due import PostgresDue
from penstock.worker.postgres.pool import open_pool
from penstock.worker.postgres.sink import PostgresSink
from tests.support.batches import batch_of
from tests.support.generated import EventMaker
from tests.support.roles import migrated_by_its_owner
from tests.support.rows import clear, contents, snapshot, work_out_all

PACKAGES = ("shop_events", "league_events")
CATALOGUE = Catalogue.load(PACKAGES)
"""The built-in events, and with the examples' also all that the mapping language can say."""

ROUNDS = int(os.environ.get("PENSTOCK_TEST_ROUNDS", "1000"))
"""Of the long run."""

NAMES = ["a-1", "a-1", str(UUID(int=3))]
"""An entity by its text, and another one."""

VIEWS = (
    *CATALOGUE.hydrated,
    "agents.v_active",
    "collab.ballot_counted",
    "collab.v_brainstorm",
    "collab.v_participant",
    "identity.permission",
    "identity.role_permission",
    "identity.v_account_by_email",
    "identity.v_duplicate",
    "knowledge.v_fact",
    "knowledge.v_item",
    "mentorship.v_active",
    "merit.elo_history",
    "trust.v_edge",
)
"""What the buckets hold, and what others read."""

Delivered = tuple[Message, Event]


def decoded(messages: list[Message]) -> list[Delivered]:
    decoder = Decoder(CATALOGUE, Window(CATALOGUE, {}, past="unlimited"), max_bytes=1 << 20)
    outcomes = list(zip(messages, decoder.decode(messages), strict=True))
    assert [o.error for _, o in outcomes if isinstance(o, DeadLetter)] == []
    return [(message, o) for message, o in outcomes if isinstance(o, Event)]


async def stored(pool: asyncpg.Pool, parts: list[list[Delivered]]) -> dict[str, list[str]]:
    """What is in the database after writing these batches into an empty one, each followed by what
    it makes due. Working out all anew changes nothing then.
    """
    await clear(pool)
    deriver = Deriver(PostgresDue(pool), CATALOGUE.derived, Metrics())
    sink = PostgresSink(pool, CATALOGUE, worker_id="test")
    await sink.prepare()
    committer = Committer(sink, name="test", retry_for=5, stopping=asyncio.Event())
    for part in parts:
        batch = batch_of([m for m, _ in part], [event for _, event in part])
        await committer.commit(batch)
        await deriver.derive(batch.plan.due)
    for function in CATALOGUE.derived:
        assert await pool.fetch(f"SELECT * FROM {function}()") == [], function
    await work_out_all(pool)
    return {**await snapshot(pool, by_the_clock=True), **await contents(pool, VIEWS)}


def ids_of(kind: EventType) -> set[str]:
    """The kinds of id that an event of the type holds: the same text is another key in each."""
    fields = field_types(kind.spec.struct).values()
    inner = [found for field in fields if (found := element(field)) is not None]
    return {found for field in (*fields, *inner) if (found := extra(field, "id"))}


@st.composite
def events(
    draw: st.DrawFn, kinds: list[EventType], about: EventType | None = None
) -> list[Delivered]:
    """A dozen and more events of a few types about two entities, so that they meet in rows; of the
    type ``about`` there is one at least.
    """
    domain = about.spec.domain if about else draw(st.sampled_from(domains_of(kinds)))
    near = [kind for kind in kinds if kind.spec.domain == domain]
    wanted = [about] if about else []
    few = [*wanted, *draw(st.lists(st.sampled_from(near), min_size=1, max_size=3))]
    keys = [entity_uuid(id_kind, "a-1") for id_kind in sorted(set().union(*map(ids_of, few)))]
    maker = EventMaker(random.Random(draw(st.integers(0, 2**32))), [*NAMES, *keys], 40)
    chosen = [*wanted, *draw(st.lists(st.sampled_from(few), min_size=4, max_size=16))]
    return decoded([maker.message(kind, number) for number, kind in enumerate(chosen)])


def domains_of(kinds: list[EventType]) -> list[str]:
    return sorted({kind.spec.domain for kind in kinds})


@st.composite
def disturbed(draw: st.DrawFn, sent: list[Delivered]) -> list[list[Delivered]]:
    """The same events, some of them again, in any order, cut anywhere."""
    again = draw(st.lists(st.sampled_from(sent), max_size=6))
    shuffled = draw(st.permutations(sent + again))
    cuts = sorted(draw(st.lists(st.integers(0, len(shuffled)), max_size=4)))
    edges = [0, *cuts, len(shuffled)]
    return [shuffled[a:b] for a, b in pairwise(edges) if b > a]


class Rounds:
    """Writes the same events twice, in order and disturbed, and compares; counts what it did."""

    def __init__(self, pool: asyncpg.Pool, kinds: list[EventType]) -> None:
        self.done = 0
        self.types: Counter[str] = Counter()
        self.filled: set[str] = set()
        self._pool = pool
        self._kinds = kinds

    async def compare(self, data: st.DataObject, about: EventType | None) -> None:
        sent = data.draw(events(self._kinds, about))
        parts = data.draw(disturbed(sent))
        while True:  # scores are those of an hour: not if it strikes in between
            hour = datetime.now(UTC).hour
            expected, found = await stored(self._pool, [sent]), await stored(self._pool, parts)
            if datetime.now(UTC).hour == hour:
                break
        assert found == expected
        self.done += 1
        self.types.update(event.kind.name for _, event in sent)
        self.filled |= {name for name, rows in found.items() if rows}


def converge(
    database: str, rounds: int, kinds: list[EventType], subjects: Sequence[EventType | None]
) -> Rounds:
    """So many rounds with ``kinds`` for each of the subjects, in a database of their own."""
    with asyncio.Runner() as runner:
        runner.run(migrated_by_its_owner(database, PACKAGES))
        pool = runner.run(
            open_pool(database, size=1, statement_timeout=30, lock_timeout=5, name="")
        )
        runner.run(clear(pool))
        assert not any(runner.run(snapshot(pool, by_the_clock=True)).values())
        found = Rounds(pool, kinds)
        for about in subjects:
            compare_often(runner, found, rounds, about)
        runner.run(pool.close())
    return found


def compare_often(
    runner: asyncio.Runner, found: Rounds, rounds: int, about: EventType | None
) -> None:
    @settings(max_examples=rounds, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data: st.DataObject) -> None:
        runner.run(found.compare(data, about))

    check()


def any_of_them(_: EventType) -> bool:
    return True


def of_the_league(kind: EventType) -> bool:
    return kind.spec.struct.__module__ == "league_events"


def test_state_does_not_depend_on_delivery(database: str) -> None:
    converge(database, 50, list(CATALOGUE.types.values()), [None])


@pytest.mark.faults
@pytest.mark.parametrize("chosen", [any_of_them, of_the_league])
def test_a_thousand_rounds(database: str, chosen: Callable[[EventType], bool]) -> None:
    """As many for each type, so that each comes, and each of its tables is filled."""
    begun = time.perf_counter()
    kinds = [kind for kind in CATALOGUE.types.values() if chosen(kind)]
    found = converge(database, -(-ROUNDS // len(kinds)), kinds, kinds)
    print(  # noqa: T201  (with -s)
        f"\n{chosen.__name__}: {found.done} rounds, {found.types.total()} events of "
        f"{len(found.types)} types, {len(found.filled)} tables and views, "
        f"{time.perf_counter() - begun:.0f} s"
    )
    assert found.done >= ROUNDS
    assert set(found.types) == {kind.name for kind in kinds}
    assert {table for kind in kinds for table in kind.tables} <= found.filled
