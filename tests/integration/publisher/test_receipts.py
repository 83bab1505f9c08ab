"""Receipts on real servers: who asks is told what became of an event; who lies harms nothing."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiormq
import asyncpg
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from pamqp.commands import Basic

from penstock import EventRejected, OutcomeUnknown, Publisher, PublishRefused, Receipt
from penstock.schemas.agents import AgentHeartbeat, AgentStateSet
from penstock.worker.embedded import EmbeddedNats
from penstock.worker.errors import SettingsError
from penstock.worker.nats.options import NatsOptions
from penstock.worker.publisher import encode, subject_of, uuid7
from penstock.worker.publisher.encoding import now
from penstock.worker.settings.keys import Settings
from tests.integration.nats.test_users import PASSWORD, provisioned, users, worker_on
from tests.support.connecting import connected
from tests.support.running import running, settings_for
from tests.support.waiting import until

SUBJECT = "agents.a-1.heartbeat"


@pytest.fixture(params=["nats", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> tuple[str, dict[str, str]]:
    """Where events go, and the settings that read them there."""
    if request.param == "nats":
        return request.getfixturevalue("nats_url"), {"brokers": "nats"}
    url = request.getfixturevalue("rabbit_url")
    return url, {"brokers": "rabbitmq", "rabbitmq_url": url}


@pytest.fixture
def settings(broker: tuple[str, dict[str, str]], nats_url: str, database: str) -> Settings:
    return settings_for(nats_url, database, **broker[1])


@pytest.fixture
async def rows(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


def raw(**changes: Any) -> tuple[str, bytes, str]:
    """A heartbeat as bytes, for `Publisher.ask`."""
    event = AgentHeartbeat(agent_id="a-1")
    attributes = {"id": uuid7(), "time": now(), "source": "/test", **changes}
    return subject_of(event), encode(event, **attributes), attributes["id"]


async def test_each_receipt_is_true(
    settings: Settings, broker: tuple[str, dict[str, str]], rows: asyncpg.Connection
) -> None:
    async with running(settings), Publisher(broker[0], source="/test") as bus:
        asked = [
            await bus.publish_soon(AgentHeartbeat(agent_id=f"a-{n % 7}"), id=f"e-{n}", receipt=True)
            for n in range(300)
        ]
        bad = await bus.ask(SUBJECT, b"{", "m-1")
        assert set(await asyncio.gather(*asked)) == {Receipt("stored")}
        assert await rows.fetchval("SELECT count(*) FROM agents.heartbeat") == 300
        with pytest.raises(EventRejected) as rejected:
            await bad
        assert rejected.value.reason == "not_json"
        found = await rows.fetchrow("SELECT reason, error FROM bus.dead_letter")
        assert tuple(found or ()) == (rejected.value.reason, rejected.value.error)
        late = datetime.now(UTC) + timedelta(days=2)
        with pytest.raises(EventRejected, match=r"^future: "):
            await bus.publish(AgentHeartbeat(agent_id="a-1"), time=late, receipt=True)
        sent = now()
        for outcome in ("stored", "duplicate", "duplicate"):
            event = AgentStateSet(agent_id="a-1", state_key="k", value=1)
            receipt = await bus.publish(event, id="once", time=sent, sequence=3, receipt=True)
            assert receipt.outcome == outcome
        with pytest.raises(PublishRefused, match=r"nowhere"):
            await (await bus.ask("nowhere.a.seen", b"{}", "m-2"))


async def test_without_a_worker_the_outcome_is_not_known_and_the_event_goes_its_way(
    settings: Settings, broker: tuple[str, dict[str, str]], rows: asyncpg.Connection
) -> None:
    async with running(settings):
        pass  # it makes the streams and queues
    async with Publisher(broker[0], source="/test") as bus:
        event, sent = AgentHeartbeat(agent_id="a-1"), now()
        with pytest.raises(OutcomeUnknown, match=r"no receipt came in 0\.1 s.*not known yet"):
            await bus.publish(event, id="e-1", time=sent, receipt=True, timeout=0.1)
        waiting = await bus.publish_soon(event, id="e-2", receipt=True)
        async with running(settings):
            assert await waiting == Receipt("stored")
            again = await bus.publish(event, id="e-1", time=sent, receipt=True)
            assert again == Receipt("duplicate")
        assert await rows.fetchval("SELECT count(*) FROM agents.heartbeat") == 2
        gone = await bus.publish_soon(event, receipt=True)
    with pytest.raises(OutcomeUnknown, match="closed before the receipt"):
        await gone


async def test_a_timeout_holds_while_there_is_no_room_and_nothing_is_left_waiting(
    nats_url: str,
) -> None:
    event = AgentHeartbeat(agent_id="a-1")
    async with connected(nats_url) as silent:
        await silent.subscribe("agents.>")  # takes the event, and confirms nothing
        await silent.flush()
        async with Publisher(nats_url, source="/test", max_pending=1, drain_timeout=1) as bus:
            waiting = bus._outlet.receipts._waiting._waiting  # type: ignore[union-attr]
            first = await bus.publish_soon(event)
            async with asyncio.timeout(20):
                with pytest.raises(OutcomeUnknown, match=r"heartbeat': not sent, as for 0\.1 s"):
                    await bus.publish(event, receipt=True, timeout=0.1)
            await until(lambda: not waiting)
            asked = asyncio.create_task(bus.publish(event, receipt=True))
            await until(lambda: waiting)
            asked.cancel()
            await asyncio.wait([asked])
            await until(lambda: not waiting)
            first.cancel()
            second = await bus.publish_soon(event, receipt=True)
            second.cancel()  # before it has begun to wait
            await asyncio.wait([second])
            await until(lambda: not waiting)
            await bus._stack.aclose()  # nobody confirms the second


async def test_hostile_addresses_harm_nothing_on_nats(
    nats_url: str, database: str, rows: asyncpg.Connection
) -> None:
    heard: list[Msg] = []

    async def hear(message: Msg) -> None:
        if message.data.startswith(b'{"outcome"'):
            heard.append(message)

    addresses = ["$JS.API.STREAM.PURGE.AGENT_STATE", "$SYS.REQ.SERVER.PING", "agents.x.heartbeat"]
    addresses += ["_INBOX.>", "_INBOX.*", "$KV.AGENT_STATE.a.b", "tasks.a.deleted"]
    async with connected(nats_url) as client, running(settings_for(nats_url, database)) as worker:
        await client.subscribe(">", cb=hear)
        for address in addresses:
            await send(client, address)
        await send(client, "_INBOX.fine.1")
        await until(lambda: heard)
        # Another batch may still be on its way: batches are written side by side.
        sent = len(addresses) + 1
        await until(lambda: stored(rows, sent))
        assert [message.subject for message in heard] == ["_INBOX.fine.1"]
        assert await rows.fetchval("SELECT count(*) FROM bus.dead_letter") == 0
        assert all(source.healthy for _, source, _ in worker.watched)
        await until(lambda: count(worker, "stored") == 1)


def count(worker: Any, outcome: str) -> float | None:
    labels = {"source": "AGENT_STATE", "outcome": outcome}
    found: float | None = worker._metrics.registry.get_sample_value(
        "penstock_receipts_total", labels
    )
    return found


async def send(client: Client, address: str) -> None:
    subject, payload, _ = raw()
    await client.jetstream().publish(subject, payload, headers={"Penstock-Receipt": address})


async def test_hostile_addresses_harm_nothing_on_rabbitmq(
    rabbit_url: str, nats_url: str, database: str, rows: asyncpg.Connection
) -> None:
    """A server may end the connection over an address that it cannot read: that of answers."""
    own = settings_for(nats_url, database, brokers="rabbitmq", rabbitmq_url=rabbit_url, kv="false")
    prefix = "amq.rabbitmq.reply-to."
    addresses = ["AGENT_STATE", "penstock.dead", f"{prefix}a", f"{prefix}AAAA.AAAA"]
    addresses += [f"{prefix}g2gCYQFhAg==.AAAA", f"{prefix}not-base64.x", f"{prefix}////.////"]
    async with running(own) as worker, Publisher(rabbit_url, source="/test") as bus:
        generations = [source._generation for _, source, _ in worker.watched]  # type: ignore[attr-defined]
        for address in addresses:
            async with aiormq.connect(rabbit_url) as connection:
                channel = await connection.channel()
                properties = Basic.Properties(reply_to=address, correlation_id="1")
                subject, payload, _ = raw()
                await channel.basic_publish(
                    payload, exchange="events", routing_key=subject, properties=properties
                )
        sent = len(addresses)
        await until(lambda: stored(rows, sent))

        async def answered() -> bool:
            try:
                await bus.publish(AgentHeartbeat(agent_id="a-1"), receipt=True, timeout=1)
            except OutcomeUnknown:
                return False
            return True

        await until(answered)
        assert [source._generation for _, source, _ in worker.watched] == generations  # type: ignore[attr-defined]
        assert await rows.fetchval("SELECT count(*) FROM bus.dead_letter") == 0


async def stored(rows: asyncpg.Connection, least: int) -> bool:
    return bool(await rows.fetchval("SELECT count(*) >= $1 FROM agents.heartbeat", least))


async def test_a_worker_that_may_not_answer_stores_all_the_same(
    database: str, rows: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    without = users().replace('"_INBOX.>"', '"none"', 1)
    async with provisioned(without) as server:
        await check_without_the_right(server, database, rows)
    assert "nats_permission_denied" in caplog.text


async def check_without_the_right(
    server: EmbeddedNats, database: str, rows: asyncpg.Connection
) -> None:
    own = NatsOptions(url=server.url, user="penstock_operator", password=PASSWORD)
    settings = worker_on(server, database)
    async with running(settings) as worker, Publisher(own, source="/test") as bus:
        asked = [
            await bus.publish_soon(AgentHeartbeat(agent_id="a-1"), receipt=True, timeout=1)
            for _ in range(20)
        ]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {OutcomeUnknown}
        await until(lambda: stored(rows, 20))
        with pytest.raises(OutcomeUnknown):
            await bus.publish(AgentHeartbeat(agent_id="a-1"), receipt=True, timeout=1)
        assert count(worker, "unsent"), "not tried again at once, which would fill the log"


async def test_an_inbox_that_a_stream_keeps_is_refused_at_start(
    nats_url: str, database: str
) -> None:
    wrong = settings_for(nats_url, database, nats_inboxes="_INBOX,tasks.answers")
    with pytest.raises(SettingsError, match=r"nats_inboxes = 'tasks\.answers': a stream keeps"):
        async with running(wrong):
            raise AssertionError
