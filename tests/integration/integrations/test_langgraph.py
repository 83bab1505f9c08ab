"""LangGraph's own conformance suite, and a graph that goes on in another process."""

import asyncio
import operator
import os
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypedDict

import asyncpg
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, empty_checkpoint
from langgraph.checkpoint.conformance import validate
from langgraph.checkpoint.conformance.initializer import RegisteredCheckpointer
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from penstock import Asked, PublishRefused, ReadRefused
from penstock.integrations.langgraph import PenstockSaver
from penstock.integrations.langgraph.documents import PART_BYTES, values_of
from penstock.schemas import ThreadValuesStored
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


def checkpoint_of(values: dict[str, Any], versions: dict[str, Any]) -> Checkpoint:
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


class Steps(TypedDict, total=False):
    text: str
    log: Annotated[list[str], operator.add]


async def forked(saver: BaseCheckpointSaver[Any]) -> list[dict[str, Any]]:
    """What a graph's first branch has before and after another begins, and what that one has."""
    steps = StateGraph(Steps)
    steps.add_node("a", lambda now: {"text": now["text"] + "a", "log": [f"a: {now['text']}"]})
    steps.add_node("b", lambda now: {"text": now["text"] + "b", "log": [f"b: {now['text']}"]})
    steps.add_edge(START, "a")
    steps.add_edge("a", "b")
    steps.add_edge("b", END)
    graph = steps.compile(checkpointer=saver)
    here = thread_of("fork")
    await graph.ainvoke({"text": "1"}, here)
    history = [one async for one in graph.aget_state_history(here)]
    old, begun = history[0].config, next(one for one in history if one.next == ("a",))
    found = [(await graph.aget_state(old)).values]
    fork = await graph.aupdate_state(begun.config, {"text": "other"})
    await graph.ainvoke(None, fork)
    return [*found, (await graph.aget_state(old)).values, (await graph.aget_state(here)).values]


async def test_a_fork_leaves_the_old_branch_as_it_was(bus: str) -> None:
    async with PenstockSaver.from_url(bus) as saver:
        first, after, other = await forked(saver)
        assert first == after == {"text": "1ab", "log": ["a: 1", "b: 1a"]}
        assert [first, after, other] == await forked(InMemorySaver())
        # A thread of whole numbers goes on, and numbers that JSON writes otherwise are found.
        assert 8 < saver.get_next_version(7, None) < saver.get_next_version(8, None) < 10
        versions: dict[str, Any] = {
            "a": 7,
            "b": 1e22,
            "c": 1e-7,
            "d": 2.0,
            "e": "0003.5",
            "f": 1e16,
        }
        saved = checkpoint_of({name: name for name in versions}, versions)
        place = await saver.aput(thread_of("numbers"), saved, {}, versions)
        found = await saver.aget_tuple(place)
        assert found is not None
        assert found.checkpoint["channel_values"] == saved["channel_values"]
        assert found.checkpoint["channel_versions"] == versions


async def test_of_values_for_one_version_the_newest_whole_one_counts(bus: str) -> None:
    """As after a step that was stored, was thought lost, and ran again."""
    large = [os.urandom(PART_BYTES + 7) for _ in range(5)]
    async with PenstockSaver.from_url(bus) as saver:

        async def put(value: Any) -> RunnableConfig:
            saved = checkpoint_of({"v": value}, {"v": 1})
            return await saver.aput(thread_of("again"), saved, {}, {"v": 1})

        async def found() -> Any:
            newest = await saver.aget_tuple(thread_of("again"))
            assert newest is not None
            return newest.checkpoint["channel_values"]["v"]

        for value in ("small", *large, large[0], "small again", "small"):
            await put(value)
            assert await found() == value
        saved = checkpoint_of({"v": large[1]}, {"v": 1})
        cut, *_ = values_of(saver.serde, saved, ["v"])
        await saver._store(ThreadValuesStored(thread_id="again", namespace="", values=[cut]))
        assert await found() == "small"


async def test_odd_texts_and_pages(bus: str) -> None:
    async with PenstockSaver.from_url(bus) as saver:
        here = thread_of("odd")
        here["configurable"]["checkpoint_ns"] = "sub\ngraph:1"
        for step in range(3):
            said = {"text": "\ud83d", "nul": ["\0"], "no nul": "\\u0000"}
            metadata: Any = {"step": step, "said": said}
            await saver.aput(here, checkpoint_of({"v": step}, {"v": step + 1}), metadata, {"v": 1})
        seen, after = [], None
        while True:
            [one], after = await saver._page("odd", Asked(limit=1, after=after))
            seen.append(one)
            if after is None:
                break
        assert [one.metadata["step"] for one in seen if one.metadata] == [2, 1, 0]
        assert [len(one.values) for one in seen] == [1, 1, 1]
        held = {"text": "\ufffd", "nul": ["\ufffd"], "no nul": "\\u0000"}
        found = [one async for one in saver.alist({}, filter={"said": held}, limit=1)]
        assert [dict(one.metadata) for one in found] == [{"step": 2, "said": held}]
        with pytest.raises(ReadRefused, match="half of a surrogate pair"):
            await saver.aget_tuple(thread_of("\ud83d"))


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
        with pytest.raises(PublishRefused, match="255 bytes"):
            await saver.aput(thread_of("t" * 250), saved, {}, {"large": 1})
        with pytest.raises(ReadRefused, match=r"271 bytes of routing key, .* takes 255"):
            await saver.aget_tuple(thread_of("t" * 250))
