"""Databases that are filled by a worker, lost, and filled again by `penstock replay`."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.worker.commands.one_worker import run
from penstock.worker.commands.provision import provision
from penstock.worker.commands.publish import publish_file
from penstock.worker.commands.replay import Report
from penstock.worker.pipeline.ports import Message
from penstock.worker.settings.keys import Settings
from tests.support.connecting import connected, connection_to
from tests.support.generated import EventMaker
from tests.support.rows import snapshot

CATALOGUE = Catalogue.load()
STREAMS = tuple(CATALOGUE.streams)


LOST = {
    "letters",
    "agents.last_checkpoint",
    "threads.value",
    *(
        state.table
        for kind in CATALOGUE.types.values()
        if kind.history is None
        for state in kind.states
    ),
}
"""What histories alone cannot bring back as it was: letters, and rows of events without one."""


def most_present(count: int) -> int:
    """A use of a key or of a session that was not the last one changes nothing."""
    return 2 * count // len(CATALOGUE.types) + 2


def events(count: int, seed: int = 7) -> list[Message]:
    """Events of every type in turn, about a few entities."""
    rng = random.Random(seed)
    maker = EventMaker(rng, [f"entity-{n}" for n in range(max(4, count // 50))], 3000)
    kinds = list(CATALOGUE.types.values())
    return [maker.message(kinds[n % len(kinds)], n) for n in range(count)]


def registrations(names: Sequence[str]) -> list[Message]:
    """An event with a history for each of these names of agents."""
    moment = datetime.now(UTC) - timedelta(minutes=10)
    return [
        Message(
            subject="",
            body=msgspec.json.encode(
                {
                    "specversion": "1.0",
                    "id": str(UUID(int=number)),
                    "source": "/tests",
                    "type": "agents.registered",
                    "subject": f"agent-{name}",
                    "time": moment,
                    "data": {"name": name, "agent_type": "worker"},
                }
            ),
        )
        for number, name in enumerate(names, start=1)
    ]


def write(file: Path, messages: Sequence[Message]) -> Path:
    """Events as a file, one a line."""
    file.write_bytes(b"".join([message.body + b"\n" for message in messages]))
    return file


async def stored(settings: Settings, file: Path) -> None:
    """Publish the events of ``file``, and let a worker store them, and tell of nothing itself: how
    often a result changed on the way depends on the batches.
    """
    settings = msgspec.structs.replace(settings, outbox=False)
    await provision(settings, dry_run=False)
    assert await publish_file(settings, str(file), None) == 0
    assert await run(settings, until_idle=1.0) == 0


async def held(dsn: str) -> dict[str, Any]:
    """All rows of all tables, and the dead letters."""
    connection = await asyncpg.connect(dsn)
    try:
        letters = await connection.fetch(
            "SELECT transport, stream, seq, reason, digest FROM bus.dead_letter ORDER BY 1, 2, 3"
        )
        return {**await snapshot(connection), "letters": list(map(tuple, letters))}
    finally:
        await connection.close()


def totals(reports: list[Report]) -> tuple[int, int, int, int]:
    names = ("inserted", "present", "differing", "rejected")
    found = [sum(getattr(report, name) for report in reports) for name in names]
    return found[0], found[1], found[2], found[3]


async def consumers(url: str) -> dict[str, Any]:
    """Every consumer, and how far it is."""
    async with connected(url) as client:
        js = client.jetstream()
        return {
            f"{stream} {info.name}": (info.ack_floor, info.num_pending)
            for stream in STREAMS
            for info in await js.consumers_info(stream)
        }


CHANGES = (
    ("events.log", "event_id", "data = data || '{\"x\": 1}'", 80),
    ("agents.heartbeat", "event_id", "load = coalesce(load, 0) + 1", 10),
    ("audit.log", "event_id", "actor = 'somebody'", 5),
    ("messages.message", "created_event", "payload = '\"other\"'", 5),
)
"""Tables, the column that names the event, what is changed, and in how many rows."""


async def change(dsn: str) -> dict[str, list[str]]:
    """Change 100 rows. Returns the ids of their events, by table."""
    changed = {}
    async with connection_to(dsn) as connection:
        for table, name, what, count in CHANGES:
            found = await connection.fetch(
                f"UPDATE {table} SET {what} WHERE {name} IN (SELECT {name} FROM {table} "
                f"WHERE {name} IS NOT NULL ORDER BY 1 LIMIT {count}) RETURNING {name}::text"
            )
            changed[table] = [event_id for (event_id,) in found]
    return changed
