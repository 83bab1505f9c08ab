"""An audit history that is sealed, and a program that knows of seals only what the docs say."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

import asyncpg

from penstock.worker.postgres.sealed import Examined, SealExamination
from penstock.worker.postgres.seals import sealed_history
from tests.support.running import settings_for

RECORD = r"""
INSERT INTO audit.log (event_id, occurred_at, event_type, entity_id, version, actor, source, data,
    origin, action, resource_type, resource_id, new_values, ip, recorded_at)
SELECT md5($1 || n)::uuid, $3::timestamptz - n * interval '1 hour', 'audit.recorded', $1 || n, n,
    E'Zoë "\\\\" \t', '/tests', '{"b": [1.10, null, "\u00e9"], "a": 1e3}', 'event', 'changed',
    'release', 'r-' || n, jsonb_build_object('n', n / 3.0), '10.0.0.1/8',
    $4::timestamptz + n * interval '1 ms'
FROM generate_series(1, $2::int) AS n
"""
"""So many rows, of what happened in the hours before one moment, recorded from another one on."""

DELAY = "UPDATE config.parameter SET value = $1 WHERE name = 'audit.seal_delay'"
_NO_TRIGGERS = "SET session_replication_role TO replica", "RESET session_replication_role"
ROUNDS = ((180, 120), (90, 60), (40, 30))
"""Minutes ago: when rows are recorded, and up to when they are sealed."""


async def sealed_in_rounds(connection: asyncpg.Connection) -> None:
    """Three times four rows of this month, and as many late ones of the month before: six seals."""
    now = datetime.now(UTC)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for number, (recorded, upto) in enumerate(ROUNDS):
        at = now - timedelta(minutes=recorded)
        await connection.execute(RECORD, f"late {number} ", 4, month, at)
        await connection.execute(RECORD, f"this {number} ", 4, month + timedelta(days=28), at)
        await seal(connection, upto * 60)


async def seal(connection: asyncpg.Connection, delay: float = 0) -> list[str]:
    """Seal what is older than so many seconds."""
    await unrecorded(connection, DELAY, delay)
    return [name for (name,) in await connection.fetch("SELECT * FROM audit.seal()")]


async def unrecorded(connection: asyncpg.Connection, change: str, *arguments: object) -> None:
    """Do it without a row in the history that is looked at."""
    before, after = _NO_TRIGGERS
    await connection.execute(before)
    await connection.execute(change, *arguments)
    await connection.execute(after)


async def examined(
    dsn: str, since: datetime | None = None, known: Mapping[int, str] | None = None
) -> Examined:
    """What `penstock audit verify` finds."""
    async with sealed_history(settings_for("nats://127.0.0.1:1", dsn)) as history:
        found = SealExamination(history, await history.chain(since), since)
        return await found.examined(known or {})


async def digests(connection: asyncpg.Connection) -> list[tuple[str, str]]:
    """The digest of each seal as it is, and as another program makes it from the rows."""
    before = ""
    found = []
    for one in await connection.fetch("SELECT * FROM audit.seal ORDER BY seal_id"):
        rows = await connection.fetch(
            f"SELECT *, format('%s', ip) AS host FROM audit.\"{one['partition']}\""
            " WHERE recorded_at >= $1 AND recorded_at < $2",
            one["from_at"],
            one["to_at"],
        )
        leaves = sha256(b"".join(sorted(map(_leaf, rows)))).hexdigest()
        times = [f"{one[name]:%Y-%m-%dT%H:%M:%S.%fZ}" for name in ("from_at", "to_at", "sealed_at")]
        said = ["penstock audit seal", 1, one["seal_id"], one["partition"], *times[:2], len(rows)]
        text = "\n".join(map(str, [*said, times[2], before, leaves]))
        found.append((one["digest"].hex(), sha256(text.encode()).hexdigest()))
        before = one["digest"].hex()
    return found


_SAID = (
    *("event_type", "entity_id", "version", "actor", "source", "project_id", "corr", "cause"),
    *("data", "origin", "action", "resource_type", "resource_id", "old_values", "new_values"),
    *("changed", "host", "user_agent", "session_id", "db_user", "txid"),
)
_JSON = {"data", "old_values", "new_values", "changed"}


def _leaf(row: asyncpg.Record) -> bytes:
    words = (row[name] if name in _JSON and row[name] else _json(row[name]) for name in _SAID)
    says = sha256(f"[{', '.join(words)}]".encode()).digest()
    event: UUID = row["event_id"]
    return _sent(row["recorded_at"]) + event.bytes + _sent(row["occurred_at"]) + says


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _sent(at: datetime) -> bytes:
    """Microseconds since 2000, as PostgreSQL sends them."""
    return ((at - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)).to_bytes(8)
