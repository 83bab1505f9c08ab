"""Databases that are filled by a worker, lost, and filled again by `penstock replay`."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg

from penstock.schemas.catalogue import Catalogue
from penstock.worker.commands.one_worker import run
from penstock.worker.commands.provision import provision
from penstock.worker.commands.publish import publish_file
from penstock.worker.pipeline.ports import Message
from penstock.worker.settings.keys import Settings
from tests.support.generated import EventMaker
from tests.support.rows import snapshot

CATALOGUE = Catalogue.load()
STREAMS = tuple(CATALOGUE.streams)


def events(count: int, seed: int = 7) -> list[Message]:
    """Events of every type in turn, about a few entities."""
    rng = random.Random(seed)
    maker = EventMaker(rng, [f"entity-{n}" for n in range(max(4, count // 50))], 3000)
    kinds = list(CATALOGUE.types.values())
    return [maker.message(kinds[n % len(kinds)], n) for n in range(count)]


def write(file: Path, messages: Sequence[Message]) -> Path:
    """Events as a file, one a line."""
    file.write_bytes(b"".join([message.body + b"\n" for message in messages]))
    return file


async def stored(settings: Settings, file: Path) -> None:
    """Publish the events of ``file``, and let a worker store them."""
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
