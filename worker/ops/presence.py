"""Saying that this worker runs, and what it reads, where `penstock status` finds it."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec
import structlog

from penstock.worker.errors import PenstockError
from penstock.worker.pipeline.pipeline import Pipeline

log = structlog.get_logger()

BEAT_SECONDS = 5.0
"""How often a worker says that it runs."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One stream that a worker reads; ``settled_at`` is the Unix time of the last batch that it
    stored and acknowledged.
    """

    transport: str
    stream: str
    in_flight: int
    settled_at: float | None


class Roll(Protocol):
    """Where workers are listed."""

    async def beat(self, sources: Sequence[Reading]) -> None:
        """Be on the list from now on. Raises SinkUnavailable."""


async def keep_present(roll: Roll, pipelines: Sequence[Pipeline]) -> None:
    """Say it every `BEAT_SECONDS` until cancelled; one that fails is only missing."""
    while True:
        try:
            await roll.beat([_reading(pipeline) for pipeline in pipelines])
        except PenstockError as error:
            log.debug("presence_unknown", error=str(error))
        await asyncio.sleep(BEAT_SECONDS)


def _reading(pipeline: Pipeline) -> Reading:
    return Reading(
        transport=pipeline.source.transport,
        stream=pipeline.source.name,
        in_flight=pipeline.busy,
        settled_at=pipeline.settled_at,
    )
