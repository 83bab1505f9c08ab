"""Bad input of every kind among 100 good neighbours: kept with its reason, they are stored."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from penstock.worker.app import Worker
from penstock.worker.pipeline.ports import NO_HEADERS
from tests.conftest import fresh_database
from tests.support.carriers import Carrier, Sent
from tests.support.rows import clear
from tests.support.running import running, settings_for
from tests.support.waiting import until

AGENT = "2f9471cb-57cc-562e-8f8b-9e6aad260461"
NEIGHBOURS = 100
MEGABYTE = 2**20


def heartbeat(**changes: Any) -> dict[str, Any]:
    event = {
        "specversion": "1.0",
        "id": str(uuid4()),
        "source": f"/agents/{AGENT}",
        "type": "agents.heartbeat",
        "subject": AGENT,
        "time": datetime.now(UTC).isoformat(),
        "data": {"status": "busy", "load": 0.2, "metrics": {"queue": 3.0}},
    }
    return {name: value for name, value in {**event, **changes}.items() if value is not ...}


def body(**changes: Any) -> bytes:
    return json.dumps(heartbeat(**changes)).encode()


def with_raw(text: bytes, **changes: Any) -> bytes:
    """A heartbeat whose unknown field ``note`` holds these very bytes."""
    data = {"status": "busy", "note": "HERE"}
    return body(data=data, **changes).replace(b'"HERE"', text)


def task(**data: Any) -> bytes:
    return body(type="tasks.updated", data={"status": "running", **data})


def hours(count: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=count)).isoformat()


HEARTBEAT = f"agents.{AGENT}.heartbeat"
TASK = f"tasks.{AGENT}.updated"

STATE = f"agents.{AGENT}.state_set"


def state(value: str) -> bytes:
    data = {"state_key": "k", "value": "HERE"}
    event = body(type="agents.state_set", sequence=1, data=data)
    return event.replace(b'"HERE"', value.encode())


BAD: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "not json": (HEARTBEAT, lambda: b"hello", "not_json"),
    "empty": (HEARTBEAT, lambda: b"", "not_json"),
    "byte order mark": (HEARTBEAT, lambda: b"\xef\xbb\xbf" + body(), "not_json"),
    "trailing bytes": (HEARTBEAT, lambda: body() + b"}", "not_json"),
    "gzip": (HEARTBEAT, lambda: b"\x1f\x8b\x08\x00rest", "bad_utf8"),
    "an array": (HEARTBEAT, lambda: b"[]", "not_cloudevent"),
    "no source": (HEARTBEAT, lambda: body(source=...), "not_cloudevent"),
    "other specversion": (HEARTBEAT, lambda: body(specversion="0.3"), "not_cloudevent"),
    "wrong type": (HEARTBEAT, lambda: body(data={"load": "high"}), "invalid_data"),
    "data is a list": (HEARTBEAT, lambda: body(data=[1]), "invalid_data"),
    "unknown status": (HEARTBEAT, lambda: body(data={"status": "asleep"}), "invalid_data"),
    "unknown type": (HEARTBEAT, lambda: body(type="agents.vanished"), "unknown_type"),
    "unknown domain": (HEARTBEAT, lambda: body(type="starships.launched"), "unknown_type"),
    "no time": (HEARTBEAT, lambda: body(time=...), "missing_time"),
    "naive time": (HEARTBEAT, lambda: body(time="2026-11-01T00:00:00"), "bad_time"),
    "time is no time": (HEARTBEAT, lambda: body(time="yesterday"), "bad_time"),
    "year 1": (HEARTBEAT, lambda: body(time="0001-01-01T00:00:00Z"), "out_of_window"),
    "year 9999": (HEARTBEAT, lambda: body(time="9999-12-31T23:59:59Z"), "future"),
    "ten minutes ahead": (HEARTBEAT, lambda: body(time=hours(1 / 6)), "future"),
    "older than kept": (HEARTBEAT, lambda: body(time=hours(-24 * 91)), "out_of_window"),
    "empty id": (HEARTBEAT, lambda: body(id=""), "bad_id"),
    "id is a number": (HEARTBEAT, lambda: body(id=7), "bad_id"),
    "id of 256 letters": (HEARTBEAT, lambda: body(id="x" * 256), "bad_id"),
    "other subject": ("agents.somebody-else.heartbeat", body, "subject_mismatch"),
    "other verb": (f"agents.{AGENT}.updated", body, "subject_mismatch"),
    "other domain": (TASK, body, "subject_mismatch"),
    "nul": (HEARTBEAT, lambda: with_raw(b'"a\\u0000b"'), "nul_character"),
    "nul in a known field": (TASK, lambda: task(error="a\0b"), "nul_character"),
    "nul byte": (HEARTBEAT, lambda: with_raw(b'"a\0b"'), "not_json"),
    "lone surrogate": (HEARTBEAT, lambda: with_raw(b'"\\ud800 and more"'), "lone_surrogate"),
    "lone surrogate at the end": (HEARTBEAT, lambda: with_raw(b'"\\ud800"'), "lone_surrogate"),
    "not utf-8": (HEARTBEAT, lambda: with_raw(b'"\xff\xfe"'), "bad_utf8"),
    "load below zero": (HEARTBEAT, lambda: body(data={"load": -1}), "out_of_range"),
    "number of 200000 digits": (
        TASK,
        lambda: task(result=0).replace(b": 0", b": 1e200000"),
        "out_of_range",
    ),
    "retry count of 2**63": (TASK, lambda: task(retry_count=2**63), "out_of_range"),
    "priority 10": (TASK, lambda: task(priority=10), "out_of_range"),
    "negative sequence": (HEARTBEAT, lambda: body(sequence=-1), "out_of_range"),
    "sequence of 10**40": (HEARTBEAT, lambda: body(sequence=10**40), "out_of_range"),
    "sequence is a word": (HEARTBEAT, lambda: body(sequence="first"), "not_cloudevent"),
    "100,000 levels": (HEARTBEAT, lambda: with_raw(b"[" * 100_000 + b"]" * 100_000), "too_deep"),
    "vertical tab in the subject": ("agents.a\x0b7.heartbeat", body, "subject_mismatch"),
    "form feed in the subject": ("agents.\x0c.heartbeat", body, "subject_mismatch"),
    "control characters": ("agents.\x01\x1c\x1f\x7f.heartbeat", body, "subject_mismatch"),
    "a subject beyond ASCII": ("agents.ü\u2028😀.heartbeat", body, "subject_mismatch"),
    "exploding numbers": (STATE, lambda: state("[" + "1e131071," * 10_000 + "1]"), "out_of_range"),
    "too large written out": (STATE, lambda: state("[" + "1e999," * 9_000 + "1]"), "too_large"),
    "5,000 nines": (STATE, lambda: state("9" * 5_000), "out_of_range"),
    "8 MB": (HEARTBEAT, lambda: with_raw(b'"' + b"x" * 8 * MEGABYTE + b'"'), "too_large"),
}
"""Subject, body and reason. Bodies are made when they are sent: what is right may be wrong then."""

LEGAL: dict[str, Callable[[], bytes]] = {
    "id that is no uuid": lambda: body(id="heartbeat/17 of ü"),
    "upper-case uuid": lambda: body(id=str(uuid4()).upper()),
    "escaped backslash before u0000": lambda: with_raw(b'"a\\\\u0000b"'),
    "surrogate pair": lambda: with_raw(b'"\\ud83d\\ude00"'),
    "unknown field": lambda: body(data={"status": "busy", "mood": "fine"}),
    "unknown extension": lambda: body(shoesize=47),
    "sequence as text": lambda: body(sequence="12"),
    "duplicate keys": lambda: body().replace(b'"specversion"', b'"subject": "x", "specversion"', 1),
}


class Bench:
    """A running worker, and connections to look at what it does."""

    def __init__(self, worker: Worker, carrier: Carrier, database: asyncpg.Connection) -> None:
        self.worker = worker
        self.carrier = carrier
        self.database = database

    async def send(
        self, subject: str, payload: bytes, headers: Mapping[str, str] = NO_HEADERS
    ) -> None:
        """The message in the middle of good neighbours, all delivered in one stretch."""
        good: list[Sent] = [(HEARTBEAT, body(), {}) for _ in range(NEIGHBOURS)]
        half = NEIGHBOURS // 2
        await self.carrier.publish([*good[:half], (subject, payload, headers), *good[half:]])

    async def stored(self) -> int:
        found = await self.database.fetchval("SELECT count(*) FROM agents.heartbeat")
        assert isinstance(found, int)
        return found

    async def letters(self) -> list[asyncpg.Record]:
        return await self.database.fetch("SELECT * FROM bus.dead_letter")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def working(
    carrier: Carrier, nats_address: str, postgres_address: str, migrated: str
) -> AsyncIterator[Bench]:
    """One worker for all tests of a broker: starting it takes longer than they do."""
    async with fresh_database(postgres_address, migrated) as dsn:
        connection = await asyncpg.connect(dsn)
        async with running(settings_for(nats_address, dsn, **carrier.settings)) as worker:
            yield Bench(worker, carrier, connection)
        await connection.close()


@pytest_asyncio.fixture
async def bench(working: Bench) -> Bench:
    # A batch of the test before may still wait for its next try: it would count for this one.
    await until(lambda: drained(working))
    await clear(working.database)
    await working.database.execute("TRUNCATE bus.dead_letter")
    return working


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_is_kept_and_its_neighbours_are_stored(bench: Bench, name: str) -> None:
    subject, make, reason = BAD[name]
    payload = make()

    await bench.send(subject, payload)

    async def settled() -> bool:
        return await bench.stored() >= NEIGHBOURS and bool(await bench.letters())

    await until(settled)
    (letter,) = await bench.letters()
    assert (letter["reason"], letter["subject"]) == (reason, subject)
    assert letter["body"] == payload
    assert (letter["seq"] is not None) == bench.carrier.numbered
    assert letter["error"]
    assert await bench.stored() == NEIGHBOURS


async def drained(bench: Bench) -> bool:
    backlogs = [await source.backlog() for _, source, _ in bench.worker.watched]
    return not any(backlog.pending or backlog.ack_pending for backlog in backlogs)


@pytest.mark.parametrize("name", LEGAL)
async def test_odd_but_legal_input_is_stored(bench: Bench, name: str) -> None:
    await bench.send(HEARTBEAT, LEGAL[name]())

    async def settled() -> bool:
        return await bench.stored() >= NEIGHBOURS + 1

    await until(settled)
    assert await bench.letters() == []


@pytest.mark.parametrize("status", ["100", "404", "408", "409", "500", "503", "600"])
async def test_a_status_header_is_an_ordinary_header(bench: Bench, status: str) -> None:
    await bench.send(HEARTBEAT, body(), {"Status": status, "Description": "not a control message"})

    async def settled() -> bool:
        return await bench.stored() >= NEIGHBOURS + 1

    await until(settled)
    assert await bench.letters() == []


async def test_odd_headers_change_nothing(bench: Bench) -> None:
    odd = {"X-Odd": "a\x0b\x0c\x01b", "Y": "\u2028 😀", "empty": "", "ce": "no attribute"}
    await bench.send(HEARTBEAT, body(), odd)

    async def settled() -> bool:
        return await bench.stored() >= NEIGHBOURS + 1

    await until(settled)
    assert await bench.letters() == []


async def test_numbers_at_the_bounds_and_ends_of_the_calendar_are_stored(bench: Bench) -> None:
    numbers = f"[1e400, 1e999, 1E-999, {'9' * 1000}, 0.{'3' * 1000}]"
    event = json.loads(state("1"))
    event["data"]["expires_at"] = "0001-01-01T00:00:00Z"
    event["data"]["value"] = "HERE"
    await bench.send(STATE, json.dumps(event).replace('"HERE"', numbers).encode())

    async def settled() -> bool:
        return bool(await bench.database.fetchval("SELECT count(*) FROM agents.state"))

    await until(settled)
    assert await bench.letters() == []
    query = "SELECT expires_at, value #>> '{0}' AS first FROM agents.state"
    row = await bench.database.fetchrow(query)
    assert row is not None
    assert row["expires_at"] is None
    assert row["first"] == "1" + "0" * 400


async def test_binary_mode_and_messagepack_are_read(bench: Bench) -> None:
    event = heartbeat()
    attributes = {f"ce-{name}": str(value) for name, value in event.items() if name != "data"}
    binary = {**attributes, "content-type": "application/json"}
    packed = {**attributes, "ce-id": str(uuid4()), "Content-Type": "application/msgpack"}
    structured = {"content-type": "application/cloudevents+msgpack"}

    await bench.send(HEARTBEAT, json.dumps(event["data"]).encode(), binary)
    await bench.send(HEARTBEAT, msgspec.msgpack.encode(event["data"]), packed)
    await bench.send(HEARTBEAT, msgspec.msgpack.encode(heartbeat()), structured)
    await bench.send(HEARTBEAT, b"<beat/>", {**binary, "content-type": "text/xml"})

    async def settled() -> bool:
        return await bench.stored() >= 4 * NEIGHBOURS + 3 and bool(await bench.letters())

    await until(settled)
    assert [letter["reason"] for letter in await bench.letters()] == ["bad_content_type"]
    assert await bench.stored() == 4 * NEIGHBOURS + 3
