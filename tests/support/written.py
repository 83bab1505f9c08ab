"""Events of the built-in types as a worker writes them, without a broker."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.schemas.identity import escape
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.ports import DeadLetter, Message
from penstock.worker.postgres.sink import PostgresSink
from tests.support.batches import stored_as

CATALOGUE = Catalogue.load()


def outcome(
    number: int, kind: str, subject: str, data: dict[str, Any], sequence: int = 0
) -> Event | DeadLetter:
    """What the decoder makes of an event that occurred ``number`` seconds after midnight."""
    domain, _, verb = kind.partition(".")
    body = {
        "specversion": "1.0",
        "id": str(UUID(int=number)),
        "source": "/test",
        "type": kind,
        "subject": subject,
        "time": f"2026-01-01T00:00:{number:02}Z",
        "sequence": sequence,
        "data": data,
    }
    sent = Message(subject=f"{domain}.{escape(subject)}.{verb}", body=msgspec.json.encode(body))
    window = Window(CATALOGUE, {}, past="unlimited")
    (found,) = Decoder(CATALOGUE, window, max_bytes=1 << 20).decode([sent])
    return found


async def write(pool: asyncpg.Pool, *sent: tuple[str, str, dict[str, Any]], begin: int = 0) -> None:
    """A batch of events a second apart, the first of them after ``begin`` seconds."""
    await store(pool, [outcome(begin + number, *one) for number, one in enumerate(sent)])


async def store(pool: asyncpg.Pool, found: Sequence[Event | DeadLetter]) -> None:
    """One batch of what must all be events."""
    events = [one for one in found if isinstance(one, Event)]
    assert len(events) == len(found), found
    sink = PostgresSink(pool, CATALOGUE, worker_id="test")
    await sink.prepare()
    await sink.write(stored_as(events))
