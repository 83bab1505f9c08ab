"""The SDK's own run loop, with two agents, a hand-off and a tool; no network."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
from agents import Agent, RunConfig, Runner, function_tool
from agents.items import TResponseInputItem
from agents.tracing import get_trace_provider, set_trace_processors
from agents.tracing.provider import SynchronousMultiTracingProcessor
from support_desk.model import WrittenModel, calls, says

import penstock.sync
from penstock import Publisher
from penstock.integrations.openai_agents import PenstockSession, PenstockTracingProcessor
from penstock.worker.embedded import EmbeddedNats
from tests.support.connecting import connected
from tests.support.running import running, settings_for
from tests.support.waiting import until

SECRET = "the password is 7"
SPANS = """
SELECT s.operation, s.name, s.tool, s.input_tokens, s.parent_id IS NULL
FROM spans.span AS s ORDER BY s.occurred_at, s.event_id
"""


@pytest.fixture
async def url(nats_url: str, database: str) -> AsyncIterator[str]:
    async with running(settings_for(nats_url, database)):
        yield nats_url


@pytest.fixture
async def rows(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.fixture
def tracing() -> Iterator[None]:
    get_trace_provider().set_disabled(False)
    yield
    set_trace_processors([])


def message(text: str) -> TResponseInputItem:
    return {"role": "user", "content": text}


@function_tool
def look_up(order: str) -> str:
    return f"{order}: {SECRET}"


def desk(*answers: Any) -> tuple[Agent[None], WrittenModel]:
    model = WrittenModel(*answers)
    shipping = Agent(name="shipping", model=model, tools=[look_up])
    return Agent(name="desk", model=model, handoffs=[shipping]), model


def run(url: str, agent: Agent[None], asked: str, *, content: bool) -> str:
    """In a thread of its own, so with a loop of its own, as in another process."""
    with penstock.sync.Publisher(url, source="/desk") as bus:
        processor = PenstockTracingProcessor(bus, content=content)
        set_trace_processors([processor])
        session = PenstockSession("conversation 7*", bus)
        config = RunConfig(workflow_name="support", group_id="g")
        done = asyncio.run(Runner.run(agent, asked, session=session, run_config=config))
        processor.shutdown()
        return str(done.final_output)


@pytest.mark.usefixtures("tracing")
async def test_a_hand_off_with_a_tool_and_the_conversation_goes_on(
    url: str, rows: asyncpg.Connection
) -> None:
    look = calls("look_up", '{"order": "o-7"}')
    agent, _ = desk(calls("transfer_to_shipping"), look, says("On its way."))
    assert await asyncio.to_thread(run, url, agent, "Where is it?", content=False) == "On its way."
    later, model = desk(says("You are welcome."))
    await asyncio.to_thread(run, url, later, "Thanks \ud83d", content=True)
    (seen,) = model.seen
    kinds = [one.get("type", one.get("role")) for one in seen]
    assert kinds[0] == "user"
    assert kinds.count("function_call") == kinds.count("function_call_output") == 2
    assert seen[-1]["content"] == "Thanks \ud83d"

    async def traced() -> bool:
        query = "SELECT count(*) = 2 FROM spans.span WHERE parent_id IS NULL"
        return bool(await rows.fetchval(query))

    await until(traced)
    found = [tuple(row) for row in await rows.fetch(SPANS)]
    names = {(operation, name) for operation, name, *_ in found}
    assert {("invoke_agent", "desk"), ("invoke_agent", "shipping")} <= names
    assert ("execute_tool", "look_up") in names
    assert "handoff" in {operation for operation, _ in names}
    known = await rows.fetch("SELECT external_id FROM agents.agent ORDER BY 1")
    assert [row[0] for row in known] == ["desk", "shipping"]
    everything = await rows.fetch("SELECT s::text FROM spans.span AS s")
    assert not any(SECRET in row[0] for row in everything)
    assert await rows.fetchval("SELECT count(*) FROM bus.dead_letter") == 0


async def test_items_in_their_order_and_taken_back(url: str) -> None:
    async with Publisher(url, source="/desk") as bus:
        session = PenstockSession("s", bus)
        assert await session.get_items() == []
        assert await session.pop_item() is None
        await session.add_items([])
        many = [message(f"{n}" + "x" * 10_000) for n in range(150)]
        await session.add_items(many)
        await session.add_items([message("a\0b"), {**message("\ud83d"), "\ud83d": ["\0"]}])  # type: ignore[list-item]
        expected = [*many, message("a\ufffdb"), {**message("\ufffd"), "\ufffd": ["\ufffd"]}]
        assert await session.get_items() == expected
        assert await session.get_items(limit=2) == expected[-2:]
        assert await session.get_items(limit=120) == expected[-120:]
        assert await session.pop_item() == expected[-1]
        assert await session.pop_item() == expected[-2]
        assert await session.get_items(limit=1) == [expected[-3]]
        await session.clear_session()
        assert await session.get_items() == []
        await session.add_items([message("again")])
        assert await session.get_items() == [message("again")]
        assert await PenstockSession("t", bus).get_items() == []


@pytest.mark.usefixtures("tracing")
async def test_a_trace_never_disturbs_its_run(caplog: pytest.LogCaptureFixture) -> None:
    set_trace_processors([PenstockTracingProcessor(penstock.sync.Publisher(source="/closed"))])
    agent, _ = desk(says("yes"))
    with caplog.at_level(logging.WARNING):
        assert (await Runner.run(agent, "?")).final_output == "yes"
    assert "a span was not published: the Publisher is not open" in caplog.text


@pytest.mark.usefixtures("tracing")
async def test_the_end_does_not_wait_for_a_bus_that_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with EmbeddedNats(sync_always=False) as server:
        async with connected(server.url) as client:
            await client.jetstream().add_stream(name="ALL", subjects=["spans.>", "agents.>"])
        with penstock.sync.Publisher(server.url, source="/desk") as bus:
            processor = PenstockTracingProcessor(bus)
            set_trace_processors([processor])
            server.pause()
            await Runner.run(desk(says("yes"))[0], "?")
            every = SynchronousMultiTracingProcessor()  # type: ignore[no-untyped-call]
            every.add_tracing_processor(processor)
            with caplog.at_level(logging.WARNING):
                ending = asyncio.create_task(asyncio.to_thread(every.shutdown, timeout=0.2))
                ended, _ = await asyncio.wait({ending}, timeout=20)
            server.resume()
            assert ended
            assert "spans are not confirmed after 0.2 s" in caplog.text
            caplog.clear()
            await asyncio.to_thread(processor.force_flush)
            assert not caplog.records
