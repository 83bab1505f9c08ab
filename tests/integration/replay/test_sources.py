"""`penstock replay` from a file, a stream queue of RabbitMQ, and PostgreSQL itself."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import aiormq
import asyncpg
import msgspec
import pytest
from click.testing import CliRunner

from penstock.worker.cli import main
from penstock.worker.commands.replay import Report, read_again
from penstock.worker.errors import PenstockError
from penstock.worker.pipeline.ports import Message
from penstock.worker.postgres.replay_sink import ReplaySink
from penstock.worker.replay.asked import Asked
from tests.conftest import fresh_database
from tests.support.connecting import connected
from tests.support.damage import TASKS_UNTIED
from tests.support.mirror import bucket, expected_bucket
from tests.support.replaying import (
    CATALOGUE,
    LOST,
    STREAMS,
    change,
    events,
    held,
    most_present,
    stored,
    write,
)
from tests.support.running import settings_for
from tests.support.waiting import PATIENCE, until
from tests.support.workers import environment

COUNT = 1500
NO_HISTORY = "messages.message"


@pytest.fixture
async def empty(postgres_address: str, migrated: str) -> AsyncIterator[str]:
    """Another database, with all migrations applied and no rows."""
    async with fresh_database(postgres_address, migrated) as dsn:
        yield dsn


async def test_a_file_fills_an_empty_database(
    nats_url: str, database: str, empty: str, tmp_path: Path
) -> None:
    live = settings_for(nats_url, database)
    file = write(tmp_path / "events", events(COUNT))
    await stored(live, file)
    file.write_bytes(file.read_bytes() + b"\n\nnot an event")
    before = await held(database)
    asked = Asked(source="file", stream=str(file))
    report = await read_again(live, asked, into=empty)
    rejected = len(before.pop("letters"))
    assert report.present <= most_present(COUNT)
    assert (report.inserted + report.present, report.rejected) == (COUNT - rejected, rejected + 1)
    after = await held(empty)
    letters = after.pop("letters")
    assert after == before
    assert {(transport, stream) for transport, stream, *_ in letters} == {("file", "events")}
    report = await read_again(live, asked, into=empty)
    assert (report.inserted, report.present, report.differing) == (0, COUNT - rejected, 0)
    changed = sorted(chain(*(await change(empty)).values()))
    report = await read_again(live, asked, into=empty)
    assert sorted(report.differing_ids) == changed
    assert len(changed) == report.differing == 100
    report = await read_again(live, Asked(source="file", stream=str(file), from_seq=3, to_seq=7))
    assert (report.read, report.present) == (5, 5)
    for stream, said in ((str(tmp_path / "none"), "no such file"), (str(file), "it has 1503")):
        with pytest.raises(PenstockError, match=said):
            await read_again(live, Asked(source="file", stream=stream, from_seq=9000))


async def test_an_error_of_our_own_ends_it_and_loses_nothing(
    nats_url: str, empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker would return the messages and wait for somebody who mends it."""

    async def broken(*_: object) -> None:
        raise TypeError("of ours")

    live = settings_for(nats_url, empty, kv="false")
    asked = Asked(source="file", stream=str(write(tmp_path / "events", events(200))))
    with monkeypatch.context() as patched:
        patched.setattr(ReplaySink, "write", broken)
        with pytest.raises(PenstockError, match=r"of ours.*; the same command goes on"):
            await asyncio.wait_for(read_again(live, asked), PATIENCE)
    report = await read_again(live, asked)
    assert (report.read, report.present, report.differing) == (200, 0, 0)


@pytest.mark.faults
async def test_a_stream_queue_fills_an_empty_database(
    nats_url: str, rabbit_url: str, database: str, empty: str, tmp_path: Path
) -> None:
    rabbit = {"brokers": "rabbitmq", "rabbitmq_url": rabbit_url, "rabbitmq_queue_type": "stream"}
    live = settings_for(nats_url, database, **rabbit)
    await stored(live, write(tmp_path / "events", events(COUNT)))
    before = await held(database)
    connection = await asyncpg.connect(database)
    positions = "SELECT transport, stream, epoch, seqs::text FROM bus.position ORDER BY 1, 2, 3, 4"
    places = await connection.fetch(positions)
    for inserted in (True, False):
        for name in STREAMS:
            report = await read_again(live, Asked(source="rabbitmq", stream=name), into=empty)
            assert bool(report.inserted) is inserted
            assert not report.differing
            assert report.finished
        assert await held(empty) == before
    assert await connection.fetch(positions) == places
    await connection.close()
    async with aiormq.connect(rabbit_url) as bus:
        channel = await bus.channel()
        await channel.queue_declare("plain", durable=True)
        await channel.basic_publish(b"kept", routing_key="plain")
    refused: list[tuple[dict[str, Any], str]] = [
        ({"stream": "NONE"}, "stream NONE: no such queue"),
        ({"stream": "plain"}, "it is no stream, but a queue"),
        ({"from_seq": 5000}, "nothing is in the range; it has 0 to"),
    ]
    for options, said in refused:
        with pytest.raises(PenstockError, match=said):
            await read_again(live, Asked(**{"source": "rabbitmq", "stream": STREAMS[0], **options}))
    async with aiormq.connect(rabbit_url) as bus:
        channel = await bus.channel()
        kept = await channel.basic_get("plain", no_ack=True)
        assert (kept.body, kept.redelivered) == (b"kept", False)
        await channel.queue_delete("plain")


