"""The relay between an outbox and a broker that are kept in memory and fail on demand."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

import pytest

from penstock.schemas.catalogue import Catalogue
from penstock.worker.ending import end
from penstock.worker.errors import SinkUnavailable
from penstock.worker.outbox import relay
from penstock.worker.outbox.drafts import Drafts
from penstock.worker.outbox.ports import Backlog, OutboxRow, Outcome
from penstock.worker.outbox.relay import Relay, watch
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.sending.outgoing import Confirmation, PublishRefused
from tests.support.waiting import until

CATALOGUE = Catalogue.load()


class MemoryOutbox:
    """Rows that wait; ``failing`` settlements fail first."""

    def __init__(self, rows: Sequence[OutboxRow], failing: int = 0) -> None:
        self.rows = {row.outbox_id: row for row in rows}
        self.failing = failing
        self.turns = 0

    @asynccontextmanager
    async def turn(self, wake: asyncio.Event) -> AsyncIterator["MemoryOutbox"]:
        self._wake = wake
        self.turns += 1
        yield self

    def insert(self, found: OutboxRow) -> None:
        self.rows[found.outbox_id] = found
        self._wake.set()

    async def waiting(self, busy: Sequence[str]) -> list[OutboxRow]:
        return [row for row in self.rows.values() if row.domain not in busy]

    async def settle(self, outcome: Outcome) -> None:
        if self.failing:
            self.failing -= 1
            raise SinkUnavailable("the disk is full")
        for outbox_id in (*outcome.published, *[found.outbox_id for found in outcome.refused]):
            del self.rows[outbox_id]

    async def backlog(self) -> Backlog:
        return Backlog(waiting=len(self.rows), oldest_age=3.0, refused=0)


class MemorySender:
    """Takes messages; those of ``stuck`` are never confirmed, of ``refusing`` never taken."""

    def __init__(self, stuck: str = "-", refusing: str = "-") -> None:
        self.stuck = stuck
        self.refusing = refusing
        self.sent: list[str] = []
        self.open: dict[str, asyncio.Future[Confirmation]] = {}

    async def send(
        self, subject: str, payload: bytes, msg_id: str, reply_to: str = ""
    ) -> asyncio.Future[Confirmation]:
        assert not reply_to
        assert payload
        future = asyncio.get_running_loop().create_future()
        self.sent.append(msg_id)
        self.open[msg_id] = future
        if subject.startswith(self.refusing):
            future.set_exception(PublishRefused(f"{subject!r}: never"))
        elif not subject.startswith(self.stuck):
            future.set_result(Confirmation("S", len(self.sent)))
        return future

    async def flush(self, patience: float | None = None) -> None:
        assert patience is None


def row(number: int, key: str, kind: str = "tasks.updated") -> OutboxRow:
    data = b'{"status": "running"}' if kind == "tasks.updated" else b'{"activity_type": "x"}'
    return OutboxRow(
        outbox_id=number,
        event_id=str(uuid4()),
        type=kind,
        key=key,
        data=data,
        size=len(data),
        time=datetime.now(UTC),
        sequence=number,
        source="/tests",
        actor=None,
        project=None,
        correlationid=None,
        causationid=None,
    )


def relay_of(outbox: MemoryOutbox, sender: MemorySender, metrics: Metrics | None = None) -> Relay:
    decoder = Decoder(CATALOGUE, Window(CATALOGUE, {}), max_bytes=2**20)
    drafts = Drafts(CATALOGUE, decoder, max_bytes=2**20)
    return Relay(outbox, sender, drafts, metrics or Metrics())


@asynccontextmanager
async def relaying(outbox: MemoryOutbox, sender: MemorySender) -> AsyncIterator[None]:
    task = asyncio.create_task(relay_of(outbox, sender).run())
    try:
        yield
    finally:
        await end(task)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "_PAUSE_SECONDS", 0.01)


async def test_of_one_key_nothing_is_sent_before_what_precedes_it_is_confirmed() -> None:
    rows = [row(1, "a"), row(2, "b"), row(3, "a"), row(4, "a")]
    own = [found.event_id for found in rows if found.key == "a"]
    outbox, sender = MemoryOutbox(rows), MemorySender(stuck="tasks.a")

    def sent_of_a() -> list[str]:
        return [found for found in sender.sent if found in own]

    async with relaying(outbox, sender):
        for expected in (rows[0], rows[2], rows[3]):
            await until(partial(sender.open.__contains__, expected.event_id))
            assert not {found.event_id for found in rows[expected.outbox_id :]} & {*sent_of_a()}
            sender.open[expected.event_id].set_result(Confirmation("S", 1))
        await until(lambda: not outbox.rows)
    assert sent_of_a() == own


async def test_a_domain_that_is_stuck_delays_no_other() -> None:
    stuck = row(1, "t-1")
    outbox, sender = MemoryOutbox([stuck]), MemorySender(stuck="tasks.")
    async with relaying(outbox, sender):
        await until(lambda: sender.sent == [stuck.event_id])
        for number in range(2, 5):
            outbox.insert(row(number, "a-1", "agents.activity"))
            await until(lambda: list(outbox.rows) == [1])
    assert sender.sent.count(stuck.event_id) == 1


async def test_what_comes_without_a_word_is_sent_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "_POLL_SECONDS", 0.01)
    first, silent = row(1, "t-1"), row(2, "t-2")
    outbox, sender = MemoryOutbox([first]), MemorySender()
    async with relaying(outbox, sender):
        await until(lambda: not outbox.rows)
        outbox.rows[silent.outbox_id] = silent
        await until(lambda: not outbox.rows)
    assert sender.sent == [first.event_id, silent.event_id]


async def test_without_a_confirmation_the_turn_ends_and_the_message_is_taken_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay, "_PATIENCE_SECONDS", 0.05)
    stuck, other = row(1, "t-1"), row(2, "t-2")
    outbox, sender = MemoryOutbox([stuck, other]), MemorySender(stuck="tasks.t-1")
    async with relaying(outbox, sender):
        await until(lambda: outbox.turns == 3)
        assert list(outbox.rows) == [1]
    assert sender.open[stuck.event_id].cancelled()
    assert sender.sent.count(other.event_id) == 1


async def test_what_could_not_be_marked_is_marked_before_anything_is_sent_again() -> None:
    """Else a table that can be read and not written would send its rows for ever."""
    rows = [row(1, "t-1"), row(2, "t-2"), row(3, "a-1", "agents.activity")]
    outbox, sender = MemoryOutbox(rows, failing=20), MemorySender()
    async with relaying(outbox, sender):
        await until(lambda: not outbox.rows)
    assert sorted(sender.sent) == sorted(found.event_id for found in rows)


async def test_what_is_refused_lets_the_rest_of_its_key_pass() -> None:
    rows = [row(1, "t-1"), row(2, "a-1", "agents.activity"), row(3, "t-1")]
    outbox, sender = MemoryOutbox(rows), MemorySender(refusing="tasks.")
    metrics = Metrics()
    task = asyncio.create_task(relay_of(outbox, sender, metrics).run())
    counted = metrics.registry.get_sample_value
    await until(
        lambda: (
            counted("penstock_outbox_rows_total", {"outcome": "refused"}) == 2
            and counted("penstock_outbox_rows_total", {"outcome": "published"}) == 1
        )
    )
    await end(task)
    assert not outbox.rows
    assert len(sender.sent) == 3


async def test_what_is_confirmed_is_marked_by_a_worker_that_stops() -> None:
    rows = [row(1, "t-1"), row(2, "t-2")]
    outbox, sender = MemoryOutbox(rows), MemorySender(stuck="tasks.t-2")
    async with relaying(outbox, sender):
        await until(lambda: len(sender.sent) == 2)
    assert list(outbox.rows) == [2]


async def test_how_much_waits_is_told() -> None:
    metrics = Metrics()
    task = asyncio.create_task(watch(MemoryOutbox([row(1, "t-1")]), metrics))
    counted = metrics.registry.get_sample_value
    await until(lambda: counted("penstock_outbox_waiting_rows") == 1)
    assert counted("penstock_outbox_oldest_age_seconds") == 3
    await end(task)
