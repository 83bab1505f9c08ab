"""Rows for the rivals: what a user would write by hand for these events.

Only history rows are made, and for `messages.sent`, which has no history, the message's row. Only
the types of the envelope are checked.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

Record = tuple[Any, ...]

COLUMNS = {
    "agents.heartbeat": (*("event_id", "occurred_at", "agent_id", "status", "load", "metrics"),),
    "events.log": (
        *("domain", "event_id", "occurred_at", "event_type", "entity_id", "version", "source"),
        *("corr", "data"),
    ),
    "messages.message": (
        *("message_id", "sent_at", "recipient", "to_kind", "to_id", "from_id", "kind", "subject"),
        *("payload", "priority", "corr", "status"),
    ),
}


class _Envelope(msgspec.Struct):
    id: str
    type: str
    source: str
    subject: str
    time: datetime
    data: msgspec.Raw
    sequence: int = 0
    correlationid: str | None = None


class _Heartbeat(msgspec.Struct):
    status: str | None = None
    load: float | None = None
    metrics: msgspec.Raw = msgspec.Raw(b"null")


class _Message(msgspec.Struct):
    message_id: str
    to_kind: str
    kind: str
    payload: msgspec.Raw
    to_id: str | None = None
    from_id: str | None = None
    subject: str | None = None
    priority: int = 4


_envelope = msgspec.json.Decoder(_Envelope).decode
_heartbeat = msgspec.json.Decoder(_Heartbeat).decode
_message = msgspec.json.Decoder(_Message).decode


def row(body: bytes) -> tuple[str, Record]:
    """Table and row of an event. Raises ValueError if it cannot be read."""
    e = _envelope(body)
    if e.type == "agents.heartbeat":
        h = _heartbeat(e.data)
        return e.type, (e.id, e.time, e.subject, h.status, h.load, bytes(h.metrics))
    if e.type == "messages.sent":
        m = _message(e.data)
        return "messages.message", (
            *(m.message_id, e.time, e.subject, m.to_kind, m.to_id, m.from_id, m.kind, m.subject),
            *(bytes(m.payload), m.priority, e.correlationid, "sent"),
        )
    domain = e.type.partition(".")[0]
    return "events.log", (
        *(domain, e.id, e.time, e.type, e.subject, e.sequence, e.source),
        *(e.correlationid, bytes(e.data)),
    )


def tables(bodies: Iterable[bytes]) -> dict[str, list[Record]]:
    """Rows by table; events that cannot be read are left out."""
    found: dict[str, list[Record]] = defaultdict(list)
    for body in bodies:
        try:
            table, record = row(body)
        except ValueError:
            continue
        found[table].append(record)
    return found


async def insert(connection: Any, found: dict[str, list[Record]]) -> None:
    """`executemany` with ON CONFLICT DO NOTHING, in one transaction per table."""
    for table, records in found.items():
        await connection.executemany(_INSERTS[table], records)


async def copy(
    connection: asyncpg.Connection, table: str, records: list[Record], schema: str | None = None
) -> None:
    """Binary COPY into ``table``, or into the table of that name in ``schema``."""
    named, _, name = table.partition(".")
    await connection.copy_records_to_table(
        name, schema_name=schema or named, columns=COLUMNS[table], records=records
    )


async def stage(connection: asyncpg.Connection, found: dict[str, list[Record]]) -> None:
    """COPY to the temporary tables of `prepare_staging`, then merge, in one transaction."""
    async with connection.transaction():
        for table, records in found.items():
            await copy(connection, table, records, schema="pg_temp")
            await connection.execute(_MERGES[table])


async def prepare_staging(connection: asyncpg.Connection) -> None:
    """Create the temporary tables, which every commit empties."""
    for table, columns in COLUMNS.items():
        await connection.execute(
            f"CREATE TEMP TABLE {table.partition('.')[2]} ON COMMIT DELETE ROWS AS "
            f"SELECT {', '.join(columns)} FROM {table} WITH NO DATA"
        )


def _insert(table: str) -> str:
    columns = COLUMNS[table]
    places = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) ON CONFLICT DO NOTHING"


def _merge(table: str) -> str:
    columns, name = ", ".join(COLUMNS[table]), table.partition(".")[2]
    return (
        f"INSERT INTO {table} ({columns}) SELECT {columns} FROM pg_temp.{name} "
        "ON CONFLICT DO NOTHING"
    )


_INSERTS = {table: _insert(table) for table in COLUMNS}
_MERGES = {table: _merge(table) for table in COLUMNS}
