"""The agents of one process: threads of LangGraph, each storing step after step.

A step stores a checkpoint and what a task wrote after it; every few steps the newest checkpoint is
read back, as at the beginning of a run.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Barrier
from typing import Any

import msgspec
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, empty_checkpoint

from penstock.integrations.langgraph import PenstockSaver

_STEPS_PER_RUN = 5
_MESSAGES = [{"role": "assistant", "content": "x" * 200, "n": n} for n in range(10)]
_PATIENCE_SECONDS = 120.0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """``threads`` agents for ``seconds``; ``address`` is that of the bus, or of PostgreSQL."""

    way: str
    address: str
    name: str
    threads: int
    seconds: float


class Load(msgspec.Struct, kw_only=True):
    """How long each step and each reading took, and all of it, in seconds; ``cpu`` is that of the
    process.
    """

    steps: list[float] = []
    reads: list[float] = []
    elapsed: float = 0.0
    cpu: float = 0.0


_gate: Barrier


def prepare(gate: Barrier) -> None:
    """Called once in each process. No step begins before all processes have come to the gate."""
    global _gate  # noqa: PLW0603  (a process pool has no other way to hand over a barrier)
    _gate = gate


def work(job: Job) -> Load:
    """Do a job in this process."""
    return asyncio.run(_work(job))


async def _work(job: Job) -> Load:
    load = Load()
    async with _OPENED[job.way](job.address) as saver:
        await asyncio.to_thread(_gate.wait, _PATIENCE_SECONDS)
        used, begun = time.process_time(), time.perf_counter()
        names = [f"{job.name}-{number}" for number in range(job.threads)]
        until = begun + job.seconds
        await asyncio.gather(*(_thread(saver, name, until, load) for name in names))
        load.elapsed, load.cpu = time.perf_counter() - begun, time.process_time() - used
    return load


async def _thread(saver: BaseCheckpointSaver[Any], name: str, until: float, load: Load) -> None:
    newest: RunnableConfig = {"configurable": {"thread_id": name, "checkpoint_ns": ""}}
    place, number = newest, 0
    while (begun := time.perf_counter()) < until:
        if number % _STEPS_PER_RUN == 0:
            await saver.aget_tuple(newest)
            load.reads.append(time.perf_counter() - begun)
            begun = time.perf_counter()
        place = await _step(saver, place, number)
        load.steps.append(time.perf_counter() - begun)
        number += 1


async def _step(
    saver: BaseCheckpointSaver[Any], place: RunnableConfig, number: int
) -> RunnableConfig:
    versions: dict[str, str | int | float] = {"messages": number + 1, "step": number + 1}
    values = {"messages": _MESSAGES, "step": number}
    checkpoint: Checkpoint = {
        **empty_checkpoint(),
        "channel_values": values,
        "channel_versions": versions,
    }
    place = await saver.aput(place, checkpoint, {"source": "loop", "step": number}, versions)
    await saver.aput_writes(place, [("messages", _MESSAGES[0]), ("step", number)], f"task-{number}")
    return place


@asynccontextmanager
async def _pooled(address: str) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    """As its documentation shows it, with a pool of the default size."""
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver  # noqa: PLC0415  (an extra)
    from psycopg.rows import dict_row  # noqa: PLC0415
    from psycopg_pool import AsyncConnectionPool  # noqa: PLC0415

    settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with AsyncConnectionPool(address, kwargs=settings, open=False) as pool:
        await pool.wait()
        yield AsyncPostgresSaver(pool)


_OPENED: dict[str, Any] = {"penstock": PenstockSaver.from_url, "postgres": _pooled}
