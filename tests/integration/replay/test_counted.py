"""Each message of a replay is stored or rejected, and counts once, whatever fails on the way."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.schemas.event import Event
from penstock.worker.commands.provision import provision
from penstock.worker.commands.publish import publish_file
from penstock.worker.commands.replay import read_again
from penstock.worker.errors import PenstockError, SinkUnavailable, StateStoreUnavailable
from penstock.worker.pipeline.hydrate import NotMirrored
from penstock.worker.pipeline.ports import DeadLetter, Message
from penstock.worker.postgres.history_log import HistoryDecoder
from penstock.worker.postgres.pool import database as pooled
from penstock.worker.postgres.replay_sink import ComparingSink, ReplaySink
from penstock.worker.postgres.replays import Replays
from penstock.worker.replay.asked import Asked
from penstock.worker.settings.keys import Settings
from tests.conftest import fresh_database
from tests.support.connecting import connection_to
from tests.support.replaying import registrations, totals, write
from tests.support.running import settings_for
from tests.support.waiting import PATIENCE

HISTORY = Asked(source="postgres", stream="")


@pytest.fixture
async def empty(postgres_address: str, migrated: str) -> AsyncIterator[str]:
    """Another database, with all migrations applied and no rows."""
    async with fresh_database(postgres_address, migrated) as dsn:
        yield dsn


async def count(dsn: str, table: str) -> int:
    async with connection_to(dsn) as connection:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))


async def filled(settings: Settings, file: Path, number: int) -> None:
    """A database with the history of so many agents."""
    write(file, registrations([f"a-{n}" for n in range(number)]))
    report = await read_again(settings, Asked(source="file", stream=str(file)))
    assert report.inserted == number


async def test_what_an_error_of_our_own_held_back_is_read_by_the_next_run(
    nats_url: str, database: str, empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if that reads in smaller pieces, and more than one ends so."""
    live = settings_for(nats_url, database, kv="false", batch_size="100")
    smaller = settings_for(nats_url, database, kv="false", batch_size="7")
    await filled(live, tmp_path / "events", 400)
    decode = HistoryDecoder.decode

    def broken(self: HistoryDecoder, messages: Sequence[Message]) -> list[Event | DeadLetter]:
        if any(message.subject.endswith("7.registered") for message in messages):
            raise RuntimeError("of ours")
        return decode(self, messages)

    with monkeypatch.context() as patched:
        patched.setattr(HistoryDecoder, "decode", broken)
        for settings in (live, smaller):
            with pytest.raises(PenstockError, match="the same command goes on"):
                await asyncio.wait_for(read_again(settings, HISTORY, into=empty), PATIENCE)
    stored = await count(empty, "events.log")
    assert 0 < stored < 300
    report = await read_again(smaller, HISTORY, into=empty)
    letters = await count(empty, "bus.dead_letter")
    assert letters > 0
    assert totals([report]) == (400 - letters, 0, 0, letters)
    assert await count(empty, "events.log") == 400 - letters
    assert (report.replay, report.finished) == (1, True)


class Fails:
    """Says of the first few that it could not, after it could."""

    def __init__(self, what: Any, error: Exception, times: int) -> None:
        self._what = what
        self._error = error
        self._left = times

    def wrapped(self) -> Any:
        async def call(*arguments: Any) -> Any:
            result = await self._what(*arguments)
            if self._left:
                self._left -= 1
                raise self._error
            return result

        return call


@pytest.mark.parametrize("source", ["file", "postgres"])
async def test_a_message_counts_once_however_often_it_is_committed(
    source: str,
    nats_url: str,
    database: str,
    empty: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {"kv": "false", "batch_size": "20", "nack_delay": "50ms", "in_flight": "2"}
    live = settings_for(nats_url, database, **given)
    file = tmp_path / "events"
    await filled(live, file, 100)
    asked, rejected = HISTORY, 0
    if source == "file":
        asked, rejected = Asked(source="file", stream=str(file)), 5
        file.write_bytes(file.read_bytes() + b"no event\n" * rejected)
    lost = Fails(ReplaySink._transaction, SinkUnavailable("the answer to COMMIT was lost"), 3)
    later = Fails(NotMirrored.hydrate, StateStoreUnavailable("not now"), 4)
    monkeypatch.setattr(ReplaySink, "_transaction", lost.wrapped())
    monkeypatch.setattr(NotMirrored, "hydrate", later.wrapped())
    report = await asyncio.wait_for(read_again(live, asked, into=empty), PATIENCE)
    assert totals([report]) == (100, 0, 0, rejected)
    assert await count(empty, "events.log") == 100
    monkeypatch.setattr(
        ComparingSink, "write", Fails(ComparingSink.write, SinkUnavailable("away"), 3).wrapped()
    )
    report = await read_again(live, asked, into=empty, dry_run=True)
    assert totals([report]) == (0, 100, 0, rejected)


@pytest.mark.parametrize("ahead", [timedelta(hours=1), None])
async def test_a_time_ago_begins_anew_where_what_it_meant_is_gone(
    ahead: timedelta | None, nats_url: str, database: str, tmp_path: Path
) -> None:
    """Nobody is kept for ever from asking for the last hours because a run of last month was ended
    before its time: nothing is there any more from then, or the stream is another one.
    """
    settings = settings_for(nats_url, database, kv="false")
    await provision(settings, dry_run=False)
    file = write(tmp_path / "events", registrations([f"a-{n}" for n in range(20)]))
    assert await publish_file(settings, str(file), None) == 0
    asked = Asked(source="nats", stream="AGENT_STATE", since="25h")
    since = datetime.now(UTC) + ahead if ahead else None
    async with pooled(settings) as pool:
        replays = Replays(pool, worker_id="earlier")
        await replays.begin(asked.text, "another stream", since=since, last=None)
    report = await read_again(settings, asked)
    assert (report.replay, report.went_on, totals([report])) == (2, False, (20, 0, 0, 0))
