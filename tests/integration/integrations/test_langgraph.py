"""LangGraph's own conformance suite, and a graph that goes on in another process."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, empty_checkpoint
from langgraph.checkpoint.conformance import validate
from langgraph.checkpoint.conformance.initializer import RegisteredCheckpointer

from penstock import Asked, ReadRefused
from penstock.integrations.langgraph import PenstockSaver
from penstock.integrations.langgraph.documents import PART_BYTES
from tests.support.running import running, settings_for


@pytest.fixture
async def bus(nats_url: str, database: str) -> AsyncIterator[str]:
    async with running(settings_for(nats_url, database)):
        yield nats_url


async def test_the_conformance_suite_passes_whole(bus: str) -> None:
    async def opened() -> AsyncIterator[PenstockSaver]:
        async with PenstockSaver.from_url(bus) as saver:
            yield saver

    report = await validate(RegisteredCheckpointer("PenstockSaver", opened))  # type: ignore[arg-type]
    failures = [one for result in report.results.values() for one in result.failures]
    assert failures == []
    assert all(result.passed for result in report.results.values()), report.results
    assert len(report.results) >= 8


def checkpoint_of(values: dict[str, Any], versions: dict[str, int]) -> Checkpoint:
    return {**empty_checkpoint(), "channel_values": values, "channel_versions": {**versions}}


def thread_of(name: str, **more: str) -> RunnableConfig:
    return {"configurable": {"thread_id": name, "checkpoint_ns": "", **more}}


async def test_without_async_and_with_values_beyond_a_message(bus: str, database: str) -> None:
    """Random bytes, which no compression makes small."""
    large, small = os.urandom(3 * PART_BYTES + 7), {"n": 1}
    here = thread_of("ein Faden / *")

    def work() -> None:
        with PenstockSaver.from_url(bus) as saver:
            first = checkpoint_of({"large": large, "small": small}, {"large": 1, "small": 1})
            put = saver.put(here, first, {"source": "input"}, {"large": 1, "small": 1})
            saver.put_writes(put, [("small", 2), ("__error__", "one")], "t", "path")
            saver.put_writes(put, [("small", 3), ("__error__", "two")], "t", "path")
            second = checkpoint_of({"large": large, "small": 2}, {"large": 1, "small": 2})
            saver.put(put, second, {"source": "loop", "run_id": "r"}, {"small": 2})
            newest, oldest = saver.list(here)
            assert newest.checkpoint["channel_values"] == {"large": large, "small": 2}
            assert oldest.checkpoint["channel_values"] == {"large": large, "small": small}
            assert oldest.pending_writes == [("t", "__error__", "two"), ("t", "small", 2)]
            assert newest.parent_config == oldest.config
            assert [one.config for one in saver.list(None, limit=1)] == [newest.config]
            saver.copy_thread("ein Faden / *", "other")
            assert [one[1:3] for one in saver.list(thread_of("other"))] == [
                one[1:3] for one in (newest, oldest)
            ]
            saver.delete_thread("ein Faden / *")
            assert saver.get_tuple(here) is None
            saver.put(here, second, {}, {"large": 1, "small": 2})
            again = saver.get_tuple(here)
            assert again is not None
            assert again.checkpoint["channel_values"] == newest.checkpoint["channel_values"]

    await asyncio.to_thread(work)
    connection = await asyncpg.connect(database)
    counts = "SELECT count(*), count(DISTINCT thread_id) FROM threads.v_checkpoint"
    assert [tuple(row) for row in await connection.fetch(counts)] == [(3, 2)]
    await connection.close()


async def test_what_the_newest_checkpoint_is_made_of_is_not_pruned(bus: str) -> None:
    async with PenstockSaver.from_url(bus) as saver:
        place = thread_of("delta")
        for step in range(5):
            values = {"log": ["snapshot"]} if step == 2 else {}
            changes: Any = {"step": step, "counters_since_delta_snapshot": {"log": (step, step)}}
            saved = checkpoint_of(values, {"log": step + 1})
            place = await saver.aput(place, saved, changes, {"log": step + 1})
        await saver.aprune(["delta"])
        kept = [one.metadata["step"] async for one in saver.alist(thread_of("delta"))]
        assert kept == [4, 3, 2]
        with pytest.raises(RuntimeError, match="use the async method"):
            saver.get_tuple(place)
        assert await asyncio.to_thread(saver.get_tuple, place) is not None
        with pytest.raises(ReadRefused, match="where"):
            await saver._link.call(
                lambda bus: bus.read.page("thread", "x", Asked(where={"namespace": 1}))
            )


async def test_over_rabbitmq(rabbit_url: str, nats_url: str, database: str) -> None:
    own = settings_for(nats_url, database, brokers="rabbitmq", rabbitmq_url=rabbit_url, kv="false")
    async with running(own), PenstockSaver.from_url(rabbit_url) as saver:
        saved = checkpoint_of({"large": "x" * 2_000_000}, {"large": 1})
        place = await saver.aput(thread_of("t"), saved, {"step": 1}, {"large": 1})
        await saver.aput_writes(place, [("large", "y")], "task")
        found = await saver.aget_tuple(thread_of("t"))
        assert found is not None
        assert found.checkpoint["channel_values"] == saved["channel_values"]
        assert found.pending_writes == [("task", "large", "y")]
