"""What readers and the KV bucket get from the tables."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import asyncpg
import pytest

AGENT = UUID(int=1)


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    found = await asyncpg.connect(database, server_settings={"TimeZone": "America/Lima"})
    yield found
    await found.close()


async def register(connection: asyncpg.Connection) -> None:
    await connection.execute(
        "INSERT INTO agents.agent (agent_id, name, registered_at, profile_version, profile_at,"
        " profile_event) VALUES ($1, 'ann', '2026-01-01Z', 2, '2026-01-01Z', gen_random_uuid())",
        AGENT,
    )


async def remember(connection: asyncpg.Connection, value: str | None = '{"b": 1, "a": 2}') -> None:
    await connection.execute(
        "INSERT INTO agents.state (agent_id, state_key, value, version, version_at, version_event,"
        " expires_at) VALUES ($1, 'cursor', $2, 7, '2026-01-01 12:00:00.5Z', $1, '2027-01-01Z')",
        AGENT,
        value,
    )


async def row(connection: asyncpg.Connection, key: str) -> tuple[bool, list[Any], Any]:
    found = await connection.fetchrow(
        "SELECT live, guard::text, value FROM agents.kv WHERE agent_id = $1 AND key = $2",
        AGENT,
        f"{AGENT}.{key}",
    )
    assert found is not None
    value = found["value"] and json.loads(found["value"])
    return found["live"], json.loads(found["guard"]), value


async def test_who_registers_again_is_no_longer_terminated(
    connection: asyncpg.Connection,
) -> None:
    await register(connection)
    retired = "UPDATE agents.agent SET status = 'terminated', status_at = $1, deleted_at = $1"
    again = "UPDATE agents.agent SET registered_at = '2026-03-01Z'"
    status = "UPDATE agents.agent SET status = 'busy', status_at = '2026-03-02Z'"
    active = "SELECT status FROM agents.v_active"
    await connection.execute(retired, datetime(2026, 2, 1, tzinfo=UTC))
    assert await connection.fetchval(active) is None
    assert (await row(connection, "_status"))[0] is False
    for change, expected in ((again, "unknown"), (status, "busy")):
        await connection.execute(change)
        assert await connection.fetchval(active) == expected
        assert (await row(connection, "_status"))[2]["val"]["status"] == expected


async def test_the_last_ballot_in_time_counts(connection: asyncpg.Connection) -> None:
    """The one that comes after the close is kept and does not count, nor does it hide another."""
    ballots = [(1, "early", 1, False), (2, "in time", 5, False), (3, "late", 9, False)]
    await register(connection)
    await connection.execute("INSERT INTO collab.vote_session (session_id) VALUES ($1)", AGENT)
    await connection.executemany(
        "INSERT INTO collab.ballot (ballot_id, session_id, agent_id, option, version, version_at,"
        " version_event, retracted) SELECT u, $2, $2, $3, 0, $4, u, $5"
        " FROM (SELECT $1::uuid AS u) AS own",
        [
            (UUID(int=n), AGENT, option, datetime(2026, 1, day, tzinfo=UTC), retracted)
            for n, option, day, retracted in [*ballots, (4, None, 12, True)]
        ],
    )
    counted = "SELECT option FROM collab.ballot_counted"
    closed = "UPDATE collab.vote_session SET closed_at = $1"
    assert await connection.fetch(counted) == [], "retracted in the end, and nothing is closed"
    for day, expected in ((10, "late"), (6, "in time"), (3, "early")):
        await connection.execute(closed, datetime(2026, 1, day, tzinfo=UTC))
        assert [row[0] for row in await connection.fetch(counted)] == [expected]


async def test_a_state_key_as_the_bucket_holds_it(connection: asyncpg.Connection) -> None:
    await remember(connection)
    live, guard, value = await row(connection, "cursor")
    assert live
    assert guard == [7, "2026-01-01T12:00:00.500000Z", str(AGENT), "", ""]
    assert value == {
        "v": 7,
        "t": "2026-01-01T12:00:00.500000Z",
        "val": {"a": 2, "b": 1},
        "exp": "2027-01-01T00:00:00.000000Z",
        "sum": sha256(b'{"a": 2, "b": 1}').hexdigest(),
        "g": guard,
    }


async def test_a_state_key_may_hold_null(connection: asyncpg.Connection) -> None:
    await remember(connection, None)
    live, _, value = await row(connection, "cursor")
    assert live
    assert value["val"] is None


async def test_retiring_takes_all_keys_away_and_registering_brings_them_back(
    connection: asyncpg.Connection,
) -> None:
    await register(connection)
    await remember(connection)
    guards = {key: [(await row(connection, key))[1]] for key in ("cursor", "_status")}
    for column, moment, alive in (
        ("deleted_at", "2026-01-02Z", False),
        ("registered_at", "2026-01-03Z", True),
        ("deleted_at", "2026-01-04Z", False),
    ):
        await connection.execute(f"UPDATE agents.agent SET {column} = '{moment}'")
        for key, before in guards.items():
            live, guard, value = await row(connection, key)
            assert live is alive
            assert (value is not None) is alive
            before.append(guard)
    for before in guards.values():
        assert before == sorted(before), "a guard went back"
        assert len(set(map(str, before))) == len(before), "a change without a new guard"


@pytest.mark.parametrize(
    "change",
    [
        "profile_version = 3, name = 'eve'",
        "status = 'busy', status_version = 0, status_at = '2026-01-01Z', status_event = agent_id",
        "last_heartbeat = '2026-01-01 00:00:00.000001Z'",
        "last_active = '2026-01-01Z'",
    ],
)
async def test_every_change_of_a_status_makes_its_guard_grow(
    connection: asyncpg.Connection, change: str
) -> None:
    await register(connection)
    _, before, old = await row(connection, "_status")
    await connection.execute(f"UPDATE agents.agent SET {change}")
    _, after, new = await row(connection, "_status")
    assert after > before
    assert new["val"] != old["val"]
    assert new["g"] == after


async def test_a_status_says_what_an_agent_is(connection: asyncpg.Connection) -> None:
    await register(connection)
    _, _, value = await row(connection, "_status")
    assert (value["v"], value["t"]) == (2, "2026-01-01T00:00:00.000000Z")
    assert value["val"] == {
        "status": "unknown",
        "name": "ann",
        "agent_type": None,
        "last_heartbeat": None,
        "last_active": None,
        "parent": None,
        "software_version": None,
    }


async def test_an_agent_that_was_only_mentioned_has_no_status_key(
    connection: asyncpg.Connection,
) -> None:
    await connection.execute(
        "INSERT INTO agents.agent (agent_id, is_stub) VALUES ($1, true)", AGENT
    )
    assert await connection.fetch("SELECT * FROM agents.kv") == []
    assert await connection.fetch("SELECT * FROM agents.v_active") == []


async def test_reading_one_key_reads_no_other_agent(connection: asyncpg.Connection) -> None:
    await connection.execute("SET enable_seqscan = off")
    plan = await connection.fetchval(
        "EXPLAIN (FORMAT JSON) SELECT * FROM agents.kv WHERE agent_id = ANY ($1::uuid[])", [AGENT]
    )
    assert "Seq Scan" not in plan


async def test_a_task_is_ready_once_what_it_waits_for_is_done(
    connection: asyncpg.Connection,
) -> None:
    first, second = UUID(int=1), UUID(int=2)
    await connection.execute(
        "INSERT INTO tasks.task (task_id, status, priority) VALUES ($1, 'pending', 4),"
        " ($2, 'pending', 9)",
        first,
        second,
    )
    await connection.execute(
        "INSERT INTO tasks.dependency (task_id, depends_on, kind) VALUES ($1, $2, 'completion')",
        second,
        first,
    )
    ready = "SELECT task_id FROM tasks.ready"
    assert [task for (task,) in await connection.fetch(ready)] == [first]
    await connection.execute("UPDATE tasks.task SET status = 'completed' WHERE task_id = $1", first)
    assert [task for (task,) in await connection.fetch(ready)] == [second]


async def test_histories_are_read_by_their_familiar_names(connection: asyncpg.Connection) -> None:
    await connection.execute(
        "INSERT INTO events.log (domain, event_id, occurred_at, event_type, entity_id, version,"
        " source, data) SELECT d, gen_random_uuid(), now(), t, 'x', 0, '/s', j::jsonb FROM (VALUES"
        ' (\'agents\', \'agents.status_changed\', \'{"previous": "idle", "status": "busy"}\'),'
        " ('agents', 'agents.activity', '{\"activity_type\": \"search\"}'),"
        " ('tasks', 'tasks.updated', '{\"status\": \"running\"}'),"
        ' (\'collab\', \'votes.cast\', \'{"agent_id": "a-1", "signature": "s"}\')) v(d, t, j)'
    )
    for query, expected in (
        ("SELECT old_status, new_status FROM agents.status_history", ("idle", "busy")),
        ("SELECT event_type FROM agents.lifecycle_events", ("agents.status_changed",)),
        ("SELECT activity_type FROM agents.activity_log", ("search",)),
        ("SELECT task, status FROM tasks.history", ("x", "running")),
        ("SELECT agent, signature FROM collab.vote_audit_trail", ("a-1", "s")),
    ):
        assert [tuple(r) for r in await connection.fetch(query)] == [expected]


async def test_an_instance_shows_its_last_heartbeat(connection: asyncpg.Connection) -> None:
    await register(connection)
    await connection.execute(
        "INSERT INTO agents.instance (agent_id, instance_id) VALUES ($1, $1)", AGENT
    )
    beat = "INSERT INTO agents.heartbeat (event_id, occurred_at, agent_id, instance_id) VALUES "
    await connection.execute(beat + "(gen_random_uuid(), now() - interval '1 hour', $1, $1)", AGENT)
    await connection.execute(beat + "(gen_random_uuid(), now(), $1, $1)", AGENT)
    assert await connection.fetchval(
        "SELECT last_heartbeat = (SELECT max(occurred_at) FROM agents.heartbeat)"
        " FROM agents.v_instance"
    )


async def test_positions_are_merged_and_gaps_shown(connection: asyncpg.Connection) -> None:
    await connection.executemany(
        "INSERT INTO bus.position (transport, stream, epoch, seqs, recorded_at)"
        " VALUES ('nats', 'S', '', $1::text::int8multirange, now() - $2::text::interval)",
        [
            ("{[1,4),[7,9)}", "1 hour"),
            ("{[4,5)}", "2 minutes"),
            ("{[10,11)}", "2 minutes"),
            ("{[20,21)}", "0"),
        ],
    )
    gaps = "SELECT g.missing::text FROM bus.gap AS g ORDER BY g.missing"
    before = await connection.fetch(gaps)
    assert [text for (text,) in before] == ["[5,7)", "[9,10)", "[11,20)"]
    assert await connection.fetchval("SELECT bus.compact_positions()") == 3
    assert await connection.fetchval("SELECT bus.compact_positions()") == 0
    assert await connection.fetch(gaps) == before
    kept = await connection.fetch("SELECT seqs::text FROM bus.position ORDER BY 1")
    assert [text for (text,) in kept] == ["{[1,5),[7,9),[10,11)}", "{[20,21)}"]


async def test_what_was_not_read_yet_is_no_gap(connection: asyncpg.Connection) -> None:
    await connection.executemany(
        "INSERT INTO bus.position (transport, stream, epoch, seqs, begins)"
        " VALUES ('rabbitmq', $1, '', $2::text::int8multirange, $3)",
        [("UNREAD", "{}", 3), ("READ", "{}", 3), ("READ", "{[5,6)}", None)],
    )
    gaps = await connection.fetch("SELECT stream, missing::text FROM bus.gap")
    assert list(map(tuple, gaps)) == [("READ", "[3,5)")]


async def test_a_broken_message_is_kept_once(connection: asyncpg.Connection) -> None:
    keep = (
        "INSERT INTO bus.dead_letter (transport, stream, seq, body, digest, reason)"
        " VALUES ('amqp', 'S', $1, $2, sha256($2), 'not_json') ON CONFLICT DO NOTHING"
    )
    for seq, body in ((None, b"x"), (None, b"x"), (None, b"y"), (1, b"x"), (1, b"x")):
        await connection.execute(keep, seq, body)
    assert await connection.fetchval("SELECT count(*) FROM bus.dead_letter") == 3
