"""Spans of two frameworks by different conventions, run with models that need no network."""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from langchain_core.language_models import FakeListChatModel
from openinference.instrumentation.langchain import LangChainInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from pydantic_ai import Agent
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.test import TestModel

from penstock.integrations.opentelemetry import PenstockSpanExporter
from tests.support.running import running, settings_for
from tests.support.waiting import until

SECRET = "the password is 7"
SPANS = """
SELECT s.operation, s.agent_id IS NOT NULL, s.model, s.tool, s.input_tokens > 0, s.error_type,
       s.service, s.parent_id IS NULL
FROM spans.span AS s ORDER BY s.started_at, s.occurred_at DESC
"""


class Twice(SpanExporter):
    """What a collector does that was not told of success."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Any) -> SpanExportResult:
        assert self._exporter.export(spans) is SpanExportResult.SUCCESS
        return self._exporter.export(spans)


@pytest.fixture
async def bus(nats_url: str, database: str) -> AsyncIterator[str]:
    async with running(settings_for(nats_url, database)):
        yield nats_url


@pytest.fixture
async def rows(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


def provider_of(exporter: SpanExporter) -> TracerProvider:
    provider = TracerProvider(resource=Resource({"service.name": "test\0\ud83d"}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def forecast(city: str) -> str:
    return f"{city}: {SECRET}"


async def traced(bus: str, *, content: bool) -> None:
    exporter = PenstockSpanExporter(bus, content=content)
    provider = provider_of(Twice(exporter))
    settings = InstrumentationSettings(tracer_provider=provider)
    seeing = Instrumentation(settings=settings)
    agent = Agent(TestModel(), name="weather", tools=[forecast], capabilities=[seeing])

    await agent.run(SECRET)
    with provider.get_tracer("app").start_as_current_span("GET /"):
        pass
    provider.force_flush()
    provider.shutdown()
    exporter.shutdown()


async def stored(rows: asyncpg.Connection, count: int) -> list[tuple[Any, ...]]:
    async def there() -> bool:
        return bool(await rows.fetchval("SELECT count(*) >= $1 FROM spans.span", count))

    await until(there)
    return [tuple(row) for row in await rows.fetch(SPANS)]


async def test_an_agent_of_pydantic_ai(bus: str, rows: asyncpg.Connection) -> None:
    await traced(bus, content=False)
    found = await stored(rows, 4)
    assert [one[0] for one in found] == ["invoke_agent", "chat", "execute_tool", "chat"]
    assert {one[6] for one in found} == {"test\ufffd"}
    assert [one[3] for one in found if one[3]] == ["forecast"]
    assert [one[7] for one in found] == [True, False, False, False]
    calls = [one for one in found if one[0] == "chat"]
    assert [(one[2], one[4]) for one in calls] == [("test", True)] * 2
    await until(lambda: rows.fetchval("SELECT count(*) = 1 FROM agents.agent"))
    known = "SELECT external_id, last_active IS NOT NULL FROM agents.agent"
    assert [tuple(row) for row in await rows.fetch(known)] == [("weather", True)]
    everything = await rows.fetch("SELECT s::text FROM spans.span AS s")
    assert not any(SECRET in row[0] for row in everything)
    assert await rows.fetchval("SELECT sum(calls) FROM spans.usage") == 2
    assert await rows.fetchval("SELECT count(*) FROM bus.dead_letter") == 0


async def test_content_is_kept_for_who_asks(bus: str, rows: asyncpg.Connection) -> None:
    await traced(bus, content=True)
    await stored(rows, 4)
    everything = await rows.fetch("SELECT s::text FROM spans.span AS s")
    assert sum(SECRET in row[0] for row in everything) >= 3


async def test_a_model_of_langchain(bus: str, rows: asyncpg.Connection) -> None:
    exporter = PenstockSpanExporter(bus)
    provider = provider_of(exporter)
    instrumentor = LangChainInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        assert FakeListChatModel(responses=["yes"]).invoke(SECRET).content == "yes"
    finally:
        instrumentor.uninstrument()
    provider.shutdown()
    ((operation, *_),) = await stored(rows, 1)
    assert operation == "chat"
    assert SECRET not in json.dumps(await rows.fetchval("SELECT attributes::text FROM spans.span"))


async def test_what_cannot_be_exported_is_said(caplog: pytest.LogCaptureFixture) -> None:
    exporter = PenstockSpanExporter("nats://127.0.0.1:1", every=True, timeout=1)
    provider = TracerProvider()
    with provider.get_tracer("app").start_as_current_span("a") as span:
        pass
    assert isinstance(span, ReadableSpan)
    with caplog.at_level(logging.WARNING):
        assert exporter.export([span]) is SpanExportResult.FAILURE
    assert "spans were not exported" in caplog.text
    exporter.shutdown()
    assert exporter.export([span]) is SpanExportResult.FAILURE


ENDING = """
import os, signal, sys
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from penstock.integrations.opentelemetry import PenstockSpanExporter

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(PenstockSpanExporter(sys.argv[1])))

def trace(name):
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": name}
    provider.get_tracer("app").start_span("chat", attributes=attributes).end()

def forked(name):
    child = os.fork()
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    else:
        signal.alarm(20)
        trace(name)
        sys.exit()

forked("child of one that is not connected")
trace("first")
provider.force_flush()
forked("child of one that is")
trace("last")
"""
"""Each program ends without closing anything: its last spans are exported at its very end, where
no thread can be started, nor one that looks up a host.
"""


async def test_the_last_spans_of_a_program(bus: str, rows: asyncpg.Connection) -> None:
    words = [sys.executable, "-c", ENDING, bus.replace("127.0.0.1", "localhost")]
    ended = await asyncio.to_thread(
        subprocess.run, words, capture_output=True, check=False, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
    assert {model for _, _, model, *_ in await stored(rows, 4)} == {
        "child of one that is not connected",
        "first",
        "child of one that is",
        "last",
    }
