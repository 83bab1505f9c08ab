"""``penstock dlq`` on real servers: every reason of the malformed corpus comes right."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from penstock.worker.commands.dlq import by
from penstock.worker.commands.requeue import Correction, requeue
from penstock.worker.errors import PenstockError
from penstock.worker.postgres.letter_box import Filter
from penstock.worker.settings.keys import Settings
from tests.conftest import fresh_database
from tests.integration.pipeline.test_malformed import BAD, HEARTBEAT, body, heartbeat
from tests.support.carriers import Carrier, Sent
from tests.support.running import running, settings_for
from tests.support.waiting import until

PACKED = {"content-type": "application/cloudevents+msgpack"}


class Wrong(NamedTuple):
    """A message that becomes a letter for ``reason``, and what makes the event ``id`` of it."""

    reason: str
    sent: Sent
    id: str
    corrected: bytes | None = None
    to: str | None = None
    headers: Mapping[str, str] = {}


def corpus() -> list[Wrong]:
    """One of each reason that the malformed corpus has, in JSON."""
    found: dict[str, Wrong] = {}
    for subject, make, reason in BAD.values():
        event_id = str(uuid4())
        # The same message id as before: a duplicate window that took it for known would lose it.
        sent = (subject, make(), {"Nats-Msg-Id": event_id})
        found.setdefault(reason, Wrong(reason, sent, event_id, body(id=event_id), HEARTBEAT))
    return list(found.values())


def attributes(event: Mapping[str, Any]) -> dict[str, str]:
    return {f"ce-{name}": str(value) for name, value in event.items() if name != "data"}


def other_modes() -> list[Wrong]:
    """Binary mode and MessagePack, wrong in the body and wrong in a header."""
    events = [heartbeat(data={"load": "high"}) for _ in range(5)]
    bad, good = msgspec.json.encode({"load": "high"}), msgspec.json.encode({"load": 0.5})
    packed_bad, packed_good = map(msgspec.msgpack.encode, ({"load": "high"}, {"load": 0.5}))
    fixed = json.dumps({**events[1], "data": {"load": 0.5}}).encode()
    json_type, packed_type = (
        {"content-type": "application/json"},
        {"content-type": "application/msgpack"},
    )
    return [
        Wrong(
            "invalid_data",
            (HEARTBEAT, bad, {**attributes(events[0]), **json_type}),
            events[0]["id"],
            good,
        ),
        Wrong(
            "invalid_data",
            (HEARTBEAT, msgspec.msgpack.encode(events[1]), PACKED),
            events[1]["id"],
            fixed,
        ),  # JSON is packed by the way
        Wrong(
            "invalid_data",
            (HEARTBEAT, packed_bad, {**attributes(events[2]), **packed_type}),
            events[2]["id"],
            packed_good,
        ),
        Wrong(
            "bad_content_type",
            (HEARTBEAT, good, {**attributes(events[3]), "content-type": "x/y"}),
            events[3]["id"],
            None,
            None,
            json_type,
        ),
    ]


class Bench(NamedTuple):
    """Where a worker runs."""

    carrier: Carrier
    settings: Settings
    database: asyncpg.Connection


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def working(
    carrier: Carrier, nats_address: str, postgres_address: str, migrated: str
) -> AsyncIterator[Bench]:
    async with fresh_database(postgres_address, migrated) as dsn:
        connection = await asyncpg.connect(dsn)
        settings = settings_for(nats_address, dsn, **carrier.settings)
        async with running(settings):
            operator = msgspec.structs.replace(settings, postgres_dsn=dsn)
            yield Bench(carrier, operator, connection)
        await connection.close()


@pytest_asyncio.fixture
async def bench(working: Bench) -> Bench:
    await working.database.execute("TRUNCATE bus.dead_letter")
    return working


async def letters(bench: Bench, count: int) -> list[asyncpg.Record]:
    found: list[asyncpg.Record] = []

    async def kept() -> bool:
        found[:] = await bench.database.fetch("SELECT * FROM bus.dead_letter ORDER BY letter_id")
        return len(found) >= count

    await until(kept)
    assert len(found) == count
    return found


async def statuses(bench: Bench) -> set[tuple[str, str]]:
    rows = await bench.database.fetch("SELECT DISTINCT status, reason FROM bus.dead_letter")
    return {(status, reason) for status, reason in rows}


async def test_every_reason_comes_right_in_every_mode(bench: Bench, tmp_path: Path) -> None:
    wrong = [*corpus(), *other_modes()]
    await bench.carrier.publish([one.sent for one in wrong])
    rows = await letters(bench, len(wrong))
    by_body = {bytes(row["body"]): row for row in rows}
    file = tmp_path / "corrected"
    for one in wrong:
        row = by_body[one.sent[1]]
        assert (row["reason"], row["subject"]) == (one.reason, one.sent[0])
        if one.corrected is not None:
            file.write_bytes(one.corrected)
        change = Correction(
            file=str(file) if one.corrected is not None else None,
            subject=one.to,
            headers=one.headers,
        )
        meant = Filter(ids=[row["letter_id"]])
        await requeue(bench.settings, meant, change, wait=0, dry_run=False, as_json=True)

    async def stored() -> bool:
        assert {status for status, _ in await statuses(bench)} == {"stored"}
        return True

    await until(stored)
    assert await bench.database.fetchval("SELECT count(*) FROM bus.dead_letter") == len(wrong)
    ids = [one.id for one in wrong]
    query = "SELECT count(*) FROM agents.heartbeat WHERE event_id = ANY ($1::uuid[])"
    assert await bench.database.fetchval(query, ids) == len(wrong)


async def one_letter(bench: Bench, sent: Sent) -> Filter:
    await bench.carrier.publish([sent])
    (row,) = await letters(bench, 1)
    return Filter(ids=[row["letter_id"]])


async def sent_again(bench: Bench, meant: Filter, **change: Any) -> int:
    return await requeue(
        bench.settings, meant, Correction(**change), wait=30, dry_run=False, as_json=True
    )


async def test_what_is_still_wrong_is_rejected_with_the_new_reason(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No other letter comes of it, and its event may be stored already in the end."""
    event = heartbeat()
    await bench.carrier.publish([(HEARTBEAT, json.dumps(event).encode(), {})])
    meant = await one_letter(bench, (HEARTBEAT, b"hello", {"X-Odd": "kept"}))
    file = tmp_path / "body"
    file.write_text(json.dumps({**event, "data": {"load": "high"}}))
    assert await sent_again(bench, meant, file=str(file)) == 1
    out, errors = capsys.readouterr()
    (said,) = [json.loads(line) for line in out.splitlines() if line.startswith('{"stored"')]
    assert (said["rejected"], said["letters"][0]["reason"]) == (1, "invalid_data")
    assert "is still wrong: invalid_data" in errors
    (row,) = await letters(bench, 1)
    assert (row["status"], row["reason"]) == ("rejected", "invalid_data")
    assert (bytes(row["body"]), bytes(row["sent_body"])) == (b"hello", file.read_bytes())

    file.write_text(json.dumps(event))  # the very event that is stored
    assert await sent_again(bench, meant, file=str(file)) == 0
    (row,) = await letters(bench, 1)
    assert (row["status"], row["changed_by"]) == ("stored", bench.settings.worker_id)
    with pytest.raises(PenstockError, match="is stored: there is nothing to send"):
        await sent_again(bench, meant)
    with pytest.raises(asyncpg.CheckViolationError, match="it cannot become kept"):
        await bench.database.execute("UPDATE bus.dead_letter SET status = 'kept'")
    changes = await bench.database.fetch(
        "SELECT before, after, reason, changed_by FROM bus.dead_letter_change "
        "WHERE letter_id = $1 ORDER BY change_id",
        row["letter_id"],
    )
    person, worker = by(), bench.settings.worker_id
    assert list(map(tuple, changes)) == [
        ("kept", "requeued", "not_json", person),
        ("requeued", "rejected", "not_json", worker),
        ("rejected", "requeued", "invalid_data", person),
        ("requeued", "stored", "invalid_data", worker),
    ]


