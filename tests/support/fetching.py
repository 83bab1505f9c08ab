"""Fetching from a source that may be away for a while."""

import asyncio
from collections.abc import Collection

from penstock.worker.errors import SourceUnavailable
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.ports import Message
from penstock.worker.pipeline.source import Source
from tests.support.waiting import PATIENCE


async def patient_fetch(source: Source) -> Batch:
    """The next batch, however often the source is unavailable before."""
    while True:
        try:
            return await source.fetch()
        except SourceUnavailable:
            await asyncio.sleep(0.05)


async def fetch_all(
    source: Source, bodies: Collection[bytes], seconds: float = PATIENCE
) -> list[Message]:
    """Fetch and acknowledge until all ``bodies`` have arrived. Returns everything that arrived."""
    found: list[Message] = []
    async with asyncio.timeout(seconds):
        while not set(bodies) <= {message.body for message in found}:
            batch = await patient_fetch(source)
            await batch.ack()
            found += batch.messages
    return found
