"""``penstock dlq`` with letters that no broker is asked for: looking, giving up, and bad input."""

import asyncio
import base64
import json
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from penstock.worker.commands.dlq import discard, export, show_list, show_one
from penstock.worker.commands.letter_filters import wanted
from penstock.worker.errors import MigrationError, PenstockError
from penstock.worker.finding import Verdict
from penstock.worker.postgres.letter_box import Filter, letter_findings
from penstock.worker.postgres.pool import database as pool_of
from penstock.worker.postgres.upkeep import PostgresUpkeep
from penstock.worker.settings.keys import Settings
from tests.support.running import settings_for

PACKED = {"Content-Type": "application/cloudevents+msgpack"}
NOTHING: dict[str, Any] = {
    "statuses": (),
    **dict.fromkeys(("reason", "event_type", "subject", "stream", "error", "since", "until")),
}
_INSERT = """
INSERT INTO bus.dead_letter (transport, stream, subject, headers, raw_headers, body, digest, reason,
                             error, event_type, event_id, recorded_at)
SELECT 'nats', stream, subject, headers::jsonb, 'raw', body, convert_to(reason, 'UTF8'), reason,
       error, event_type, gen_random_uuid(), now() - age
FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::text[],
            $8::interval[])
     AS t (stream, subject, headers, body, reason, error, event_type, age)
"""
LETTERS: tuple[tuple[Any, ...], ...] = (
    (
        "TASKS",
        "tasks.t-1.updated",
        {},
        b'{"a": 1}',
        "invalid_data",
        "Expected X",
        "tasks.updated",
        9,
    ),
    ("TASKS", "tasks.t.x.updated", PACKED, b"\x81\xa1a\x01", "future", "ahead", "tasks.updated", 5),
    ("AGENTS", "agents.a.heartbeat", {}, b"\xff\x00\n", "bad_utf8", "no utf-8", None, 2),
    ("AGENTS", "agents.b.heartbeat", {}, b"hello", "not_json", "malformed", "agents.heartbeat", 0),
)


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A database with one letter of each form."""
    found = await asyncpg.connect(database)
    stream, subject, headers, body, reason, error, kind, hours = zip(*LETTERS, strict=True)
    ages = [timedelta(hours=number) for number in hours]
    await found.execute(
        _INSERT, stream, subject, list(map(json.dumps, headers)), body, reason, error, kind, ages
    )
    yield found
    await found.close()


@pytest.fixture
def settings(connection: asyncpg.Connection, database: str) -> Settings:
    del connection  # only that its letters are there
    return msgspec.structs.replace(
        settings_for("nats://127.0.0.1:9", database), postgres_dsn=database
    )


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({}, [1, 2, 3, 4]),
        ({"reason": "future"}, [2]),
        ({"event_type": "tasks.updated"}, [1, 2]),
        ({"subject": "tasks.*.updated"}, [1]),
        ({"subject": "tasks.>"}, [1, 2]),
        ({"subject": "agents.b.heartbeat"}, [4]),
        ({"stream": "AGENTS"}, [3, 4]),
        ({"error": "expected x"}, [1]),
        ({"error": "%"}, []),
        ({"since": timedelta(hours=3)}, [3, 4]),
        ({"until": timedelta(hours=3)}, [1, 2]),
        ({"statuses": ("kept", "stored"), "after": 3}, [4]),
        ({"statuses": ("stored",)}, []),
    ],
    ids=str,
)
async def test_filters(
    settings: Settings,
    options: dict[str, Any],
    ids: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = datetime.now(UTC)
    chosen = {k: now - ago if isinstance(ago, timedelta) else ago for k, ago in options.items()}
    given = {**NOTHING, **chosen}
    assert await show_list(settings, wanted(**given), 100, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert [letter["letter_id"] for letter in found] == ids
    needed = {"letter_id", "reason", "error", "status", "stream", "subject", "event_id"}
    assert all({*needed, "recorded_at"} <= set(letter) for letter in found)


async def test_pages_and_bodies(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert await show_list(settings, Filter(after=1), 2, as_json=False) == 0
    out, error = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["letter", "2", "3"]
    assert "--after 3" in error
    shown = [("json", '"a": 1'), ("msgpack", '"a": 1'), ("hex", "ff 00 0a"), ("text", "hello")]
    for number, (form, part) in enumerate(shown, 1):
        assert await show_one(settings, number, as_json=False) == 0
        text = capsys.readouterr().out.partition("\nbody, ")[2]
        assert text.startswith(f"{form}:"), text
        assert part in text
    assert await export(settings, Filter()) == 0
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    bodies = [base64.b64decode(line["body_base64"]) for line in lines]
    assert bodies == [letter[3] for letter in LETTERS]


async def test_giving_up_asks_is_kept_and_ends(
    settings: Settings, connection: asyncpg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    meant = Filter(stream="TASKS")
    with pytest.raises(PenstockError, match=r"discard 2 letters\? Nobody can be asked here"):
        await discard(settings, meant, yes=False, dry_run=False, as_json=True)
    assert await discard(settings, meant, yes=False, dry_run=True, as_json=True) == 0
    assert await connection.fetchval("SELECT count(*) FROM bus.dead_letter_change") == 0
    assert await discard(settings, meant, yes=True, dry_run=False, as_json=True) == 0
    dry, done = map(json.loads, capsys.readouterr().out.splitlines())
    assert (dry["letters"], dry["discarded"], done["discarded"]) == ([1, 2], 0, 2)
    assert await discard(settings, Filter(ids=[1]), yes=True, dry_run=False, as_json=False) == 1
    async with pool_of(settings) as pool:
        open_now = [finding async for finding in letter_findings(pool, 0)]
        full = [finding async for finding in letter_findings(pool, 2)]
        assert [f.verdict for f in (*open_now, *full)] == [Verdict.NOTE, Verdict.BAD]
        await PostgresUpkeep(pool, letters_keep=timedelta(days=1)).maintain()
        assert await connection.fetchval("SELECT count(*) FROM bus.dead_letter") == 4
        await PostgresUpkeep(pool, letters_keep=timedelta(0)).maintain()
    rows = await connection.fetch("SELECT status FROM bus.dead_letter")
    assert [status for (status,) in rows] == ["kept", "kept"]
    assert await connection.fetchval("SELECT count(*) FROM bus.dead_letter_change") == 0


async def test_nothing_is_touched_where_something_is_wrong(
    settings: Settings, connection: asyncpg.Connection
) -> None:
    for arguments, said in (
        (("requeue", "99"), "no letter 99"),
        (("requeue", "--reason", "too_deep"), "no letter is like that"),
        (("requeue",), "say which letters"),
        (("discard", "1", "98", "--yes"), "no letter 98"),
        (("requeue", "1", "2", "--body", "x"), "--edit and --body are for one letter"),
        (("requeue", "2", "--body", __file__), "neither MessagePack nor JSON"),
        (("list", "--since", "yesterday"), "'yesterday' is no time"),
        (("show", "99"), "no letter 99"),
        (("requeue", "1"), "cannot connect to NATS"),
    ):
        code, out, error = await penstock(settings, *arguments)
        assert (code, out) == (2, ""), error
        assert said in error
    assert {
        status for (status,) in await connection.fetch("SELECT status FROM bus.dead_letter")
    } == {"kept"}


async def test_a_worker_settles_only_letters_whose_secret_it_knows(
    connection: asyncpg.Connection,
) -> None:
    """It may not change letters, and the operator may, but not what was noted about them."""
    await connection.execute("SET ROLE penstock_operator")
    secret = await connection.fetchval(
        "UPDATE bus.dead_letter SET status = 'requeued', requeue_id = gen_random_uuid() "
        "WHERE letter_id = 1 RETURNING requeue_id"
    )
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("DELETE FROM bus.dead_letter_change")
    await connection.execute("SET ROLE penstock_ingest")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("UPDATE bus.dead_letter SET status = 'discarded'")
    settle = "SELECT requeue_id, changed FROM bus.settle_requeues($1, $2, $3, 'w')"
    assert await connection.fetch(settle, [uuid4()], [None], [None]) == []
    # Twice in one batch, wrong in one copy: that its event is stored counts.
    twice = await connection.fetch(settle, [secret, secret], ["future", None], ["ahead", None])
    again = await connection.fetch(settle, [secret], ["future"], ["ahead"])
    assert {tuple(row) for row in twice} == {(secret, True)}
    assert [tuple(row) for row in again] == [(secret, False)]
    await connection.execute("RESET ROLE")
    row = await connection.fetchrow(
        "SELECT status, reason, changed_by FROM bus.dead_letter WHERE letter_id = 1"
    )
    assert row is not None
    assert tuple(row) == ("stored", "invalid_data", "w")
    roles = await connection.fetch("SELECT role, changed_by FROM bus.dead_letter_change")
    me = await connection.fetchval("SELECT session_user")
    assert {tuple(row) for row in roles} == {(me, me), (me, "w")}


async def test_a_database_of_an_older_schema_is_named(postgres_dsn: str) -> None:
    settings = msgspec.structs.replace(
        settings_for("nats://127.0.0.1:9", postgres_dsn), postgres_dsn=postgres_dsn
    )
    with pytest.raises(MigrationError, match="penstock migrate up"):
        await show_list(settings, Filter(), 1, as_json=True)


async def penstock(settings: Settings, *arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "penstock", "dlq", *arguments),
        *("--postgres-dsn", settings.postgres_dsn, "--nats-url", settings.nats_url),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    out, error = await process.communicate()
    return process.returncode, out.decode(), error.decode()
