"""Agents in JavaScript, Go and Python with the CloudEvents SDKs: every event is stored."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import aio_pika
import asyncpg
import nats
import pytest
from cloudevents.core.bindings import amqp, rabbitmq
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from penstock import Publisher, Receipt
from penstock.worker.commands.event_examples import bus_subject, example_of
from penstock.worker.commands.events import show
from penstock.worker.settings.keys import load
from tests.docs.vectors import CATALOGUE, vectors
from tests.support import languages
from tests.support.connecting import connection_to
from tests.support.running import running, settings_for
from tests.support.waiting import until


def javascript() -> Path:
    return _here(languages.javascript, NO_PACKAGES.format("JavaScript"))


def go() -> Path:
    return _here(languages.go, NO_PACKAGES.format("Go"))


def _here(install: Callable[[], Path], reason: str) -> Path:
    try:
        return install()
    except languages.NoPackages as error:
        pytest.skip(f"{reason}: {error}")


LOG = "agents.activity"
# Without what the worker itself tells by the clock.
COUNT = "SELECT count(*) FROM events.log WHERE source = '/examples'"
TIMES = "SELECT DISTINCT occurred_at FROM events.log WHERE source = '/examples'"
NO_NODE = "node and npm are not available"
NO_GO = "go is not available"
NO_PACKAGES = "the packages of {} are not available"
needs_node = pytest.mark.skipif(languages.missing("npm"), reason=NO_NODE)
needs_go = pytest.mark.skipif(languages.missing("go"), reason=NO_GO)


def activity(identity: str) -> dict[str, Any]:
    return {**example_of(CATALOGUE.types[LOG]), "id": identity, "subject": "ü b.7"}


def state(number: int) -> dict[str, Any]:
    found = {**example_of(CATALOGUE.types["agents.state_set"]), "id": f"s-{number}"}
    return {**found, "subject": "ü b.7", "sequence": number}


@pytest.fixture
async def bus(nats_url: str, rabbit_url: str, database: str) -> AsyncIterator[asyncpg.Connection]:
    more = {"brokers": "nats,rabbitmq", "rabbitmq_url": rabbit_url, "window_past": "unlimited"}
    connection = await asyncpg.connect(database)
    async with running(settings_for(nats_url, database, **more)):
        yield connection
    await connection.close()


async def stored(dsn: str, count: int) -> None:
    """Looks with a new connection each time: one that looked before, while the partition of their
    month was made, has once found nothing for a minute.
    """

    async def all_there() -> bool:
        async with connection_to(dsn) as connection:
            letters = await connection.fetch("SELECT reason, error FROM bus.dead_letter")
            assert letters == []
            everything = await connection.fetch("SELECT source, event_type FROM events.log")
            assert await connection.fetchval(COUNT) == count, everything
        return True

    await until(all_there)


async def read_back(program: list[Any], url: str) -> None:
    async def there() -> bool:
        found = await languages.said([*program, "read", url, "ü b.7", "state-key"])
        assert found == {"version": 2, "value": {"line": 42}}
        return True

    await until(there)


@needs_node
@pytest.mark.usefixtures("bus")
async def test_javascript(database: str, nats_url: str, rabbit_url: str) -> None:
    program: list[Any] = ["node", javascript() / "agent.mjs"]
    for number, (url, mode) in enumerate(
        (url, mode) for url in (nats_url, rabbit_url) for mode in ("structured", "binary")
    ):
        events = [activity(f"js-{number}"), state(number % 2 + 1)]
        assert await languages.said([*program, "send", url, mode], events) == {"sent": 2}
    await stored(database, 4 + 2)
    await read_back(program, nats_url)
    assert await languages.said([*program, "keys"], vectors()) == vectors()


@needs_node
async def test_a_receipt_in_javascript(
    bus: asyncpg.Connection, nats_url: str, rabbit_url: str
) -> None:
    program: list[Any] = ["node", javascript() / "agent.mjs"]
    for number, (url, mode) in enumerate([(nats_url, "binary"), (rabbit_url, "structured")]):
        wrong = {**activity(f"wrong-{number}"), "data": {}}
        told = await languages.said(
            [*program, "ask", url, mode], [activity(f"asked-{number}"), wrong]
        )
        letters = await bus.fetch("SELECT reason, error FROM bus.dead_letter ORDER BY recorded_at")
        assert told == [{"outcome": "stored"}, {"outcome": "rejected", **letters[number]}]
        assert await languages.said(
            [*program, "ask", url, mode], [activity(f"asked-{number}")]
        ) == [{"outcome": "duplicate"}]
    assert await bus.fetchval(COUNT) == 2


async def test_an_example_of_every_type_is_stored(bus: asyncpg.Connection, nats_url: str) -> None:
    """The examples of docs/any-language.md and their like, all types of the catalogue."""
    async with Publisher(nats_url, source="/tests") as publisher:
        asked = [
            await publisher.ask(bus_subject(kind, example), json.dumps(example).encode(), kind.name)
            for kind in CATALOGUE.types.values()
            for example in [example_of(kind)]
        ]
        told = await asyncio.gather(*asked, return_exceptions=True)
    assert dict(zip(CATALOGUE.types, told, strict=True)) == dict.fromkeys(
        CATALOGUE.types, Receipt("stored")
    )
    assert await bus.fetchval("SELECT count(*) FROM bus.dead_letter") == 0


@needs_go
@pytest.mark.usefixtures("bus")
async def test_go(database: str, nats_url: str) -> None:
    program: list[Any] = [go() / "agent"]
    assert await languages.said([*program, "send", nats_url], [activity("go"), state(1), state(2)])
    await stored(database, 3)
    await read_back(program, nats_url)
    assert await languages.said([*program, "keys"], vectors()) == vectors()


async def test_python_sdk(
    bus: asyncpg.Connection, database: str, nats_url: str, rabbit_url: str
) -> None:
    """By both bindings for RabbitMQ, of which one writes the time as milliseconds, and on NATS."""
    subject, form = bus_subject(CATALOGUE.types[LOG], activity("x")), JSONFormat()
    connection = await aio_pika.connect(rabbit_url)
    async with connection:
        channel = await connection.channel(on_return_raises=True)
        exchange = await channel.get_exchange("events")
        for binding in (amqp, rabbitmq):
            for write in (binding.to_binary, binding.to_structured):
                sent = write(sdk_event(f"{binding.__name__} {write.__name__}"), form)
                await exchange.publish(_delivery(sent), subject)
    async with await nats.connect(nats_url) as client:
        js = client.jetstream()
        sent = rabbitmq.to_binary(sdk_event("nats binary"), form)
        await js.publish(subject, sent.body, headers={**sent.headers})
        await js.publish(subject, form.write(sdk_event("nats structured")))
    await stored(database, 6)
    times = await bus.fetch(TIMES)
    assert [row["occurred_at"].isoformat() for row in times] == ["2026-03-01T12:00:00+00:00"]


def sdk_event(identity: str) -> CloudEvent:
    attributes = {name: value for name, value in activity(identity).items() if name != "data"}
    attributes["time"] = datetime.fromisoformat(attributes["time"])
    attributes["sequence"] = str(attributes["sequence"])
    attributes["datacontenttype"] = "application/json"
    return CloudEvent(attributes=attributes, data=activity(identity)["data"])


def _delivery(sent: Any) -> aio_pika.Message:
    if isinstance(sent, rabbitmq.RabbitMQMessage):
        headers: Any = dict(sent.headers)
        return aio_pika.Message(sent.body, headers=headers, content_type=sent.content_type)
    headers = dict(sent.application_properties)
    kind = sent.properties["content-type"]
    return aio_pika.Message(sent.application_data, headers=headers, content_type=kind)


@needs_node
async def test_typescript_accepts_every_example_and_rejects_a_wrong_event(tmp_path: Any) -> None:
    (tmp_path / "penstock.ts").write_text(show("typescript", load({}, {})))
    right = [example_of(kind) for kind in CATALOGUE.types.values()]
    task = example_of(CATALOGUE.types["tasks.updated"])
    counted = example_of(CATALOGUE.types["agents.state_set"])
    del counted["sequence"]
    wrong = [
        {**task, "data": {"status": "asleep"}},
        {**task, "data": {}},
        {**task, "data": {"status": "running", "mood": 1}},
        {**task, "type": "tasks.vanished"},
        {**task, "time": 7},
        counted,
    ]
    head = 'import type { PenstockEvent } from "./penstock";\n'

    def program(events: list[Any], mark: str) -> str:
        lines = [f"{mark}export const e{n}: PenstockEvent = " for n in range(len(events))]
        return head + "".join(
            f"{line}{json.dumps(event)};\n" for line, event in zip(lines, events, strict=True)
        )

    (tmp_path / "right.ts").write_text(program(right, ""))
    (tmp_path / "wrong.ts").write_text(program(wrong, "// @ts-expect-error\n"))
    tsc = javascript() / "node_modules" / ".bin" / "tsc"
    files = [tmp_path / "right.ts", tmp_path / "wrong.ts"]
    checked = await asyncio.create_subprocess_exec(
        *(tsc, "--noEmit", "--strict", *files), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await checked.communicate()
    assert checked.returncode == 0, out.decode()