async def test_the_histories_give_back_all_but_what_is_named(
    nats_url: str, database: str, empty: str, tmp_path: Path
) -> None:
    live = settings_for(nats_url, database)
    await stored(live, write(tmp_path / "events", [*events(COUNT), *large()]))
    before, mirrored = await held(database), await bucket(nats_url)
    asked = Asked(source="postgres", stream="")
    report = await read_again(live, asked, into=empty)
    after = await held(empty)
    named = {one.type: one for one in report.cannot}
    without = {kind.name for kind in CATALOGUE.types.values() if kind.history is None}
    assert named.keys() == {
        *without,
        "agents.heartbeat",
        "agents.state_set",
        "agents.checkpointed",
        "threads.checkpointed",
    }
    assert all(named[name].what == "it has no history" for name in without)
    assert named["messages.sent"].stream == "AGENT_MESSAGES"
    assert (named["agents.state_set"].events, named["agents.state_set"].stream) == (1, STREAMS[0])
    lost = before["events.log"]
    assert len(after["events.log"]) == len(lost) - 1
    assert set(after["events.log"]) < set(lost)
    same = [name for name in before if name not in {"events.log", *LOST}]
    assert [name for name in same if after[name] != before[name]] == []
    again = await read_again(live, asked)
    assert (again.inserted, again.differing, again.rejected) == (0, 0, 0)
    assert await held(database) == before

    connection = await asyncpg.connect(database)
    await connection.execute(
        f"{TASKS_UNTIED}; DELETE FROM tasks.dependency; DELETE FROM tasks.task"
    )
    await connection.execute("UPDATE agents.agent SET status = NULL")
    await connection.close()
    tables = ("tasks.task", "tasks.dependency", "agents.agent")
    await read_again(live, Asked(source="postgres", stream="", rebuild=tables))
    assert await held(database) == before
    assert await bucket(nats_url) == mirrored == await expected_bucket(database)


def large() -> list[Message]:
    """A value above the limit of the history, one that replaced it, and an agent whose key is made
    from a text, and which sends nothing but heartbeats.
    """
    value = {"state_key": "k", "value": "x" * 9000, "checksum": "c"}
    return [
        message("agents.state_set", "e-1", 1, value),
        message("agents.state_set", "e-2", 2, value),
        message("agents.heartbeat", "e-3", 0, {}),
    ]


def message(kind: str, event_id: str, sequence: int, data: dict[str, Any]) -> Message:
    envelope = {
        "specversion": "1.0",
        "id": event_id,
        "source": "/tests",
        "type": kind,
        "subject": "an agent",
        "time": datetime.now(UTC),
        "sequence": sequence,
        "data": data,
    }
    return Message(subject="", body=msgspec.json.encode(envelope))


@pytest.mark.faults
async def test_a_replay_that_is_killed_goes_on_and_counts_each_message_once(
    nats_url: str, database: str, empty: str, tmp_path: Path
) -> None:
    live = settings_for(nats_url, database)
    file = write(tmp_path / "events", events(2 * COUNT))
    await stored(live, file)
    connection = await asyncpg.connect(empty)

    async def begun() -> int:
        return int(await connection.fetchval("SELECT coalesce(max(read), 0) FROM bus.replay"))

    command = (sys.executable, "-m", "penstock", "replay", "--stream", STREAMS[0])
    environ = os.environ | environment(nats_url, empty, batch_size="10")
    process = await asyncio.create_subprocess_exec(*command, env=environ)
    await until(begun)
    process.kill()
    await process.wait()
    before = await begun()
    process = await asyncio.create_subprocess_exec(
        *command, "--json", env=environ, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await asyncio.wait_for(process.communicate(), 60)
    report = msgspec.json.decode(printed.splitlines()[-1], type=Report)
    assert process.returncode == int(report.rejected > 0)
    async with connected(nats_url) as client:
        total = (await client.jetstream().stream_info(STREAMS[0])).state.messages
    assert 0 < before < total == report.read
    assert (report.replay, report.finished) == (1, True)
    uses = 2 * COUNT // len(CATALOGUE.types) + 1  # of sessions, some of which change nothing
    assert report.present <= uses
    assert await connection.fetchval("SELECT count(*) FROM bus.replay") == 1
    await connection.close()
    rows, lost = await held(database), await held(empty)
    same = [name for name in rows if name.startswith("agents.") and name != "agents.stats"]
    assert [name for name in same if told(rows[name]) != told(lost[name])] == []


def told(rows: list[str]) -> list[str]:
    """Rows that an event of their own stream has told of."""
    return [row for row in rows if '"is_stub": true' not in row]


def test_the_command_says_what_it_needs_in_one_sentence(tmp_path: Path) -> None:
    refused = [
        ([], "name what to read: --stream NAME, --file FILE or --source postgres"),
        (["--file", "x", "--source", "nats"], "--file is a source of its own"),
        (["--file", str(tmp_path / "x")], "no such file"),
        (["--stream", "S", "--source", "postgres", "--to-seq", "3"], "--to-seq does not go with"),
        (["--stream", "S", "--source", "rabbitmq", "--until", "2026-01-01T00:00:00Z"], "--until"),
        (["--stream", "S", "--from-seq", "3", "--since", "2026-01-01T00:00:00Z"], "contradict"),
        (["--stream", "S", "--since", "2026-01-01"], "is no time with an offset"),
    ]
    for arguments, said in refused:
        result = CliRunner().invoke(main, ["replay", *arguments])
        assert result.exit_code == 2
        assert said in result.output
