"""Reads over the bus: an agent needs no database, and no rights beyond a subject."""

import asyncio
import json
from collections.abc import AsyncIterator

import asyncpg
import msgspec
import pytest

from penstock import Asked, Publisher, ReadRefused, ReadUnavailable, StateMissing
from penstock.schemas.agents import AgentCheckpointed, AgentStateDeleted, AgentStateSet
from penstock.schemas.checkpoints import Value, snapshots
from penstock.schemas.identity import escape
from penstock.worker.errors import SinkUnavailable
from penstock.worker.nats.options import NatsOptions
from penstock.worker.nats.service import serving as nats_service
from penstock.worker.postgres.pages import place
from penstock.worker.rabbitmq.options import RabbitOptions
from penstock.worker.rabbitmq.service import serving as rabbit_service
from tests.integration.nats.test_users import PASSWORD, provisioned, said, users, worker_on
from tests.integration.publisher.test_rabbitmq import provision
from tests.support.connecting import connected
from tests.support.running import running, settings_for
from tests.support.waiting import until

AGENT = "a 7*"
PATIENT = {"reads_timeout": "30s", "lock_timeout": "30s"}
CHECKPOINT = "0190a6a0-0000-7000-8000-000000000007"


def put(key: str, value: object) -> AgentStateSet:
    return AgentStateSet(agent_id=AGENT, state_key=key, value=value)


@pytest.fixture
async def bus(nats_url: str, database: str) -> AsyncIterator[Publisher]:
    settings = settings_for(nats_url, database, **PATIENT)
    async with running(settings), Publisher(nats_url, source="/test") as bus:
        yield bus


@pytest.fixture
async def rabbit_bus(rabbit_url: str, nats_url: str, database: str) -> AsyncIterator[Publisher]:
    over = {"brokers": "rabbitmq", "rabbitmq_url": rabbit_url, "kv": "false", **PATIENT}
    settings = settings_for(nats_url, database, **over)
    async with running(settings), Publisher(rabbit_url, source="/test") as bus:
        yield bus


async def test_the_same_on_rabbitmq(rabbit_bus: Publisher) -> None:
    await check_reads(rabbit_bus)
    with pytest.raises(ReadRefused, match="no read is called 'nothing'"):
        await rabbit_bus.read.page("nothing", AGENT, Asked())


async def test_large_answers_on_rabbitmq(rabbit_bus: Publisher) -> None:
    for number in range(3):
        await rabbit_bus.publish(put(f"k{number}", "x" * 900_000), sequence=1, receipt=True)
    assert [len(one.value) async for one in rabbit_bus.read.states(AGENT)] == [900_000] * 3


async def test_nobody_answers_on_rabbitmq_without_a_worker(rabbit_url: str) -> None:
    async with Publisher(rabbit_url, source="/test") as bus:
        with pytest.raises(ReadUnavailable):
            await bus.read.state(AGENT, "k")


async def test_state_history_and_checkpoints(bus: Publisher) -> None:
    await check_reads(bus)


async def check_reads(bus: Publisher) -> None:
    for number in range(1, 8):
        await bus.publish(put(f"k{number}", {"n": number}), sequence=1, receipt=True)
    await bus.publish(put("k1", 1.50), sequence=2, receipt=True)
    gone = AgentStateDeleted(agent_id=AGENT, state_key="k2")
    await bus.publish(gone, sequence=2, receipt=True)
    [part] = snapshots({"k1": Value(version=2, value=msgspec.Raw(b"[1]"))}, 1000)
    saved = AgentCheckpointed(
        agent_id=AGENT,
        checkpoint_id=CHECKPOINT,
        name="mine",
        snapshot=msgspec.json.decode(msgspec.json.encode(part)),
    )
    await bus.publish(saved, receipt=True)

    found = await bus.read.state(AGENT, "k1")
    assert (found.key, found.version, found.value) == ("k1", 2, 1.5)
    with pytest.raises(StateMissing):
        await bus.read.state(AGENT, "k2")
    assert [one.key async for one in bus.read.states(AGENT)] == ["k1", "k3", "k4", "k5", "k6", "k7"]
    history = [one async for one in bus.read.history(AGENT)]
    assert [(one.key, one.version) for one in history[:3]] == [("k2", 2), ("k1", 2), ("k7", 1)]
    assert history[0].type == "agents.state_deleted"
    assert [one.value async for one in bus.read.history(AGENT, "k1")] == [1.5, {"n": 1}]
    [checkpoint] = [one async for one in bus.read.checkpoints(AGENT)]
    assert (checkpoint.checkpoint_id, checkpoint.name) == (CHECKPOINT, "mine")
    [kept] = [one async for one in bus.read.checkpoint(AGENT, "mine")]
    assert (kept.key, kept.version, kept.value) == ("k1", 2, [1])
    await check_pages(bus)


async def check_pages(bus: Publisher) -> None:
    for read, count in (("state", 6), ("history", 9)):
        seen: list[msgspec.Raw] = []
        after = None
        while True:
            page = await bus.read.page(read, AGENT, Asked(limit=2, after=after))
            seen += page.items
            if (after := page.next) is None:
                break
        assert len(seen) == len(set(map(bytes, seen))) == count
    for asked in (Asked(limit=0), Asked(limit=501), Asked(key="\0"), Asked(after="x|y")):
        with pytest.raises(ReadRefused) as refused:
            await bus.read.page("history", AGENT, asked)
        assert refused.value.code == 400
    with pytest.raises(ReadRefused, match="no checkpoint 'other'"):
        await bus.read.page("checkpoint", AGENT, Asked(key="other"))