async def test_what_the_broker_does_not_take_stays_what_it_was(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    meant = await one_letter(bench, (HEARTBEAT, b"hello", {}))
    assert await sent_again(bench, meant, subject="starships.x.launched") == 1
    assert "takes 'starships.x.launched'" in capsys.readouterr().err
    (row,) = await letters(bench, 1)
    assert (row["status"], row["reason"]) == ("kept", "not_json")
    await bench.database.execute("UPDATE bus.dead_letter SET transport = 'elsewhere'")
    with pytest.raises(PenstockError, match="came from elsewhere, which is not among brokers"):
        await sent_again(bench, meant)


async def test_a_row_that_postgresql_takes_now_is_sent_as_it_came(bench: Bench) -> None:
    await bench.database.execute(
        "ALTER TABLE agents.heartbeat ADD CONSTRAINT calm CHECK (load < 0.7) NOT VALID"
    )
    event_id = str(uuid4())
    meant = await one_letter(bench, (HEARTBEAT, body(id=event_id, data={"load": 0.9}), {}))
    (row,) = await letters(bench, 1)
    assert (row["reason"], row["event_type"]) == ("row_rejected", "agents.heartbeat")
    await bench.database.execute("ALTER TABLE agents.heartbeat DROP CONSTRAINT calm")
    by_filter = Filter(reason="row_rejected", event_type="agents.heartbeat", subject="^agents[.]")
    assert await sent_again(bench, by_filter) == 0
    assert await statuses(bench) == {("stored", "row_rejected")}
    assert meant.ids == [row["letter_id"]]
