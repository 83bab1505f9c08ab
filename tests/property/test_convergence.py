"""Any order, any duplication, any cut into batches: the same events leave the same rows, and the
same derived values.
"""

import asyncio
import random
from itertools import pairwise
from uuid import UUID

import asyncpg
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
from tests.support.rows import clear, snapshot

PACKAGES = ("shop_events", "league_events")
CATALOGUE = Catalogue.load(PACKAGES)
"""The built-in events, and with the examples' also all that the mapping language can say."""

NAMES = ["a-1", "a-1", str(UUID(int=3))]
"""An entity by its text, and another one."""

VIEWS = (
    "agents.v_active",
    "agents.kv_status",
    "collab.ballot_counted",
    "collab.v_brainstorm",
    "collab.v_participant",
    "config.kv",
    "identity.kv",
    "identity.permission",
    "identity.role_permission",
    "identity.v_account_by_email",
    "identity.v_duplicate",
    "knowledge.v_fact",
    "knowledge.v_item",
    "mentorship.v_active",
)

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
    views = {
        view: [
            str(row) for row in await pool.fetch(f"SELECT v.* FROM {view} AS v ORDER BY v::text")
        ]
        for view in VIEWS
    }
    return {**await snapshot(pool), **views}


def ids_of(kind: EventType) -> set[str]:
    """The kinds of id that an event of the type holds: the same text is another key in each."""
    fields = field_types(kind.spec.struct).values()
    inner = [found for field in fields if (found := element(field)) is not None]
    return {found for field in (*fields, *inner) if (found := extra(field, "id"))}


@st.composite
def events(draw: st.DrawFn) -> list[Delivered]:
    """A dozen and more events of a few types about two entities, so that they meet in rows."""
    domains = sorted({kind.spec.domain for kind in CATALOGUE.types.values()})
    domain = draw(st.sampled_from(domains))
    kinds = [kind for kind in CATALOGUE.types.values() if kind.spec.domain == domain]
    few = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=3))
    keys = [entity_uuid(id_kind, "a-1") for id_kind in sorted(set().union(*map(ids_of, few)))]
    maker = EventMaker(random.Random(draw(st.integers(0, 2**32))), [*NAMES, *keys], 40)
    chosen = draw(st.lists(st.sampled_from(few), min_size=4, max_size=16))
    return decoded([maker.message(kind, number) for number, kind in enumerate(chosen)])


@st.composite
def disturbed(draw: st.DrawFn, sent: list[Delivered]) -> list[list[Delivered]]:
    """The same events, some of them again, in any order, cut anywhere."""
    again = draw(st.lists(st.sampled_from(sent), max_size=6))
    shuffled = draw(st.permutations(sent + again))
    cuts = sorted(draw(st.lists(st.integers(0, len(shuffled)), max_size=4)))
    edges = [0, *cuts, len(shuffled)]
    return [shuffled[a:b] for a, b in pairwise(edges) if b > a]


def test_state_does_not_depend_on_delivery(database: str) -> None:
    with asyncio.Runner() as runner:
        runner.run(migrated_by_its_owner(database, PACKAGES))
        pool = runner.run(
            open_pool(database, size=1, statement_timeout=30, lock_timeout=5, name="")
        )

        @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.data())
        def check(data: st.DataObject) -> None:
            sent = data.draw(events())
            expected = runner.run(stored(pool, [sent]))
            assert runner.run(stored(pool, data.draw(disturbed(sent)))) == expected

        check()
        runner.run(pool.close())