async def test_what_does_not_fit_into_a_message_comes_in_parts(bus: Publisher) -> None:
    for number in range(3):
        await bus.publish(put(f"k{number}", "x" * 900_000), sequence=1, receipt=True)
    first = await bus.read.page("state", AGENT, Asked())
    assert (len(first.items), first.next) == (2, "k1")
    assert [len(one.value) async for one in bus.read.states(AGENT)] == [900_000] * 3


async def test_any_client_asks_and_finds_the_service(bus: Publisher, nats_url: str) -> None:
    await bus.publish(put("k", 1), sequence=1, receipt=True)
    async with connected(nats_url) as client:
        subject = f"penstock.read.state.{escape(AGENT)}"
        answer = json.loads((await client.request(subject, b'{"key": "k"}')).data)
        assert [item["val"] for item in answer["items"]] == [1]
        assert len(json.loads((await client.request(subject)).data)["items"]) == 1
        wrong = await client.request(subject, b"[")
        assert (wrong.headers or {})["Nats-Service-Error-Code"] == "400"
        told = json.loads((await client.request("$SRV.INFO.penstock-reads")).data)
        assert {one["name"] for one in told["endpoints"]} >= {"state", "history", "checkpoints"}
        stats = json.loads((await client.request("$SRV.STATS.penstock-reads")).data)
        state = next(one for one in stats["endpoints"] if one["name"] == "state")
        assert (state["num_requests"], state["num_errors"]) == (3, 1)


async def test_nobody_answers_when_it_is_off(nats_url: str, database: str) -> None:
    off = settings_for(nats_url, database, reads="false")
    async with running(off), Publisher(nats_url, source="/test") as bus:
        with pytest.raises(ReadUnavailable, match="no worker answers reads"):
            await bus.read.state(AGENT, "k")


@pytest.fixture(params=["bus", "rabbit_bus"])
def either(request: pytest.FixtureRequest) -> Publisher:
    found: Publisher = request.getfixturevalue(request.param)
    return found


async def test_as_many_reads_go_at_once_as_there_are_connections(
    either: Publisher, database: str
) -> None:
    rows, locking = await asyncpg.connect(database), await asyncpg.connect(database)
    count = """
        SELECT count(*), count(*) FILTER (WHERE wait_event_type = 'Lock') FROM pg_stat_activity
        WHERE application_name LIKE '% reads' AND datname = current_database()
    """

    async def found() -> tuple[int, int]:
        [(connections, waiting)] = await rows.fetch(count)
        return connections, waiting

    assert await found() == (0, 0)
    locked = locking.transaction()  # a transaction would see pg_stat_activity as it was at first
    await locked.start()
    await locking.execute("LOCK TABLE agents.state IN ACCESS EXCLUSIVE MODE")
    asked = [asyncio.create_task(either.read.page("state", f"a-{n}", Asked())) for n in range(10)]

    async def four_wait() -> bool:
        return await found() == (4, 4)

    await until(four_wait)
    await locked.rollback()
    assert [page.items for page in await asyncio.gather(*asked)] == [[]] * 10
    assert await found() == (4, 0)
    await rows.close()
    await locking.close()


async def test_what_is_refused_leaves_room_for_others(either: Publisher) -> None:
    """More of them than there are connections."""
    far = place("2026-11-27T00:00:00+00:00", CHECKPOINT, 99_999_999_999)
    wrong = [
        ("conversation", Asked(after=far)),
        ("conversation", Asked(after=place("0001-01-01T00:00:00+14:00", CHECKPOINT, 1))),
        ("checkpoints", Asked(after="9" * 5000)),
        ("checkpoints", Asked(after="x\ny")),
        ("threads", Asked(where={"namespace": 7})),
        ("threads", Asked(where={"metadata": {"k": "\0"}})),
        ("threads", Asked(where={"before": "\0"})),
        ("state", Asked(key="\ud83d")),
    ]
    asked = [either.read.page(name, AGENT, one) for name, one in wrong]
    for error in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(error, ReadRefused)
        assert error.code == 400
    assert (await either.read.page("state", AGENT, Asked())).items == []


class Broken:
    """Reads with a defect, one at once; those of some agents cannot be reached either."""

    names = ("state",)
    at_once = 1

    async def answer(self, name: str, agent: str, body: bytes) -> bytes:
        if agent == AGENT:
            raise SinkUnavailable("PostgreSQL is away:\r\nthe first, the second")
        raise ZeroDivisionError(name, body)


async def test_who_asks_is_told_of_defects_too(
    nats_url: str, rabbit_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    reads = Broken()
    await provision(rabbit_url)
    async with (
        connected(nats_url) as nc,
        nats_service(nc, reads),
        rabbit_service(RabbitOptions(url=rabbit_url), "reads", reads),
        Publisher(nats_url, source="/a") as first,
        Publisher(rabbit_url, source="/b") as second,
    ):
        for bus in (first, second):
            with pytest.raises(ReadUnavailable, match="ZeroDivisionError"):
                await bus.read.state("other", "k")
            with pytest.raises(ReadUnavailable, match=r"away:\s+the first"):
                await bus.read.state(AGENT, "k")
    assert caplog.text.count("read_failed") == 4


async def test_the_least_rights_are_enough(database: str) -> None:
    async with provisioned(users()) as server:
        settings = worker_on(server, database)
        assert await said(settings) == []
        agent = NatsOptions(url=server.url, user="penstock_agent", password=PASSWORD)
        async with running(settings), Publisher(agent, source="/test") as bus:
            await bus.publish(put("k", 1), sequence=1, receipt=True)
            assert (await bus.read.state(AGENT, "k")).value == 1
            assert (await bus.wait_for(AGENT, "k", version=1)).value == 1
